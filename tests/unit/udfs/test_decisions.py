"""A logged decision replays from the route, the key and what could not be loaded, and from nothing else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from udfs.decisions import Decision, parse_members, replay
from udfs.predict import predict

KEYS = [f"entity-{i}" for i in range(200)]
FEATURES = np.random.default_rng(3).normal(size=(200, 3)).tolist()


def logged(sessions, route: str, epoch: int) -> list[Decision]:
    told = predict(pa.array([route] * 200), pa.array(KEYS), pa.array(FEATURES, pa.list_(pa.float64())), sessions)
    return [
        Decision(f"{epoch}/{key}", epoch, key, parse_members(members))
        for key, members in zip(KEYS, told.field("members").to_pylist(), strict=True)
    ]


@pytest.mark.parametrize("strategy", ["ensemble_mean", "ensemble_vote", "choice"])
@pytest.mark.parametrize("third", ["sick", "nowhere", "pickled"])
def test_what_was_decided_is_decided_again_also_where_a_member_could_not_be_loaded(
    sessions, make_route, strategy, third
) -> None:
    members = [("sick", 1, "champion", 0.2), (third, 1 if third != "sick" else 2, "champion", 0.8)]
    route = make_route(*members, strategy=strategy)
    decisions = logged(sessions, route, 4)
    assert replay(decisions, {4: route}) == []
    if strategy == "choice" and third == "sick":
        assert len({str(each.members) for each in decisions}) > 1


def test_another_route_or_none_is_told_row_by_row(sessions, make_route) -> None:
    route = make_route(("sick", 1, "champion", 1.0), ("sick", 2, "champion", 1.0), strategy="choice")
    other = make_route(("sick", 1, "champion", 1.0), ("sick", 2, "champion", 3.0), strategy="choice")
    decisions = logged(sessions, route, 1)
    found = replay(decisions, {1: other})
    assert 20 < len(found) < 80, "a quarter of the keys would go to the other one"
    assert {(each.logged, each.replayed) for each in found} == {((("sick@1", 1.0),), (("sick@2", 1.0),))}
    unknown = replay(decisions, {2: route})
    assert len(unknown) == 200
    assert "no route of this epoch" in unknown[0].reason


def test_another_key_is_another_decision(sessions, make_route) -> None:
    route = make_route(("sick", 1, "champion", 1.0), ("sick", 2, "challenger", 1.0), strategy="canary", sick=0.5)
    moved = [Decision(each.prediction_id, 1, f"other-{each.key}", each.members) for each in logged(sessions, route, 1)]
    assert 50 < len(replay(moved, {1: route})) < 150


def test_rows_that_were_refused_before_anybody_was_asked_are_no_decisions(make_route) -> None:
    assert replay([Decision("p", 1, "k", parse_members(None))], {1: make_route(("sick", 1, "champion", 1.0))}) == []
