"""On a running platform: a prediction is traced to its events and back, and its subject is erased with a certificate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e.deployment import Deployment

pytestmark = pytest.mark.timeout(280)

START = datetime(2026, 1, 1, tzinfo=UTC)
SQL = """CREATE SOURCE NAME_events (
    tenant_id VARCHAR, entity_id VARCHAR, event_time TIMESTAMP WITH TIME ZONE, level DOUBLE PRECISION, flow DOUBLE PRECISION,
    WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds'
) INCLUDE partition AS kafka_partition INCLUDE offset AS kafka_offset
WITH (connector = 'kafka', topic = 'events.NAME', properties.bootstrap.server = '${KAFKA_BOOTSTRAP}', scan.startup.mode = 'earliest')
FORMAT PLAIN ENCODE JSON;
CREATE MATERIALIZED VIEW features_NAME AS
SELECT tenant_id, entity_id, window_start AS feature_start, window_end AS feature_end, avg(level) AS level_avg, avg(flow) AS flow_avg
FROM TUMBLE(NAME_events, event_time, INTERVAL '10 seconds')
GROUP BY tenant_id, entity_id, window_start, window_end EMIT ON WINDOW CLOSE;
CREATE MATERIALIZED VIEW scored_NAME AS
SELECT f.tenant_id, f.entity_id, f.feature_start, f.feature_end, ARRAY[f.level_avg, f.flow_avg] AS features, r.route_epoch,
    predict(r.route, f.entity_id, ARRAY[f.level_avg, f.flow_avg]) AS outcome
FROM features_NAME AS f
LEFT JOIN active_routes FOR SYSTEM_TIME AS OF PROCTIME() AS r ON r.tenant_id = f.tenant_id AND r.endpoint = 'NAME.health';
CREATE MATERIALIZED VIEW predictions_NAME AS
SELECT md5(tenant_id || '/NAME/' || entity_id || '/' || feature_end::varchar) AS prediction_id, 'NAME' AS pipeline, tenant_id,
    'NAME.health' AS endpoint, entity_id, feature_start, feature_end, features, route_epoch, (outcome).*
FROM scored_NAME;
"""
SINK = """CREATE SINK NAME_{table}_lake {of} WITH (
    connector = 'iceberg', type = 'append-only', force_append_only = 'true', warehouse.path = '${{WAREHOUSE}}',
    catalog.type = '${{CATALOG_TYPE}}', catalog.uri = '${{CATALOG_URI}}', database.name = 'lake', table.name = '{table}',
    create_table_if_not_exists = 'true');
