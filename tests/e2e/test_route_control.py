"""The control loop through engine, UDF server and topics: a corrupted version falls to the floor, guards fire, shadows are scored."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core.clock import SystemClock
from learning.routing.changes import write_route
from learning.routing.loop import look
from learning.routing.policy import Duel, Guards, Policy, Ramp, Rerank, write_policy
from pipelines.routing import RouteMember, RouteState, must_read_current, read_history
from tests.e2e.trial import ENDPOINT, START, Artifacts, Trial, linear, running_trial
from udfs.shadow_topic import ShadowTopic
from udfs.shadows import ShadowLane, ShadowPlan

pytestmark = pytest.mark.xdist_group("processes")

GOOD, CORRUPTED = linear(6.0), linear(-6.0)
ROWS = 120  # a window


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    artifacts = Artifacts({("a", 1): GOOD, ("b", 1): linear(5.0), ("b", 2): CORRUPTED, ("weak", 1): linear(0.4, 0.3)})
    lanes: list[ShadowLane] = []

    def lane(kafka: str) -> ShadowLane:
        lanes.append(ShadowLane(ShadowPlan(partial(Artifacts, dict(artifacts.stored)), partial(ShadowTopic, kafka))))
        return lanes[0]

    with running_trial(tmp_path_factory.mktemp("control"), artifacts, shadows=lane) as running:
        yield running
        lanes[0].close()


class Replay:
    """Windows of an hour for one tenant: features, predictions, then the labels of most, then a look."""

    def __init__(self, trial: Trial, tenant: str, policy: Policy | None, *, looks: bool = True) -> None:
        self.trial, self.tenant, self.window, self.looks = trial, tenant, 0, looks
        self.lot = np.random.default_rng(7)
        self.set_policy(policy)

    def set_policy(self, policy: Policy | None) -> None:
        write_policy(self.trial.connection, self.tenant, ENDPOINT, policy)

    def set_route(self, strategy: str, *members: RouteMember) -> RouteState:
        return write_route(self.trial.connection, self.tenant, ENDPOINT, strategy, members, changed_by="cli", reason="test")

    def pass_window(self) -> RouteState:
        a = self.lot.normal(size=ROWS)
        sick = self.lot.random(ROWS) < 1 / (1 + np.exp(-6 * a))
        at = START + timedelta(hours=self.window)
        features = [(float(x), 0.0) for x in a]
        self.trial.send(self.tenant, features, at=at, every=timedelta(seconds=1))
        rows = self.trial.query(
            "SELECT entity_id, prediction_id FROM predictions"
            " WHERE tenant_id = %s AND feature_end >= %s AND entity_id <> 'closing'",
            self.tenant,
            at,
        )
        ids = dict(rows)
        assert len(ids) == ROWS
        told = self.lot.random(ROWS) < 0.8
        labels = [(self.tenant, ids[f"entity-{i}"], "sick" if sick[i] else "healthy") for i in range(ROWS) if told[i]]
        self.lot.shuffle(labels)
        self.trial.label([tuple(each) for each in labels])  # type: ignore[misc]  # numpy's shuffle keeps the rows
        # The next window begins: a row of it closes this one.
        self.window += 1
        closing = f"('{self.tenant}', 'closing', '{START + timedelta(hours=self.window)}', 0.5, 0.0)"
        self.trial.query_none(f"INSERT INTO trial_events VALUES {closing}")
        self.trial.sent += 1
        if self.looks:
            look(self.trial.connection, SystemClock())
        return self.current

    @property
    def current(self) -> RouteState:
        return must_read_current(self.trial.connection, self.tenant, ENDPOINT)

    def share(self, name: str) -> float:
        total = sum(each.weight for each in self.current.serving)
        return next((each.weight for each in self.current.serving if each.name == name), 0.0) / total


def test_a_version_that_is_corrupted_midway_falls_to_the_floor_and_then_rollback_fires(trial: Trial) -> None:
    rerank = Rerank()
    replay = Replay(trial, "corrupted", Policy(rerank=rerank))
    replay.set_route("ensemble_mean", RouteMember("a", 1, weight=0.5), RouteMember("b", 1, weight=0.5))
    for _ in range(3):
        replay.pass_window()
    assert replay.current.epoch == 1, "models that are as good as each other keep their weights"
    replay.set_route("ensemble_mean", RouteMember("a", 1, weight=0.5), RouteMember("b", 2, weight=0.5))
    stated = math.ceil((0.5 - rerank.floor) / rerank.step) + 2
    shares = [0.5]
    for _ in range(stated):
        replay.pass_window()
        shares.append(replay.share("b@2"))
    assert shares[-1] == pytest.approx(rerank.floor, abs=1e-5), shares
    moves = [after - before for before, after in pairwise(shares) if abs(after - before) > 1e-6]
    assert sum(first * second < 0 for first, second in pairwise(moves)) <= 1, shares
    # Now the guards may act: they take what has been seen since the version serves.
    replay.set_policy(Policy(rerank=rerank, guards=Guards()))
    look(trial.connection, SystemClock())
    current = replay.current
    assert current.changed_by == "guard"
    assert current.reason is not None
    assert current.reason.startswith("rolled back to epoch 1: b@2 is right in")
    assert {each.name: each.weight for each in current.members} == {"a@1": 0.5, "b@1": 0.5}
    changed = read_history(trial.connection, "corrupted", ENDPOINT)
    assert [each.changed_by for each in changed][:2] == ["cli", "cli"]
    assert all(each.evidence for each in changed[2:]), "every automatic change says what it rests on"


def test_scores_of_models_follow_the_labels_and_say_what_is_missing(trial: Trial) -> None:
    replay = Replay(trial, "scored", None)
    replay.set_route("ensemble_mean", RouteMember("a", 1), RouteMember("weak", 1))
    replay.pass_window()
    rows = trial.query(
        "SELECT model, predictions, labelled, missing, accuracy, accuracy_low, accuracy_high, log_loss, brier"
        " FROM model_scores WHERE tenant_id = 'scored' AND hour_start = %s ORDER BY model", START
    )  # fmt: skip
    assert [(row[0], row[1], row[2] + row[3]) for row in rows] == [("a", ROWS, ROWS), ("weak", ROWS, ROWS)]
    # The same from the rows, by Python.
    joined = trial.query(
        "SELECT p.members -> 0 ->> 'value', l.label FROM predictions AS p JOIN labels AS l"
        " ON l.tenant_id = p.tenant_id AND l.prediction_id = p.prediction_id WHERE p.tenant_id = 'scored' AND p.feature_end < %s",
        START + timedelta(hours=1),
    )
    sick = np.array([label == "sick" for _, label in joined])
    value = np.array([float(value) for value, _ in joined])
    right = (value > 0.5) == sick
    own = np.where(sick, value, 1 - value)
    _, _, labelled, missing, accuracy, low, high, log_loss, brier = rows[0]
    assert labelled == len(joined)
    assert accuracy == pytest.approx(right.mean())
    assert (low, high) == (pytest.approx(right.sum() / ROWS), pytest.approx((right.sum() + missing) / ROWS))
    assert log_loss == pytest.approx(-np.log(own).mean())
    assert brier == pytest.approx(((value - sick) ** 2).mean())


def test_a_shadow_is_scored_aside_and_takes_over_by_a_duel_and_a_ramp(trial: Trial) -> None:
    policy = Policy(guards=Guards(), duel=Duel(), ramp=Ramp(model="a@1", steps=(0.5, 1.0), least_answers=20))
    replay = Replay(trial, "duelled", policy)
    replay.set_route("blue_green", RouteMember("weak", 1), RouteMember("a", 1, "shadow", 0.0, 1.0))
    seen = []
    for _ in range(10):
        state = replay.pass_window()
        (asked,) = trial.query(
            "SELECT count(*) FROM predictions AS p JOIN served_routes AS r ON r.tenant_id = p.tenant_id AND r.endpoint = p.endpoint"
            " AND r.route_epoch = p.route_epoch WHERE p.tenant_id = 'duelled' AND r.route::VARCHAR LIKE '%shadow%'"
        )
        told = "SELECT count(*) FROM member_outcomes WHERE tenant_id = 'duelled' AND role = 'shadow'"
        trial.wait_for(told, asked[0])
        seen.append((state.strategy, state.changed_by))
        if state.strategy == "blue_green" and state.changed_by == "ramp":
            break
    shadow = trial.query(
        "SELECT predictions, missing < predictions FROM model_scores WHERE tenant_id = 'duelled' AND model = 'a' AND hour_start = %s",
        START,
    )
    assert shadow[0] == (ROWS, True), "a shadow is scored like the others"
    assert list(dict.fromkeys(seen)) == [("blue_green", "cli"), ("canary", "duel"), ("canary", "ramp"), ("blue_green", "ramp")]
    assert [each.name for each in replay.current.serving] == ["a@1"]


def test_the_watching_process_rolls_back_by_itself_after_it_was_killed_once_and_ends_on_sigterm(trial: Trial) -> None:
    def watching() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "headrace", "--log-level", "error", "routes", "watch", "--every", "0.2", "--json"]
        told = {"PATH": os.environ["PATH"], "HEADRACE_DATABASE_URL": trial.url, "HEADRACE_UDF_URL": trial.udf_url}
        return subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True)

    replay = Replay(trial, "watched", Policy(guards=Guards()), looks=False)
    replay.set_route("blue_green", RouteMember("a", 1))
    with watching() as first:
        replay.pass_window()
        first.kill()
    replay.set_route("blue_green", RouteMember("b", 2))
    with watching() as second:
        for _ in range(3):
            replay.pass_window()
        trial.wait_for("SELECT max(epoch) FROM route_changes WHERE tenant_id = 'watched'", 3)
        second.terminate()
        told, _ = second.communicate(timeout=30)
    assert second.returncode == 0
    assert '"by": "guard"' in told
    assert [each.name for each in replay.current.serving] == ["a@1"]


def test_the_log_of_all_this_replays(trial: Trial) -> None:
    from core.settings import Settings
    from headrace.decision_log import replay_decisions

    found = replay_decisions(trial.connection, Settings(data_dir=Path(trial.data_dir)), None, None, from_lake=False)
    assert sum(each["decisions"] for each in found) == trial.sent
    assert sum(each["different"] for each in found) == 0
