"""SIGKILL of the engine and the broker at every step: nothing lost, nothing twice, views right; see `rounds`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.engine.rounds import Matrix, Outcome
from tests.services.kafka import Cluster


def run(cluster: Cluster, folder: Path, rounds: int, seed: int) -> Outcome:
    print(f"seed {seed}")
    outcome = Matrix(cluster, folder, seed).run(rounds)
    print(outcome.table())
    assert not any(outcome.violations.values()), outcome.table()
    return outcome


@pytest.mark.timeout(280)
def test_kills_lose_nothing_and_double_nothing(kafka_cluster: Cluster, tmp_path: Path) -> None:
    run(kafka_cluster, tmp_path, rounds=6, seed=11)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_a_hundred_kills_lose_nothing_and_double_nothing(kafka_cluster: Cluster, tmp_path: Path) -> None:
    outcome = run(kafka_cluster, tmp_path, rounds=100, seed=int(time.time()))
    assert outcome.inside_commit >= 20, outcome.table()
