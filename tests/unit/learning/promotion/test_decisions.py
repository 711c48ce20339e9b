"""Promotions, rollbacks and deletions: what they change, what they record, and what happens when two come at once or one dies."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConflictError, CorruptDataError, InvalidInputError, NotFoundError
from core.fakes.clock import ManualClock
from core.settings import Settings
from iceberg.registry import ModelVersion
from iceberg.stages import entered_stage, stages_of
from learning.promotion import decisions
from learning.promotion.lifecycle import Lifecycle

add_type = Callable[..., ModelVersion]
policy_type = Callable[[dict[str, Any]], Lifecycle]

OPEN = {
    "staging": {"unguarded": True, "aliases": ["challenger"]},
    "production": {"unguarded": True, "exclusive": True, "aliases": ["champion", "production"]},
    "archived": {"unguarded": True},
}


def test_a_version_goes_through_staging_into_production(lifecycle: Lifecycle, add: add_type, clock: ManualClock) -> None:
    add()
    early = lifecycle.promote("pump", 1, "production", actor="eve")
    assert not early.decision.granted
    failed = {check.check for check in early.decision.checks if not check.ok}
    assert failed == {"from_stage", "time_in_stage"}
    staged = lifecycle.promote("pump", 1, "staging", actor="eve", reason="first try")
    assert staged.decision.granted
    assert lifecycle.registry.get_alias("pump", "challenger") == 1
    clock.advance(timedelta(hours=24))
    promoted = lifecycle.promote("pump", 1, "production", actor="eve")
    assert promoted.decision.granted, [check.reason for check in promoted.decision.checks if not check.ok]
    assert lifecycle.registry.get_alias("pump", "champion") == 1
    assert lifecycle.registry.get_alias("pump", "challenger") is None
    history = lifecycle.stages.history("pump")
    assert [(each.to_stage, each.granted) for each in history] == [
        ("production", False),
        ("staging", True),
        ("production", True),
    ]
    record = history[-1]
    assert {check["check"] for check in record.checks} >= {"load_test", "security_scan", "time_in_stage", "inference_time"}
    assert all(check["inputs"]["artifact_sha256"] for check in record.checks if check["check"] != "from_stage")
    assert record.policy_sha256 == lifecycle.policy.sha256
    assert history[1].reason == "first try"


def test_the_next_one_archives_what_it_replaces_and_a_rollback_brings_it_back(add: add_type, with_policy: policy_type) -> None:
    lifecycle = with_policy(OPEN)
    for version in (1, 2, 3):
        add(seed=version)
        lifecycle.promote("pump", version, "production", actor="t")
    assert lifecycle.stage_of("pump") == {1: "archived", 2: "archived", 3: "production"}
    answer = lifecycle.roll_back("pump", actor="t", reason="it errs")
    assert answer.decision.main.version == 2
    assert lifecycle.stage_of("pump") == {1: "archived", 2: "production", 3: "archived"}
    assert lifecycle.registry.get_alias("pump", "champion") == 2
    assert lifecycle.roll_back("pump", actor="t").decision.main.version == 1, "rolling back twice goes back by two"
    with pytest.raises(NotFoundError, match="no other version"):
        lifecycle.roll_back("pump", actor="t")
    assert lifecycle.roll_back("pump", actor="t", to=3).decision.main.version == 3
    kinds = [each.kind for each in lifecycle.stages.history("pump")]
    assert kinds[-2:] == ["rollback", "withdrawn"]


def test_nothing_is_gone_back_to_that_never_was_or_is_broken(add: add_type, with_policy: policy_type, tmp_path: Path) -> None:
    lifecycle = with_policy(OPEN)
    one, _, _ = add(seed=1), add(seed=2), add(seed=3)
    with pytest.raises(NotFoundError, match="no version of `pump` was in stage"):
        lifecycle.roll_back("pump", actor="t")
    lifecycle.promote("pump", 1, "production", actor="t")
    lifecycle.promote("pump", 2, "production", actor="t")
    with pytest.raises(InvalidInputError, match="never in stage"):
        lifecycle.roll_back("pump", actor="t", to=3)
    with pytest.raises(ConflictError, match="already"):
        lifecycle.roll_back("pump", actor="t", to=2)
    (tmp_path / "warehouse" / one.artifact).unlink()
    with pytest.raises(CorruptDataError):
        lifecycle.roll_back("pump", actor="t")
    assert lifecycle.stage_of("pump")[2] == "production"


def test_of_two_promotions_at_once_one_wins(add: add_type, with_policy: policy_type) -> None:
    lifecycle = with_policy(OPEN)
    add(seed=1), add(seed=2)
    together = threading.Barrier(2)
    outcomes: dict[int, object] = {}

    def promote(version: int) -> None:
        try:
            outcomes[version] = decisions.promote(
                lifecycle.registry,
                lifecycle.stages,
                lifecycle.policy,
                "pump",
                version,
                "production",
                clock=ManualClock(),
                actor=f"thread {version}",
                failpoint=lambda _: together.wait(30),
            )
        except ConflictError as problem:
            outcomes[version] = problem

    threads = [threading.Thread(target=promote, args=(version,)) for version in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = [version for version, outcome in outcomes.items() if isinstance(outcome, ConflictError)]
    assert len(lost) == 1
    won = 3 - lost[0]
    assert stages_of(lifecycle.stages.history("pump")) == {won: "production"}


def test_a_promotion_that_is_killed_after_its_checks_changes_nothing_and_can_be_made_again(
    lifecycle: Lifecycle, add: add_type, settings: Settings
) -> None:
    add()
    child = [sys.executable, "-m", "tests.unit.learning.promotion.killed_between", str(settings.data_dir)]
    done = subprocess.run(child, cwd=Path(__file__).parents[4], capture_output=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    assert lifecycle.stages.history("pump") == []
    assert lifecycle.registry.get_alias("pump", "challenger") is None
    assert lifecycle.promote("pump", 1, "staging", actor="t").decision.granted


def test_what_a_crash_left_undone_is_delivered_later(add: add_type, with_policy: policy_type) -> None:
    lifecycle = with_policy(OPEN)
    add()
    decided = decisions.promote(
        lifecycle.registry,
        lifecycle.stages,
        lifecycle.policy,
        "pump",
        1,
        "production",
        clock=ManualClock(),
        actor="killed here",
    )
    assert lifecycle.registry.get_alias("pump", "champion") is None
    lifecycle.deliverer.deliver_pending()
    assert lifecycle.registry.get_alias("pump", "champion") == 1
    states = {step.name: step.state for step in lifecycle.deliverer.deliver(decided.main)}
    assert states == {"stream": "pending", "warm": "pending", "alias": "done", "routes": "pending"}, "the database is away"


def test_an_overtaken_decision_serves_no_more(add: add_type, with_policy: policy_type) -> None:
    lifecycle = with_policy(OPEN)
    for version in (1, 2):
        add(seed=version)
    one = decisions.promote(
        lifecycle.registry, lifecycle.stages, lifecycle.policy, "pump", 1, "production", clock=ManualClock(), actor="slow"
    )
    lifecycle.promote("pump", 2, "production", actor="fast")
    steps = lifecycle.deliverer.deliver(one.main)
    assert {step.state for step in steps} == {"skipped"}
    assert lifecycle.registry.get_alias("pump", "champion") == 2


def test_a_version_in_use_is_not_deleted_and_a_deleted_ones_bytes_are_gone(
    add: add_type, with_policy: policy_type, tmp_path: Path
) -> None:
    lifecycle = with_policy(OPEN)
    one, two = add(seed=1), add(seed=2)
    file = tmp_path / "warehouse" / one.artifact
    lifecycle.promote("pump", 1, "production", actor="t")
    with pytest.raises(ConflictError, match="stage production"):
        lifecycle.delete("pump", 1, actor="t")
    lifecycle.promote("pump", 2, "production", actor="t")
    lifecycle.registry.set_alias("pump", "v1.0", 1, tenant_id="acme")
    with pytest.raises(ConflictError, match=r"alias v1\.0 of acme"):
        lifecycle.delete("pump", 1, actor="t")
    lifecycle.registry.set_alias("pump", "v1.0", None, tenant_id="acme")
    _, would_go = lifecycle.delete("pump", 1, actor="t", dry_run=True)
    assert set(would_go) == {one.artifact, one.training_data["evaluation"]["artifact"]}
    assert file.exists()
    _, removed = lifecycle.delete("pump", 1, actor="t")
    assert removed == would_go
    assert not file.exists()
    assert (tmp_path / "warehouse" / two.artifact).exists()
    with pytest.raises(NotFoundError, match="was deleted"):
        lifecycle.promote("pump", 1, "staging", actor="t")
    with pytest.raises(NotFoundError):
        lifecycle.roll_back("pump", actor="t")
    assert [each.kind for each in lifecycle.stages.history("pump")][-1] == "delete"


def test_bytes_that_another_version_has_as_well_stay(add: add_type, with_policy: policy_type, tmp_path: Path) -> None:
    lifecycle = with_policy(OPEN)
    one, other = add(seed=1), add(seed=1, name="pump_copy")
    assert one.artifact == other.artifact
    _, removed = lifecycle.delete("pump", 1, actor="t")
    assert removed == []
    assert lifecycle.registry.load_artifact("pump_copy", 1)


def test_a_model_trained_on_other_features_is_not_promoted(add: add_type, with_policy: policy_type) -> None:
    lifecycle = with_policy(OPEN)
    add(training_data={"features": {"features_plant": "0123456789abcdef"}})
    with pytest.raises(ConflictError, match="another definition"):
        lifecycle.promote("pump", 1, "staging", actor="t")
    with pytest.raises(ConflictError, match="another definition"):
        lifecycle.roll_back("pump", actor="t", to=1)


def test_stages_are_answered_for_any_moment(add: add_type, with_policy: policy_type, clock: ManualClock) -> None:
    lifecycle = with_policy(OPEN)
    add(seed=1), add(seed=2)
    lifecycle.promote("pump", 1, "production", actor="t")
    between = clock.now() + timedelta(hours=1)
    clock.advance(timedelta(hours=2))
    lifecycle.promote("pump", 2, "production", actor="t")
    history = lifecycle.stages.history("pump")
    assert stages_of(history, at=between) == {1: "production"}
    assert stages_of(history) == {1: "archived", 2: "production"}
    assert stages_of(history, at=between - timedelta(days=1)) == {}
    assert entered_stage(history, 2, "production") == clock.now()
    assert entered_stage(history, 1, "production") is None
    with pytest.raises(ConflictError, match="already"):
        lifecycle.promote("pump", 2, "production", actor="t")


def test_the_lifecycle_of_a_stopped_platform_waits_with_routes(lifecycle: Lifecycle, add: add_type) -> None:
    add()
    answer = lifecycle.promote("pump", 1, "staging", actor="t").as_json()
    assert {step["step"]: step["state"] for step in answer["delivery"]}["routes"] == "pending"
