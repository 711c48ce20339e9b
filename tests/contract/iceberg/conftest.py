"""One lake on every catalog and every storage that the settings can name."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from core.settings import Settings
from iceberg.catalog import open_lake
from tests.services.iceberg_rest import IcebergRest, start_iceberg_rest
from tests.services.kafka import ServiceUnavailableError
from tests.services.s3 import REGION, S3Server, start_s3

BUCKET = "lake"


@dataclass(frozen=True)
class Lake:
    """A warehouse of a test's own, by the settings that name it."""

    settings: Settings
    uses: tuple[str, ...] = field(default=())

    def open(self, *, claims: bool = True) -> Catalog:
        """Open the catalog, as another process would."""
        return open_lake(self.settings, claims=claims)

    @property
    def warehouse(self) -> str:
        return self.settings.resolved_warehouse


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory, repository: Path, services_required: bool) -> Iterator[S3Server]:
    try:
        running = start_s3(tmp_path_factory.mktemp("s3"), repository / ".cache", [BUCKET])
    except ServiceUnavailableError as error:
        if services_required:
            raise
        pytest.skip(str(error))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def rest_servers(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, services_required: bool
) -> Iterator[Callable[[S3Server | None], tuple[IcebergRest, str]]]:
    """Gives a running server on local files, or on S3, and the warehouse that it serves; each is started once."""
    running: dict[bool, tuple[IcebergRest, str]] = {}

    def start(s3: S3Server | None) -> tuple[IcebergRest, str]:
        if (s3 is not None) not in running:
            folder = tmp_path_factory.mktemp("rest")
            warehouse, more = f"file://{folder}/warehouse", {}
            if s3 is not None:
                warehouse = f"s3://{BUCKET}/rest-{uuid.uuid4().hex[:8]}"
                more = {
                    "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
                    "s3.endpoint": s3.endpoint,
                    "s3.path-style-access": "true",
                    "s3.access-key-id": s3.properties["s3.access-key-id"],
                    "s3.secret-access-key": s3.properties["s3.secret-access-key"],
                    "client.region": REGION,
                }
            try:
                server = start_iceberg_rest(
                    folder, repository / ".cache", f"jdbc:sqlite:{folder / 'catalog.db'}", warehouse, more=more
                )
            except ServiceUnavailableError as error:
                if services_required:
                    raise
                pytest.skip(str(error))
            running[s3 is not None] = (server, warehouse)
        return running[s3 is not None]

    yield start
    for server, _ in running.values():
        server.stop()


@pytest.fixture(params=["sqlite-folder", "sqlite-s3", "rest-folder", "rest-s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake on each kind of catalog and storage. Those behind a REST server share its warehouse; tables are named apart."""
    catalog, storage = request.param.split("-")
    chosen: dict[str, object] = {"data_dir": tmp_path, "catalog_type": "jdbc" if catalog == "sqlite" else "rest"}
    server: S3Server | None = None
    if storage == "s3":
        server = request.getfixturevalue("s3")
        chosen["warehouse"] = f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}"
        keys = server.properties
        chosen["s3"] = {
            "endpoint": server.endpoint,
            "access_key": keys["s3.access-key-id"],
            "secret_key": keys["s3.secret-access-key"],
        }
    if catalog == "rest":
        rest, warehouse = request.getfixturevalue("rest_servers")(server)
        chosen |= {"catalog_uri": rest.uri, "warehouse": warehouse}
    return Lake(Settings.model_validate(chosen))
