"""Who is asked for which key."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from udfs.route import RowError, parse_route
from udfs.router import asked_members, shadowed_keys

KEYS = pa.array([f"entity-{i}" for i in range(20_000)])

GOLDEN = {"pump-01": False, "pump-02": True, "pump-03": False, "pump-04": False, "": True}


def shares(route_json: str, available: frozenset[int] | None = None) -> np.ndarray:
    route = parse_route(route_json)
    assert not isinstance(route, RowError), route
    return asked_members(route, frozenset(range(len(route.members))) if available is None else available, KEYS)


def test_choice_asks_exactly_one_member_in_proportion_to_the_weights(make_route):
    asked = shares(
        make_route(("m", 1, "champion", 6.0), ("m", 2, "champion", 3.0), ("m", 3, "champion", 1.0), strategy="choice")
    )
    assert (asked.sum(axis=1) == 1).all()
    # 20,000 draws: one standard deviation of a share is at most 0.0035.
    assert asked.mean(axis=0) == pytest.approx([0.6, 0.3, 0.1], abs=0.015)


def test_a_changed_weight_moves_keys_only_towards_it(make_route):
    before = shares(
        make_route(("m", 1, "champion", 1.0), ("m", 2, "champion", 1.0), ("m", 3, "champion", 1.0), strategy="choice")
    )
    after = shares(
        make_route(("m", 1, "champion", 1.0), ("m", 2, "champion", 2.0), ("m", 3, "champion", 1.0), strategy="choice")
    )
    moved = (before != after).any(axis=1)
    assert 0.1 < moved.mean() < 0.25
    assert after[moved, 1].all()


def test_keys_of_a_member_that_cannot_be_loaded_go_to_the_others_and_no_other_key_moves(make_route):
    route = make_route(("m", 1, "champion", 1.0), ("m", 2, "champion", 1.0), ("m", 3, "champion", 1.0), strategy="choice")
    before, after = shares(route), shares(route, frozenset({0, 2}))
    assert not after[:, 1].any()
    kept = ~before[:, 1]
    assert (before[kept] == after[kept]).all()


def test_a_canary_grows_around_the_keys_that_it_has(make_route):
    inside = None
    for fraction in (0.1, 0.25, 0.5, 1.0):
        asked = shares(make_route(("old", 1, "champion", 1.0), ("new", 1, "challenger", 1.0), strategy="canary", new=fraction))
        assert (asked.sum(axis=1) == 1).all()
        assert asked[:, 1].mean() == pytest.approx(fraction, abs=0.015)
        if inside is not None:
            assert asked[inside, 1].all()
        inside = asked[:, 1]


def test_a_canary_that_cannot_be_loaded_leaves_its_keys_to_the_champion(make_route):
    route = make_route(("old", 1, "champion", 1.0), ("new", 1, "challenger", 1.0), strategy="canary", new=0.5)
    assert shares(route, frozenset({0})).all(axis=0).tolist() == [True, False]


def test_a_shadow_gets_its_fraction_and_does_not_move_the_primary(make_route):
    members = (("m", 1, "champion", 1.0), ("m", 2, "champion", 1.0))
    text = make_route(*members, ("s", 1, "shadow", 0.0), strategy="choice", s=0.2)
    with_shadow, without = shares(text), shares(make_route(*members, strategy="choice"))
    assert (with_shadow[:, :2] == without).all()
    assert not with_shadow[:, 2].any()
    route = parse_route(text)
    assert not isinstance(route, RowError)
    inside = shadowed_keys(route.members[2], KEYS)
    assert inside.mean() == pytest.approx(0.2, abs=0.015)
    more = parse_route(make_route(*members, ("s", 1, "shadow", 0.0), strategy="choice", s=0.5))
    assert not isinstance(more, RowError)
    assert shadowed_keys(more.members[2], KEYS)[inside].all(), "a shadow grows around the keys that it has"


def test_the_choice_of_a_key_is_the_same_on_every_machine(make_route):
    route = parse_route(make_route(("m", 1, "champion", 1.0), ("m", 2, "champion", 1.0), strategy="choice"))
    asked = asked_members(route, frozenset({0, 1}), pa.array(["pump-01", "pump-02", "pump-03", "pump-04", "", None]))
    # Recorded once: a change of the hash would serve other models to the same entities.
    assert asked[:, 0].tolist() == [GOLDEN[key] for key in ("pump-01", "pump-02", "pump-03", "pump-04", "", "")]


@pytest.mark.parametrize(
    ("route", "code"),
    [
        ("[]", "invalid_route"),
        ('{"strategy": "ensemble_mean"}', "no_route"),
        ('{"strategy": "ensemble_mean", "members": []}', "no_route"),
        ('{"strategy": "roulette", "members": []}', "unknown_strategy"),
        ('{"strategy": "choice", "members": [{"model": "m", "version": "1", "weight": 1}]}', "invalid_route"),
        ('{"strategy": "choice", "members": [{"model": "m", "version": 1, "weight": -1}]}', "invalid_route"),
        ('{"strategy": "choice", "members": [{"model": "m", "version": 1, "weight": 0}]}', "no_route"),
        ('{"strategy": "choice", "members": [{"model": "m", "version": 1, "weight": 1, "role": "king"}]}', "invalid_route"),
        (
            '{"strategy": "canary", "members": [{"model": "m", "version": 1, "weight": 1, "role": "challenger"}]}',
            "invalid_route",
        ),
        (
            '{"strategy": "blue_green", "members": [{"model": "m", "version": 1, "weight": 1}, {"model": "m", "version": 2, "weight": 1}]}',
            "invalid_route",
        ),
    ],
)
def test_a_route_that_cannot_be_followed_says_why(route, code):
    answer = parse_route(route)
    assert isinstance(answer, RowError)
    assert answer.code == code
    assert answer.message
