"""Some kills inside commits; `python -m tests.chaos.iceberg.rounds` does the many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.iceberg.rounds import STEPS, Outcome, run

SEED = 20261127


def must_pass(outcome: Outcome, rounds: int) -> None:
    assert outcome.violations == [], f"seed {outcome.seed}"
    # A step may lie beyond the last commit of a round's process, e.g. its second delete file where there was one.
    assert outcome.kills.total() >= 0.8 * rounds
    assert outcome.orphans_removed > 0
    assert min(outcome.epochs.values()) > 0


@pytest.mark.timeout(240)
def test_rows_and_epochs_are_exact_after_kills_inside_commits(tmp_path: Path) -> None:
    must_pass(run(tmp_path, 10, SEED), 10)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_rows_and_epochs_are_exact_after_a_kill_at_every_step(tmp_path: Path) -> None:
    outcome = run(tmp_path, 3 * len(STEPS), SEED)
    must_pass(outcome, 3 * len(STEPS))
    assert outcome.never_reached == []
