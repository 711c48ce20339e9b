"""The control loop in simulation: corrupted models fall to the floor, guards fire when they must and seldom else."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from learning.routing.guards import Latency
from learning.routing.policy import Duel, Guards, Policy, Ramp, Rerank
from learning.routing.sequential import Pairs, advantage_e_value, rate_e_value
from pipelines.routing import RouteMember
from tests.unit.learning.simulated_routes import World

A, B = RouteMember("a", 1, weight=0.5), RouteMember("b", 1, weight=0.5)
RERANK = Policy(rerank=Rerank())
SEEDS = range(40)


def corrupted_at(when: int, model: str = "b@1", before: float = 0.95, after: float = 0.45):
    return lambda name, window: after if name == model and window >= when else before


def test_a_model_corrupted_midway_reaches_the_floor_in_the_stated_number_of_windows_with_at_most_one_reversal() -> None:
    settings = RERANK.rerank
    assert settings is not None
    # From 0.5 to the floor in bounded steps; and two windows, until the pooled accuracy is worse beyond chance.
    stated = math.ceil((0.5 - settings.floor) / settings.step) + 2
    for seed in SEEDS:
        world = World(seed, RERANK, (A, B), corrupted_at(10))
        shares = []
        for _ in range(10 + stated):
            world.pass_window()
            shares.append(world.shares()["b@1"])
        assert shares[-1] == pytest.approx(settings.floor, abs=1e-6), f"seed {seed}: {shares}"
        moves = [move for move in np.diff([0.5, *shares]) if abs(move) > 1e-9]
        reversals = sum(first * second < 0 for first, second in itertools.pairwise(moves))
        assert reversals <= 1, f"seed {seed}: {shares}"
        assert max(abs(move) for move in moves) <= settings.step + 1e-5


def test_equal_models_keep_their_weights() -> None:
    moved = 0
    for seed in SEEDS:
        world = World(seed, RERANK, (A, B), lambda _name, _window: 0.9)
        for _ in range(30):
            moved += world.pass_window() is not None
    assert moved <= 0.02 * 30 * len(SEEDS), "noise moves the weights"


def test_a_model_that_recovers_gets_its_share_back() -> None:
    world = World(1, RERANK, (A, B), lambda name, window: 0.45 if name == "b@1" and 5 <= window < 15 else 0.95)
    shares = []
    for _ in range(32):
        world.pass_window()
        shares.append(round(world.shares()["b@1"], 3))
    assert min(shares) == 0.05
    assert shares[-1] == pytest.approx(0.5, abs=0.02), shares


def test_a_member_with_too_few_labels_keeps_its_share() -> None:
    world = World(2, RERANK, (A, B), corrupted_at(0), labelled=0.0)
    assert [world.pass_window() for _ in range(5)] == [None] * 5


def test_rollback_fires_for_a_version_that_the_last_change_brought() -> None:
    policy = Policy(guards=Guards())
    took = []
    for seed in SEEDS:
        world = World(seed, policy, (A,), lambda name, _window: 0.45 if name == "a@2" else 0.95, strategy="blue_green")
        for _ in range(5):
            assert world.pass_window() is None
        world.set_route("blue_green", (RouteMember("a", 2),), "cli")
        for windows in range(1, 6):
            decision = world.pass_window()
            if decision is not None:
                took.append(windows)
                assert decision.by == "guard"
                assert "rolled back to epoch 1" in decision.reason
                assert [member.name for member in world.current.serving] == ["a@1"]
                break
        else:
            pytest.fail(f"seed {seed}: nothing fired")
    assert max(took) <= 2
    assert all(world.pass_window() is None for _ in range(5)), "what was rolled back to stays"


def test_a_member_that_fails_on_rows_is_taken_out_when_no_change_brought_it() -> None:
    world = World(
        3, Policy(guards=Guards()), (A, B), lambda *_: 0.9, error_rate=lambda name, w: 0.2 if name == "b@1" and w >= 6 else 0.0
    )
    fired = [world.pass_window() for _ in range(9)]
    assert fired[:6] == [None] * 6
    decision = next(each for each in fired if each is not None)
    assert decision.reason.startswith("taken out: b@1 failed on")
    assert [member.name for member in world.current.serving] == ["a@1"]


def test_where_nobody_else_serves_the_guard_warns_and_changes_nothing() -> None:
    world = World(4, Policy(guards=Guards()), (A,), lambda *_: 0.9, error_rate=lambda *_: 0.5)
    decision = world.pass_window()
    assert decision is not None
    assert decision.members == ()
    assert "nobody else serves" in decision.reason
    assert len(world.history) == 1


def test_a_slow_model_is_rolled_back_by_its_latency() -> None:
    latencies = {"a@1": Latency(500, 2.0), "a@2": Latency(500, 40.0)}
    world = World(5, Policy(guards=Guards()), (A,), lambda *_: 0.9, strategy="blue_green", latencies=latencies)
    world.set_route("blue_green", (RouteMember("a", 2),), "cli")
    decision = world.pass_window()
    assert decision is not None
    assert "p99 of 40.0 ms" in decision.reason
    assert [member.name for member in world.current.serving] == ["a@1"]


def test_guards_seldom_fire_on_models_that_are_equal() -> None:
    fired = 0
    for seed in SEEDS:
        world = World(seed, Policy(guards=Guards()), (A, B), lambda *_: 0.9, error_rate=lambda *_: 0.01)
        fired += any(world.pass_window() is not None for _ in range(30))
    # 1,200 looks at alpha = 0.001: one or two may fire.
    assert fired <= 3


CANARY = (RouteMember("a", 1), RouteMember("c", 1, "challenger", 1.0, 0.1))


def test_a_good_canary_grows_step_by_step_and_takes_over() -> None:
    policy = Policy(guards=Guards(), ramp=Ramp(model="c@1", least_answers=50))
    world = World(6, policy, CANARY, lambda *_: 0.9, strategy="canary", rows_a_window=200)
    fractions = []
    for _ in range(12):
        world.pass_window()
        fractions.append(next((m.fraction for m in world.current.members if m.name == "c@1"), None))
    steps = [fraction for i, fraction in enumerate(fractions) if i == 0 or fraction != fractions[i - 1]]
    assert steps == [0.1, 0.25, 0.5, 1.0, None]
    assert (world.current.strategy, [m.name for m in world.current.serving]) == ("blue_green", ["c@1"])


def test_a_bad_canary_is_rolled_back_before_it_serves_half() -> None:
    policy = Policy(guards=Guards(), ramp=Ramp(model="c@1", least_answers=50))
    for seed in SEEDS:
        world = World(seed, policy, CANARY, lambda name, _: 0.4 if name == "c@1" else 0.9, strategy="canary", rows_a_window=300)
        world.history.insert(0, route_before(world))
        for _ in range(12):
            world.pass_window()
        served = [next((m.fraction or 0 for m in state.members if m.name == "c@1"), 0) for state in world.history]
        assert max(served) <= 0.25, f"seed {seed}"
        assert [m.name for m in world.current.serving] == ["a@1"]


def route_before(world: World):
    """The route before the canary."""
    return replace(world.current, epoch=0, strategy="blue_green", members=(CANARY[0],))


SHADOWED = (RouteMember("a", 1), RouteMember("c", 1, "shadow", 0.0, 1.0))


def test_an_equal_challenger_seldom_takes_over_however_often_one_looks() -> None:
    policy = Policy(duel=Duel(least_advantage=0.0, alpha=0.05))
    took_over = 0
    for seed in range(120):
        world = World(seed, policy, SHADOWED, lambda *_: 0.85, strategy="blue_green", rows_a_window=50)
        took_over += any(world.pass_window() is not None for _ in range(40))
    # At most 5 % of 120 runs are 6; three standard deviations are 7.
    assert took_over <= 13


def test_a_better_challenger_takes_over_and_a_slightly_better_one_does_not() -> None:
    policy = Policy(duel=Duel(least_advantage=0.02, alpha=0.05))
    better = World(7, policy, SHADOWED, lambda name, _: 0.95 if name == "c@1" else 0.85, strategy="blue_green")
    assert any(better.pass_window() is not None for _ in range(30))
    assert [m.name for m in better.current.serving] == ["c@1"]
    slightly = World(8, policy, SHADOWED, lambda name, _: 0.86 if name == "c@1" else 0.85, strategy="blue_green")
    assert not any(slightly.pass_window() is not None for _ in range(60))


def test_a_duel_that_is_won_begins_a_canary_where_there_is_a_ramp() -> None:
    policy = Policy(duel=Duel(), ramp=Ramp(model="c@1", least_answers=50))
    world = World(9, policy, SHADOWED, lambda name, _: 0.95 if name == "c@1" else 0.8, strategy="blue_green")
    while world.current.strategy != "canary":
        world.pass_window()
        assert world.window < 30
    assert [(m.name, m.role, m.fraction) for m in world.current.members] == [
        ("a@1", "champion", None), ("c@1", "challenger", 0.1),
    ]  # fmt: skip


def test_e_values_are_valid_under_peeking() -> None:
    """Under the null the e-value ever exceeds 1 / alpha in at most alpha of the runs, looked at after every row."""
    lot = np.random.default_rng(0)
    exceeded = {"advantage": 0, "rate": 0}
    runs, rows = 400, 300
    for _ in range(runs):
        outcomes = lot.choice([1, -1, 0], size=rows, p=[0.16, 0.14, 0.7])  # an advantage of exactly 0.02
        counts = np.array([np.cumsum(outcomes == each) for each in (1, -1, 0)]).T.tolist()
        exceeded["advantage"] += any(advantage_e_value(Pairs(*each), 0.02) >= 10 for each in counts)
        events = np.cumsum(lot.random(rows) < 0.1).tolist()
        exceeded["rate"] += any(rate_e_value(each, i + 1, 0.1) >= 10 for i, each in enumerate(events))
    # alpha = 0.1: 40 of 400, and three standard deviations of 6.
    assert max(exceeded.values()) <= 58
    assert min(exceeded.values()) >= 1, "a test that never exceeds has no power"
