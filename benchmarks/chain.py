"""Throughput and latency of the whole chain, beside what its raw parts cost, so that we know what the chain adds.

    events (JSON) -> broker -> engine: source, 10 s windows, route join -> predict (Arrow Flight, ONNX) -> topic + lake

    make bench                           or: .venv/bin/python benchmarks/chain.py --events 200000 --seconds 20

Throughput: the events lie in the topic before the pipeline is created; the clock stops when the last prediction that they
allow is in topic `predictions`. Latency: events at a steady rate, from the broker's append time of the event that closes a
window (or of the event itself, where there is no window) to that of the prediction.
"""

from __future__ import annotations

import argparse
import json
import os
import platform as machine
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import onnxruntime as ort
import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from core.clock import SystemClock
from core.settings import Settings
from headrace.config import load
from headrace.demo.expectations import PIPELINES, closing_times, expected_rows, judge
from headrace.demo.records import Record, Stream, encode
from headrace.demo.replay import Replay, build_producer
from headrace.demo.scenario import built_in_routes
from headrace.demo.streams import PIPELINES as DEMO
from headrace.demo.topics import read_all
from headrace.platform import Platform, running_platform
from iceberg.catalog import open_lake
from iceberg.registry import Registry
from learning.plant import simulate_plant
from learning.telemetry import telemetry_stream
from learning.train import register_all
from pipelines import deployer, folder
from pipelines.folder import Endpoint

RATE = 1000
PUMPS = 50  # a pump and tenant sends a reading a second of event time