"""
SINKS = "".join(
    SINK.format(table=table, of=of)
    for table, of in (
        ("predictions", "FROM predictions_NAME"),
        ("features_NAME", "FROM features_NAME"),
        (
            "events_NAME",
            "AS SELECT tenant_id, entity_id, event_time, level, flow, kafka_partition, kafka_offset FROM NAME_events",
        ),
    )
)


@dataclass
class Traced:
    """The pipeline with six events of two machines in a window each, one of them late."""

    deployment: Deployment
    data_dir: str
    environ: dict[str, str]

    def headrace(self, *arguments: str, code: int = 0) -> Any:
        command = [sys.executable, "-m", "headrace", *arguments, "--json", "--data-dir", self.data_dir]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout or done.stderr)

    def prediction(self, entity: str) -> str:
        found = self.deployment.query(f"SELECT prediction_id FROM predictions_NAME WHERE entity_id = '{entity}' ORDER BY 1")
        return str(found[0][0])


@pytest.fixture(scope="module")
def traced(platform: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Traced:
    deployment = Deployment(platform, tmp_path_factory.mktemp("traced"))
    environ = {
        "PATH": os.environ["PATH"],
        "HEADRACE_DATABASE_URL": platform["database"],
        "HEADRACE_KAFKA": platform["kafka"],
        "HEADRACE_UDF_URL": platform["udf"],
    }
    made = Traced(deployment, platform["data_dir"], environ)
    labelled = deployment.folder.parent / "labelled.json"
    labelled.write_text(json.dumps({"features": [[0.0, 0.0], [9.0, 9.0]] * 10, "labels": [0, 1] * 10}))
    name = deployment.name
    made.headrace("train", "run", str(labelled), "--endpoint", f"{name}.health", "--tenant", "acme", "--model", name)
    deployment.write("10_all.sql", SQL + SINKS)
    deployment.apply()
    producer = Producer({"bootstrap.servers": platform["kafka"]})
    readings = [("m-1", 1), ("m-10", 2), ("m-1", 8), ("m-10", 9), ("m-1", 40), ("m-1", 2), ("m-10", 60)]
    for entity, second in readings:  # the sixth is late: second 2 after second 40
        event = {
            "tenant_id": "acme",
            "entity_id": entity,
            "event_time": (START + timedelta(seconds=second)).isoformat(),
            "level": float(second),
            "flow": 1.0,
        }
        producer.produce(f"events.{name}", json.dumps(event), partition=0)
    assert producer.flush(30) == 0
    wait(lambda: len(deployment.query("SELECT 1 FROM predictions_NAME")) >= 3)
    told = {
        "tenant_id": "acme",
        "prediction_id": made.prediction("m-1"),
        "label": "1",
        "labelled_at": "2026-01-02T00:00:00+00:00",
        "source": "test",
    }
    producer.produce("feedback", json.dumps(told))
    assert producer.flush(30) == 0
    wait(lambda: bool(deployment.query(f"SELECT 1 FROM labels WHERE prediction_id = '{told['prediction_id']}'")))
    return made


def wait(until: Any) -> None:
    deadline = time.monotonic() + 90
    while not until():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def first_window(traced: Traced, entity: str) -> str:
    end = (START + timedelta(seconds=10)).isoformat()
    rows = traced.deployment.query(
        f"SELECT prediction_id FROM predictions_NAME WHERE entity_id = '{entity}' AND feature_end = '{end}'"
    )
    return str(rows[0][0])


def nodes(graph: Any, kind: str) -> dict[str, Any]:
    return {node["id"]: node["facts"] for node in graph["nodes"] if node["kind"] == kind}


def linked(graph: Any, relation: str) -> set[str]:
    return {edge["of"] for edge in graph["edges"] if edge["relation"] == relation}


def test_a_prediction_is_traced_to_its_events_route_model_and_sql(traced: Traced) -> None:
    name, key = traced.deployment.name, first_window(traced, "m-1")
    wait(lambda: nodes(traced.headrace("lineage", key), "snapshot"))
    graph = traced.headrace("lineage", key)
    assert linked(graph, "aggregates") == {f"event:events.{name}/0/0", f"event:events.{name}/0/2"}
    assert linked(graph, "refused") == {f"event:events.{name}/0/5"}
    (window,) = nodes(graph, "window").values()
    assert window["prediction_id_recomputed"] is True
    (model,) = nodes(graph, "model").items()
    assert model[0] == f"model:{name}@1"
    assert len(nodes(graph, "artifact")) == 1
    (route,) = nodes(graph, "route").values()
    assert route["route"]["members"][0]["model"] == name
    computed = {each.partition(":")[2].partition("@")[0] for each in linked(graph, "computed by")}
    assert {f"predictions_{name}", f"scored_{name}", f"features_{name}", f"{name}_events"} <= computed
    own = [facts for node, facts in nodes(graph, "sql").items() if node.startswith(f"sql:predictions_{name}@")]
    assert own[0]["applied_at"], "the ledger has the text's history"


def test_the_running_platform_is_found_by_its_data_folder_alone(traced: Traced) -> None:
    bare = replace(traced, environ={"PATH": os.environ["PATH"]})
    graph = bare.headrace("lineage", first_window(traced, "m-1"))
    assert not any("stream database was not read" in what for what in graph["missing"])
    assert linked(graph, "computed by")


def test_the_label_is_found_from_both_ends(traced: Traced) -> None:
    key = traced.prediction("m-1")
    assert [facts["label"] for facts in nodes(traced.headrace("lineage", key), "label").values()] == ["1"]
    assert [facts["label"] for facts in nodes(traced.headrace("lineage", key, "--down"), "label").values()] == ["1"]


def test_events_models_and_subjects_lead_to_their_predictions(traced: Traced) -> None:
    name = traced.deployment.name
    down = traced.headrace("lineage", f"event:events.{name}/0/2", "--down")
    assert nodes(down, "prediction").keys() == {f"prediction:{first_window(traced, 'm-1')}"}
    of_model = nodes(traced.headrace("lineage", f"model:{name}@1", "--down"), "prediction")
    assert len(of_model) >= 3
    of_subject = nodes(traced.headrace("lineage", "subject:acme/m-10", "--down"), "prediction")
    assert f"prediction:{first_window(traced, 'm-10')}" in of_subject
    assert f"prediction:{first_window(traced, 'm-1')}" not in of_subject


def test_what_cannot_be_traced_is_told(traced: Traced) -> None:
    assert traced.headrace("lineage", "no-such-prediction", code=4)["error"] == "NotFoundError"
    assert traced.headrace("lineage", "model:x@1", code=2)["fix"] == "Give --down for what came of it."
    assert traced.headrace("lineage", "event:nonsense", "--down", code=2)["error"] == "InvalidInputError"


def test_the_lake_alone_tells_events_and_models(traced: Traced) -> None:
    name, key = traced.deployment.name, first_window(traced, "m-10")
    wait(lambda: f"event:events.{name}/0/3" in str(lake_only(traced, key)))
    graph = lake_only(traced, key)
    assert linked(graph, "aggregates") == {f"event:events.{name}/0/1", f"event:events.{name}/0/3"}
    assert nodes(graph, "model").keys() == {f"model:{name}@1"}
    assert any("stream database was not read" in what for what in graph["missing"])


def lake_only(traced: Traced, key: str) -> Any:
    command = [sys.executable, "-m", "headrace", "lineage", key, "--offline", "--json", "--data-dir", traced.data_dir]
    done = subprocess.run(command, env=traced.environ, capture_output=True, text=True, timeout=120, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def test_a_subject_is_erased_with_a_certificate_and_the_others_stay(traced: Traced) -> None:
    """The last one: it takes m-1 away."""
    key, other = first_window(traced, "m-1"), first_window(traced, "m-10")
    wait(lambda: bool(lake_only(traced, key)) and bool(lake_only(traced, other)))
    plan = traced.headrace("erase", "m-1", "--tenant", "acme", "--dry-run")
    name = traced.deployment.name
    assert {"lake.predictions", f"lake.features_{name}", f"lake.events_{name}"} <= plan["tables"].keys()
    done = traced.headrace("erase", "m-1", "--tenant", "acme")
    assert done["clean"], done["after"]
    assert key in done["derived_ids"]
    assert done["rows_deleted"] >= 2 + 2 + 3
    places = {place["place"]: place["status"] for place in done["outside"]}
    assert places["broker segments"] == "dirty", "the topic keeps the events until its retention"
    assert places["engine state and quarantine"] in ("dirty", "not provable")
    assert places["catalog file"] == "clean"
    verified = traced.headrace("erase", "verify", done["path"])
    assert (verified["certificate"], verified["warehouse"]) == ("intact", "clean")
    assert traced.headrace("lineage", key, "--offline", code=4)["error"] == "NotFoundError"
    assert lake_only(traced, other)["nodes"]
    altered = Path(done["path"])
    altered.write_text(altered.read_text().replace('"rows_deleted": ', '"rows_deleted": 1', 1))
    assert traced.headrace("erase", "verify", done["path"], code=1)["certificate"] == "altered"
