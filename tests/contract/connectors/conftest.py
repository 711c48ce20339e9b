"""The brokers that the connectors' contract runs on: ours, and Apache Kafka where Java and Maven are there."""

from __future__ import annotations

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
