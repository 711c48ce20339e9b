"""A small platform for tests of routes: broker, engine, a UDF server with models in memory, and a pipeline of one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from confluent_kafka import Producer
from onnx import helper

from core.errors import NotFoundError
from headrace.ports import accepts_connections, free_port
from learning.models.kind import build_graph
from pipelines import deployer, folder
from udfs.server import build_server

ENDPOINT = "trial.sick"
START = datetime(2026, 1, 1, tzinfo=UTC)
CLASSES = ("healthy", "sick")

_SQL = """
CREATE TABLE trial_events (
    tenant_id  VARCHAR,
    entity_id  VARCHAR,
    event_time TIMESTAMP WITH TIME ZONE,
    a          DOUBLE PRECISION,
    b          DOUBLE PRECISION
) APPEND ONLY;

CREATE MATERIALIZED VIEW scored_trial AS
SELECT
    e.tenant_id, e.entity_id, e.event_time, ARRAY[e.a, e.b] AS features, r.route_epoch,
    predict(r.route, e.entity_id, ARRAY[e.a, e.b]) AS outcome
FROM trial_events AS e
LEFT JOIN active_routes FOR SYSTEM_TIME AS OF PROCTIME() AS r
    ON r.tenant_id = e.tenant_id AND r.endpoint = 'trial.sick';

CREATE MATERIALIZED VIEW predictions_trial AS
SELECT
    md5(tenant_id || '/' || entity_id || '/' || event_time::varchar) AS prediction_id,
    'trial' AS pipeline, tenant_id, 'trial.sick' AS endpoint, entity_id, event_time AS feature_start, event_time AS feature_end,
    features, route_epoch, (outcome).*
FROM scored_trial;
"""


_LAKE = """
CREATE SINK predictions_trial_lake FROM predictions_trial
WITH (
    connector = 'iceberg',
    type = 'append-only',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'predictions',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 1
);
"""


def linear(weight: float, bias: float = 0.0) -> bytes:
    """P(sick) = sigmoid(weight * a + bias)."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    stored = {
        "weights": np.array([[0.0, weight], [0.0, 0.0]], np.float32),
        "bias": np.array([[0.0, bias]], np.float32),
    }
    return build_graph("linear", nodes, stored, n_features=2, classes=CLASSES, positive="sick")


@dataclass
class Artifacts:
    """A registry in memory."""

    stored: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def load_artifact(self, name: str, version: int) -> bytes:
        if (name, version) not in self.stored:
            raise NotFoundError(f"model version `{name}@{version}` is not registered")
        return self.stored[name, version]


@dataclass
class Trial:
    """The running platform."""

    url: str
    kafka: str
    udf_url: str
    data_dir: Path
    artifacts: Artifacts
    connection: psycopg.Connection[tuple[Any, ...]]
    producer: Producer
    sent: int = 0

    def send(self, tenant: str, features: Sequence[tuple[float, float]], *, at: datetime, every: timedelta) -> list[datetime]:
        """Insert one row an entity and wait until all are predicted; returns the times of the rows."""
        times = [at + every * i for i in range(len(features))]
        rows = [(tenant, f"entity-{i}", moment, a, b) for i, (moment, (a, b)) in enumerate(zip(times, features, strict=True))]
        with self.connection.cursor() as cursor:
            cursor.execute(
                ("INSERT INTO trial_events VALUES " + ", ".join(["(%s, %s, %s, %s, %s)"] * len(rows))).encode(),
                [value for row in rows for value in row],
            )
        self.connection.execute("FLUSH")
        self.sent += len(rows)
        return times

    def label(self, rows: Sequence[tuple[str, str, str]], *, labelled_at: datetime = START) -> None:
        """Send (tenant, prediction_id, label) and wait until they are joined."""
        before = self.query("SELECT count(*) FROM feedback")[0][0]
        for tenant, prediction_id, label in rows:
            told = {
                "tenant_id": tenant,
                "prediction_id": prediction_id,
                "label": label,
                "labelled_at": labelled_at.isoformat(),
                "source": "test",
            }
            self.producer.produce("feedback", json.dumps(told))
        assert self.producer.flush(30) == 0
        self.wait_for("SELECT count(*) FROM feedback", before + len(rows))

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql.encode(), parameters or None).fetchall()

    def query_none(self, sql: str) -> None:
        self.connection.execute(sql.encode())
        self.connection.execute("FLUSH")

    def wait_for(self, sql: str, expected: object, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.query(sql)[0][0]) != expected:
            assert time.monotonic() < deadline, f"{sql}: {found} instead of {expected}"
            time.sleep(0.05)


@contextmanager
def running_trial(root: Path, artifacts: Artifacts, *, lake: bool = False, **server: Any) -> Iterator[Trial]:
    """Start everything, apply the pipeline (with a sink to the lake, if it is wanted), and stop it again."""
    host = "127.0.0.1"
    kafka, database = (f"{host}:{free_port(host)}" for _ in range(2))
    environ = {"PATH": os.environ["PATH"], "HEADRACE_KAFKA": kafka}
    with ExitStack() as stack:
        for name, address in (("broker", kafka), ("engine", database)):
            command = [sys.executable, "-m", "headrace", "--log-level", "error", "serve", name, "--listen", address]
            process = stack.enter_context(subprocess.Popen([*command, "--data-dir", str(root)], env=environ))
            stack.callback(_stop, process)
            deadline = time.monotonic() + 60
            while not accepts_connections(host, int(address.partition(":")[2])):
                assert process.poll() is None, f"{name} did not start"
                assert time.monotonic() < deadline, f"{name} does not listen"
                time.sleep(0.05)
        udf = build_server(artifacts, port=0, **{key: value(kafka) for key, value in server.items()})
        stack.callback(udf.drain_and_stop, 1.0)
        url, udf_url = f"postgresql://root@{database}/dev", f"http://{host}:{udf.port}"
        place = root / "trial"
        place.mkdir()
        (place / "10_trial.sql").write_text(_SQL + (_LAKE if lake else ""))
        values = {
            "KAFKA_BOOTSTRAP": kafka,
            "UDF_URL": udf_url,
            "CATALOG_TYPE": "jdbc",
            "CATALOG_URI": f"jdbc:sqlite:{root}/catalog.db",
            "WAREHOUSE": f"{root}/warehouse",
        }
        deployer.apply(url, [folder.load(place)], values)
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        producer = Producer({"bootstrap.servers": kafka})
        yield Trial(url, kafka, udf_url, root, artifacts, connection, producer)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(60) == 0