def main() -> None:
    """Run all parts and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000, help="for the throughput of the chain and of the raw parts")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the steady rate is kept")
    parser.add_argument("--out", type=Path, default=None, help="also write the document there")
    arguments = parser.parse_args()
    result: dict[str, object] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpus": os.cpu_count(),
            "system": machine.platform(),
            "python": machine.python_version(),
            "load": os.getloadavg()[0],
        },
        "plant_windowed": throughput("plant", arguments.events),
        "telemetry_rowwise": throughput("telemetry", min(arguments.events // 5, 35_000)),
        f"latency_at_{RATE}_events_per_s": {name: latency(name, arguments.seconds) for name in ("plant", "telemetry")},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def throughput(pipeline: str, events: int) -> dict[str, object]:
    """The chain over `events` waiting events, then the same work by the raw parts."""
    values = _events(pipeline, events)
    with _platform() as platform:
        producer = build_producer(platform.settings.kafka)
        begun = time.perf_counter()
        for tenant, value in values:
            while True:
                try:
                    producer.produce(f"events.{pipeline}", value, tenant)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.flush(120)
        produced = time.perf_counter() - begun
        raw = read_all(platform.settings.kafka, f"events.{pipeline}")
        wanted = expected_rows(pipeline, judge(raw, PIPELINES[pipeline])).num_rows
        begun = time.perf_counter()
        _apply(platform, pipeline)
        applied = time.perf_counter() - begun
        _await_predictions(platform.settings.kafka, wanted)
        whole = time.perf_counter() - begun
        parts = _raw_parts(platform, pipeline, len(values))
    sum_of_parts = sum(each["seconds"] for each in parts.values())
    return {
        "events": len(values),
        "predictions": wanted,
        "produce_events_per_s": round(len(values) / produced),
        "chain_seconds": round(whole, 2),
        "of_which_create_statements": round(applied, 2),
        "chain_events_per_s": round(len(values) / whole),
        "raw_parts": parts,
        "raw_parts_events_per_s": round(len(values) / sum_of_parts),
        "chain_over_raw_parts": round(whole / sum_of_parts, 2),
    }


def latency(pipeline: str, seconds: float) -> dict[str, object]:
    """Event to prediction at `RATE` events a second; the first fifth is warm-up and not counted."""
    values = _events(pipeline, int(RATE * seconds))
    records = tuple(Record(i / RATE, tenant, "bench", value) for i, (tenant, value) in enumerate(values))
    with _platform() as platform:
        _apply(platform, pipeline)
        stream = Stream(pipeline, (), datetime.now(UTC), records, {}, 1.0, {})
        replay = Replay([stream], platform.settings.kafka)
        replay.start()
        while not replay.done:
            time.sleep(0.1)
        replay.stop()
        replay.check()
        raw = read_all(platform.settings.kafka, f"events.{pipeline}")
        judged = judge(raw, PIPELINES[pipeline])
        _await_predictions(platform.settings.kafka, expected_rows(pipeline, judged).num_rows)
        predictions = read_all(platform.settings.kafka, "predictions")
    warm = raw[0].appended_ms + 200 * seconds
    trigger = {
        (row["tenant_id"], row["entity_id"], row["feature_end"]): row["trigger_ms"]
        for row in closing_times(pipeline, judged).to_pylist()
    }
    measured = []
    for record in predictions:
        row = json.loads(record.value)
        end = datetime.fromisoformat(row["feature_end"]).astimezone(UTC).replace(tzinfo=None)
        begun = trigger[(row["tenant_id"], row["entity_id"], end)]
        if begun >= warm:
            measured.append(record.appended_ms - begun)
    p50, p90, p99 = np.percentile(measured, [50, 90, 99])
    return {"predictions": len(measured), "p50_ms": float(p50), "p90_ms": float(p90), "p99_ms": float(p99)}


def _events(pipeline: str, count: int) -> list[tuple[str, bytes]]:
    tenants = next(each.tenants for each in DEMO if each.name == pipeline)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    if pipeline == "plant":
        seconds = -(-count // (PUMPS * len(tenants)))
        table = simulate_plant(3, start, timedelta(seconds=seconds), entities=PUMPS, tenants=tenants).events
    else:
        table = telemetry_stream(start, count, tenants=tenants).drop_columns("label")
    return [(row["tenant_id"], encode(row)) for row in table.slice(0, count).to_pylist()]


@contextmanager
def _platform() -> Iterator[Platform]:
    free = {
        "kafka": "127.0.0.1:0",
        "database_url": "postgresql://root@127.0.0.1:0/dev",
        "udf_url": "http://127.0.0.1:0",
        "api_port": 0,
    }
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder_name:
        settings: Settings = load({}, overrides={**free, "data_dir": Path(folder_name)}).settings
        with running_platform(settings, os.environ) as platform:
            register_all(_registry(platform), clock=SystemClock())
            yield platform


def _registry(platform: Platform) -> Any:  # Any: learning asks for less than the registry offers
    settings = platform.settings
    return Registry(
        open_lake(settings),
        settings.resolved_warehouse,
    )


def _apply(platform: Platform, pipeline: str) -> None:
    routes = built_in_routes()
    endpoints = [Endpoint(tenant_id=tenant, endpoint=name) for tenant, name in {(r.tenant_id, r.endpoint) for r in routes}]
    settings = platform.settings
    deployer.apply(
        settings.database_url, folder.find([pipeline]), deployer.variables(settings), endpoints=endpoints, routes=routes
    )


def _await_predictions(bootstrap: str, wanted: int, timeout_seconds: float = 300.0) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition("predictions", 0, OFFSET_BEGINNING)])
    seen, deadline = 0, time.monotonic() + timeout_seconds
    try:
        while seen < wanted:
            seen += sum(message.error() is None for message in consumer.consume(5000, timeout=0.1))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen} of {wanted} predictions after {timeout_seconds:g} s")
    finally:
        consumer.close()


def _raw_parts(platform: Platform, pipeline: str, events: int) -> Mapping[str, dict[str, float]]:
    """The same work without a chain: read the topic, parse and aggregate in DuckDB, run the models."""
    begun = time.perf_counter()
    raw = read_all(platform.settings.kafka, f"events.{pipeline}")
    consumed = time.perf_counter() - begun
    expected = PIPELINES[pipeline]
    lines = [record.value.decode() for record in raw]
    begun = time.perf_counter()
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("lines", pa.table({"line": lines}))
        fields = {
            "tenant_id": "VARCHAR",
            "entity_id": "VARCHAR",
            "event_time": "TIMESTAMP",
            **dict.fromkeys(expected.doubles, "DOUBLE"),
        }
        connection.execute(
            f"CREATE TEMP TABLE events AS SELECT unnest(json_transform(line, '{json.dumps(fields)}')) FROM lines"
        )
        features = [row[0] for row in connection.execute(f"SELECT features FROM ({expected.features})").fetchall()]
    aggregated = time.perf_counter() - begun
    batch = np.array([row for row in features if all(value is not None for value in row)], np.float32)
    model = next(each.model for each in DEMO if each.name == pipeline)
    registry = _registry(platform)
    sessions = [ort.InferenceSession(registry.load_artifact(model, version)) for version in (1, 2)]
    begun = time.perf_counter()
    for session in sessions:
        for start in range(0, len(batch), 1024):
            session.run(["probabilities"], {"features": batch[start : start + 1024]})
    scored = time.perf_counter() - begun
    return {
        name: {"seconds": round(seconds, 3), "events_per_s": round(events / seconds)}
        for name, seconds in {
            "confluent_kafka_consume": consumed,
            "duckdb_parse_and_aggregate": aggregated,
            "session_run": scored,
        }.items()
    }


if __name__ == "__main__":
    main()
