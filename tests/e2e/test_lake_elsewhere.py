"""The platform starts from a copy of its lake when the first is gone, and delivers into S3 with keys that stand in no SQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pyarrow as pa
import pytest

from core.clock import SystemClock
from core.settings import Settings
from headrace.ports import accepts_connections, free_port
from iceberg.catalog import open_lake
from iceberg.history import read_as_of
from iceberg.registry import open_registry
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import ensure_tables
from learning.train import register_all
from tests.services.kafka import ServiceUnavailableError
from tests.services.s3 import S3Server, start_s3

pytestmark = pytest.mark.timeout(280)


def headrace(*arguments: str, environ: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-m", "headrace", *arguments]
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **(environ or {})}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(*arguments: str, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "headrace", "--log-level", "error", *arguments]
    process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **environ}, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0


def predictions(epoch: int) -> pa.Table:
    end = datetime(2026, 1, 31, 8, tzinfo=UTC) + timedelta(minutes=epoch)
    return pa.table(
        {
            "prediction_id": [f"p{epoch}-{n}" for n in range(5)],
            "tenant_id": ["default"] * 5,
            "pipeline": ["plant"] * 5,
            "endpoint": ["plant.health"] * 5,
            "feature_end": pa.array([end] * 5, pa.timestamp("us", "UTC")),
            "score": [epoch / 10] * 5,
            "label": ["normal"] * 5,
            "members": ["[]"] * 5,
        }
    )


def test_the_platform_starts_from_the_copy_when_the_first_lake_is_gone(tmp_path: Path) -> None:
    first = Settings(data_dir=tmp_path / "first")
    registry, catalog = open_registry(first), open_lake(first)
    register_all(registry, clock=SystemClock())  # type: ignore[arg-type]  # learning asks for **properties
    ensure_tables(catalog)
    moments = []
    for epoch in (1, 2):
        ExactlyOnceTable(catalog, "lake.predictions", uuid.UUID(int=1)).append(epoch, predictions(epoch))
        moments.append(datetime.now(UTC))
    versions = {version.reference: version.artifact_sha256 for version in registry.list()}
    told = json.loads(headrace("tables", "replicate", str(tmp_path / "second"), "--data-dir", str(first.data_dir), "--json"))
    # Beside each model lie the rows that it was evaluated on.
    assert (
        told["artifacts"]
        == len(list((tmp_path / "first" / "warehouse" / "artifacts").rglob("*.*")))
        >= len(set(versions.values()))
    )
    catalog.close()
    shutil.rmtree(first.data_dir)

    environ = {
        "HEADRACE_WAREHOUSE": str(tmp_path / "second"),
        "HEADRACE_CATALOG_URI": told["catalog_uri"],
        "HEADRACE_KAFKA": "127.0.0.1:0",
        "HEADRACE_DATABASE_URL": "postgresql://root@127.0.0.1:0/dev",
        "HEADRACE_UDF_URL": "http://127.0.0.1:0",
        "HEADRACE_DATA_DIR": str(tmp_path / "anew"),
    }
    with running("dev", "--json", "--port", "0", environ=environ) as dev:
        assert dev.stdout is not None
        places = json.loads(dev.stdout.readline())
        for moment, count in zip(moments, (5, 10), strict=True):
            query = "query ($at: DateTime) { predictions(first: 50, asOf: $at) { edges { node { id } } } }"
            body = {"query": query, "variables": {"at": moment.isoformat()}}
            answer = httpx.post(f"{places['api']}/graphql", json=body, timeout=60).json()
            assert len(answer["data"]["predictions"]["edges"]) == count, answer
        with psycopg.connect(places["database"], autocommit=True) as connection:
            scored = connection.execute(
                "SELECT (e).error, (e).base FROM (SELECT explain('plant_health', 1, ARRAY[48.0, 0.5, 3.1, 2.2, 61.0, 0.4, 30.0]) AS e)"
                " AS explained"
            ).fetchone()
        assert scored is not None
        assert scored[0] is None
        assert scored[1] is not None, "the model was loaded from the copy"
    after = open_registry(
        Settings(data_dir=tmp_path / "anew", warehouse=str(tmp_path / "second"), catalog_uri=told["catalog_uri"])
    )
    assert {version.reference: version.artifact_sha256 for version in after.list()} == versions, "nothing was trained again"
    assert json.loads(headrace("tables", "check", "--json", environ=environ))["problems"] == 0


@pytest.fixture
def s3(tmp_path: Path, repository: Path, services_required: bool) -> Iterator[S3Server]:
    try:
        server = start_s3(tmp_path, repository / ".cache", ["lake"])
    except ServiceUnavailableError as error:
        if services_required:
            raise
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.mark.service
def test_a_sink_delivers_into_s3_by_the_settings_and_no_key_stands_in_sql(s3: S3Server, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    environ = {**s3.environment, "HEADRACE_WAREHOUSE": "s3://lake/w", "HEADRACE_DATA_DIR": str(tmp_path / "data")}
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path / "data",
            "warehouse": "s3://lake/w",
            "s3": {
                "endpoint": s3.endpoint,
                "access_key": s3.properties["s3.access-key-id"],
                "secret_key": s3.properties["s3.secret-access-key"],
            },
        }
    )
    with running("engine", "--listen", f"127.0.0.1:{port}", environ=environ) as engine:
        deadline = time.monotonic() + 60
        while not accepts_connections("127.0.0.1", port):
            assert engine.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with psycopg.connect(f"postgresql://root@127.0.0.1:{port}/dev", autocommit=True) as connection:
            connection.execute("CREATE TABLE t (tenant_id VARCHAR, n BIGINT) APPEND ONLY")
            connection.execute(
                f"""CREATE SINK t_lake FROM t WITH (connector = 'iceberg', type = 'append-only', force_append_only = 'true',
                warehouse.path = 's3://lake/w', catalog.type = 'jdbc', catalog.uri = '{settings.resolved_catalog_uri}',
                database.name = 'lake', table.name = 't', create_table_if_not_exists = 'true')""".encode()
            )
            connection.execute("INSERT INTO t VALUES ('a', 1), ('b', 2)")
            connection.execute("FLUSH")
            shown = str(connection.execute("SHOW CREATE SINK t_lake").fetchall())
            assert s3.properties["s3.secret-access-key"] not in shown
        catalog = open_lake(settings)
        while not (catalog.table_exists("lake.t") and catalog.load_table("lake.t").current_snapshot()):
            assert time.monotonic() < deadline, "nothing was delivered"
            time.sleep(0.05)
        assert read_as_of(catalog, "lake.t", order_by=["n"], descending=False).column("n").to_pylist() == [1, 2]
    assert json.loads(headrace("tables", "check", "--deep", "--json", environ=environ))["problems"] == 0
    assert {"warehouse"} <= {
        each["check"] for each in json.loads(headrace_allowing("doctor", "--json", environ=environ)) if each["ok"]
    }


def headrace_allowing(*arguments: str, environ: dict[str, str]) -> str:
    """`doctor` may find other things on this machine."""
    command = [sys.executable, "-m", "headrace", *arguments]
    environ = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False).stdout
