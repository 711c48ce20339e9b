"""The brokers that the contract runs on: ours, and Apache Kafka where Java and Maven are there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.kafka import Cluster, ServiceUnavailableError, start_apache, start_embedded


@pytest.fixture(scope="session", params=["embedded", pytest.param("apache", marks=pytest.mark.service)])
def kafka_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, repository: Path, services_required: bool
) -> Iterator[Cluster]:
    """A running broker; the same tests hold on both."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        cluster = start_embedded(folder)
    else:
        try:
            cluster = start_apache(folder, repository / ".cache")
        except ServiceUnavailableError as error:
            if services_required:
                raise
            pytest.skip(str(error))
    yield cluster
    cluster.stop()


@pytest.fixture
def bootstrap(kafka_cluster: Cluster) -> str:
    return kafka_cluster.bootstrap


@pytest.fixture
def topic() -> str:
    """A name nobody else uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Cluster]:
    """Our broker on a folder of its own, for what is done to it: kills, damaged files."""
    cluster = start_embedded(tmp_path)
    yield cluster
    cluster.stop()
