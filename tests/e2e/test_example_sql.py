"""The two example files run as they stand: shared parts, then one pipeline, from Kafka to a subscription and the lake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer

from headrace.ports import accepts_connections, free_port
from iceberg.catalog import open_catalog

pytestmark = pytest.mark.xdist_group("processes")

HOST = "127.0.0.1"
START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOWS = 3


@pytest.fixture
def examples(repository: Path) -> Path:
    folder = repository.parent / "shared" / "example"
    if not folder.is_dir():
        pytest.skip("the example files are not beside this checkout")
    return folder


@contextmanager
def serving(*arguments: str, port: int, environ: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "headrace", "serve", *arguments, "--listen", f"{HOST}:{port}"]
    with subprocess.Popen(command, env={"PATH": os.environ["PATH"], **environ}) as process:
        deadline = time.monotonic() + 60
        try:
            while not accepts_connections(HOST, port):
                assert process.poll() is None, f"{arguments[0]} ended at its start"
                assert time.monotonic() < deadline, f"{arguments[0]} does not listen"
                time.sleep(0.05)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def poll(connection: psycopg.Connection[tuple[object, ...]], query: str, expected: int, seconds: float = 60) -> None:
    """Wait until a count reaches what it must reach."""
    deadline = time.monotonic() + seconds
    while True:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]  # psycopg wants a literal
        if row is not None and row[0] == expected:
            return
        assert time.monotonic() < deadline, f"{query}: {row} instead of {expected}"
        time.sleep(0.05)


def readings() -> list[dict[str, object]]:
    """One reading a second of one pump, three full windows and the row that closes the last."""
    return [
        {
            "tenant_id": "acme", "entity_id": "pump-1", "event_time": (START + timedelta(seconds=second)).isoformat(),
            "vibration": 1.0 + second / 100, "temperature": 60.0, "pressure": 4.0, "flow": 0.5 if second % 10 == 0 else 2.0,
        }
        for second in [*range(10 * WINDOWS), 10 * WINDOWS + 5]
    ]  # fmt: skip


@pytest.mark.timeout(240)
def test_both_example_files_run_as_they_stand(examples: Path, tmp_path: Path) -> None:
    broker, engine, udf = (free_port(HOST) for _ in range(3))
    environ = {"HEADRACE_DATA_DIR": str(tmp_path), "HEADRACE_KAFKA": f"{HOST}:{broker}"}
    catalog_uri, warehouse = f"jdbc:sqlite:{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse")
    values = {
        "KAFKA_BOOTSTRAP": f"{HOST}:{broker}", "UDF_URL": f"http://{HOST}:{udf}", "CATALOG_TYPE": "jdbc",
        "CATALOG_URI": catalog_uri, "WAREHOUSE": warehouse,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, port in (("broker", broker), ("udf", udf), ("engine", engine)):
            stack.enter_context(serving(name, port=port, environ=environ))
        url = f"postgresql://root@{HOST}:{engine}/dev"
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        for file in ("00_shared.sql", "plant.sql"):
            if file == "plant.sql":
                connection.execute("INSERT INTO endpoints VALUES ('acme', 'plant.health', 'ensemble_mean')")
                connection.execute(
                    "INSERT INTO routes VALUES ('acme', 'plant.health', 'no_such_model', 1, 'champion', 1, 1, 7)"
                )
                connection.execute("FLUSH")
            text = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], (examples / file).read_text())
            connection.execute(text)  # type: ignore[call-overload]  # several statements in one simple query
        producer = Producer({"bootstrap.servers": f"{HOST}:{broker}"})
        for reading in readings():
            producer.produce("events.plant", json.dumps(reading))
        assert producer.flush(30) == 0
        poll(connection, "SELECT count(*) FROM predictions_plant", WINDOWS)
        features = connection.execute(
            "SELECT feature_start, readings, vibration_avg, low_flow_readings FROM features_plant ORDER BY feature_start"
        ).fetchall()
        assert [(row[0], row[1], row[3]) for row in features] == [
            (START + timedelta(seconds=10 * i), 10, 1) for i in range(WINDOWS)
        ]
        assert [row[2] for row in features] == pytest.approx([1.045, 1.145, 1.245])
        # The model does not exist, and says so in each row instead of a NULL or a stopped stream.
        rows = connection.execute(
            "SELECT prediction_id, route_epoch, label, error ->> 'code' FROM predictions_plant"
        ).fetchall()
        assert {(row[1], row[2]) for row in rows} == {(7, None)}
        assert all(row[3] for row in rows)
        label = {
            "tenant_id": "acme",
            "prediction_id": rows[0][0],
            "label": "healthy",
            "labelled_at": START.isoformat(),
            "source": "test",
        }
        producer.produce("feedback", json.dumps(label))
        assert producer.flush(30) == 0
        poll(connection, "SELECT labelled FROM model_scores_plant", 1)
        deadline = time.monotonic() + 60
        lake = open_catalog("jdbc", catalog_uri, warehouse)
        while not lake.table_exists("lake.predictions") or lake.load_table("lake.predictions").scan().count() < WINDOWS:
            assert time.monotonic() < deadline, "the predictions do not reach the lake"
            time.sleep(0.1)
        assert lake.load_table("lake.predictions").scan().count() == WINDOWS
