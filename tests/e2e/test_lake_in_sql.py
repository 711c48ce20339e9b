"""`drift_events`, `training_jobs` and `model_registry` are there by SQL, and show what the lake keeps."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from psycopg.rows import dict_row

from core.settings import Settings
from headrace.mirroring import Mirror
from iceberg.catalog import open_lake
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import DRIFT_EVENTS, TRAINING_JOBS, ensure_tables
from pipelines import deployer, folder

pytestmark = pytest.mark.timeout(280)

AT = datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC)


def model(value: float) -> bytes:
    node = helper.make_node("Constant", [], ["y"], value_floats=[value])
    graph = helper.make_graph([node], "constant", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    made: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    return made


def test_drift_trainings_and_models_are_views_that_follow_the_lake(bare_platform: dict[str, str], tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=bare_platform["database"], kafka=bare_platform["kafka"])
    deployer.apply(settings.database_url, folder.find(["operations"]), deployer.variables(settings))
    catalog = open_lake(settings)
    ensure_tables(catalog)
    registry = Registry(catalog, settings.resolved_warehouse)
    what: dict[str, Any] = {
        "kind": "x",
        "tags": {"a": "ü"},
        "training_data": {},
        "code_hash": "c",
        "duration": timedelta(seconds=2),
    }
    for value in (1.0, 2.0):
        registry.register("constant", model(value), metrics={"accuracy": value / 4}, **what)
    registry.set_alias("constant", "champion", 1)
    registry.set_alias("constant", "champion", 2, tenant_id="acme")
    drift = {"drift_id": "d1", "at": AT, "tenant_id": "acme", "model": "constant", "version": 1, "kind": "DATA", "p_value": 0.0234,
             "reference_window": '{"rows": 1000}'}  # fmt: skip
    add(catalog, DRIFT_EVENTS.identifier, 1, [drift])
    states = [("queued", 0, None), ("running", 1, None), ("succeeded", 61, 60.0)]
    jobs = [
        {"job_id": "j1", "at": AT + timedelta(seconds=after), "model": "constant", "state": state, "trigger": "drift",
         "version": 2 if took else None, "duration_seconds": took}
        for state, after, took in states
    ]  # fmt: skip
    add(catalog, TRAINING_JOBS.identifier, 1, jobs[:2])

    def ask(query: str) -> list[dict[str, Any]]:
        with psycopg.connect(settings.database_url, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode()).fetchall()

    mirror = Mirror(settings)
    assert mirror.look() == {"lake_drift_events": (1, 0), "lake_training_jobs": (2, 0), "lake_model_versions": (2, 0)}
    assert mirror.look() == {}, "no snapshot is new"
    assert Mirror(settings).look() == dict.fromkeys(mirror._seen, (0, 0)), "another one finds everything as it is"
    [event] = ask("SELECT * FROM drift_events")
    assert (event["drift_id"], event["at"], event["p_value"], event["reference_window"]) == ("d1", AT, 0.0234, {"rows": 1000})
    [job] = ask("SELECT * FROM training_jobs")
    assert (job["state"], job["started_at"], job["changed_at"]) == ("running", AT, AT + timedelta(seconds=1))
    first, second = ask("SELECT * FROM model_registry ORDER BY version")
    assert (first["model_name"], first["metrics"]) == ("constant", {"accuracy": 0.25})
    assert first["tags"].items() >= {"a": "ü", "metric_accuracy": "0.25"}.items()
    assert first["aliases"] == [{"alias": "champion", "tenant_id": None}]
    assert second["aliases"] == [{"alias": "champion", "tenant_id": "acme"}]

    add(catalog, TRAINING_JOBS.identifier, 2, jobs[2:])
    registry.set_alias("constant", "champion", 2)
    catalog.load_table("registry.model_versions").delete("version = 1")
    assert mirror.look() == {"lake_training_jobs": (1, 0), "lake_model_versions": (1, 1)}
    [job] = ask("SELECT * FROM training_jobs")
    assert (job["state"], job["version"], job["duration_seconds"]) == ("succeeded", 2, 60.0)
    [left] = ask("SELECT * FROM model_registry")
    assert left["aliases"] == [{"alias": "champion", "tenant_id": None}, {"alias": "champion", "tenant_id": "acme"}]


def add(catalog: Any, identifier: str, epoch: int, rows: list[dict[str, Any]]) -> None:
    schema = catalog.load_table(identifier).schema().as_arrow()
    ExactlyOnceTable(catalog, identifier, uuid.UUID(int=7)).append(epoch, pa.Table.from_pylist(rows, schema=schema))
