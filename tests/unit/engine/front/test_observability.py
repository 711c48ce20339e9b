"""What the engine tells about itself: relations of rw_catalog, and Prometheus text."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from engine.front.metrics import MetricsServer
from tests.unit.engine.runtime.inprocess import running

_OBJECTS = """
CREATE TABLE t (a int PRIMARY KEY, b int);
CREATE MATERIALIZED VIEW m AS SELECT b, count(*) AS n FROM t GROUP BY b;
CREATE SINK k FROM t WITH (connector = 'blackhole');
CREATE SUBSCRIPTION s FROM m WITH (retention = '1 day');
INSERT INTO t VALUES (1, 1), (2, 1), (3, 2); FLUSH;
"""


def test_rows_and_state_of_each_object_can_be_selected(tmp_path: Path) -> None:
    with running(tmp_path) as session:
        session.run(_OBJECTS)
        rows = session.rows("SELECT name, kind, rows, state_rows > 0 FROM headrace_objects ORDER BY name")
        assert [r for r in rows if r[0] != "k"] == [
            ("m", "materialized view", 2, True),
            ("s", "subscription", 2, False),
            ("t", "table", 3, False),
        ]
        states = session.rows("SELECT DISTINCT object_name, operator FROM headrace_state_tables")
        assert states == [("m", "HashAggregate")]


def test_barriers_jobs_and_logs_can_be_selected(tmp_path: Path) -> None:
    with running(tmp_path) as session:
        session.run(_OBJECTS)
        ((epoch, run, latency, problem),) = session.rows("SELECT epoch, epochs_run, p99_ms, problem FROM headrace_barriers")
        assert epoch == session.engine.epoch
        assert isinstance(run, int)
        assert run >= 1
        assert isinstance(latency, float)
        assert latency > 0
        assert problem is None
        session.engine.problem = "the other side is away"
        assert session.rows("SELECT problem FROM headrace_barriers") == [("the other side is away",)]
        assert session.rows("SELECT name, runs FROM headrace_jobs WHERE name = 'm'") == [("m", 1)]
        assert session.rows("SELECT relation, log_rows FROM headrace_subscriptions") == [("m", 2)]
        assert session.rows("SELECT name, connector, problem FROM headrace_sinks") == [("k", "blackhole", None)]


def test_prometheus_reads_metrics_with_units_and_object_names(tmp_path: Path) -> None:
    with running(tmp_path) as session:
        session.run(_OBJECTS)
        server = MetricsServer(session.engine, "127.0.0.1", 0)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
                families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
        finally:
            server.stop()
    samples = {name: {tuple(s.labels.values()): s.value for s in f.samples} for name, f in families.items()}
    assert samples["headrace_epoch"][()] >= 1
    assert samples["headrace_job_runs"]["dev", "m"] == 1
    assert samples["headrace_objects"]["table",] == 1
    assert samples["headrace_epochs_held_back"][()] == 0
    assert samples["headrace_sink_failing"]["dev", "k"] == 0
    assert ("dev", "k") in samples["headrace_sink_backlog_rows"]
    assert samples["headrace_barrier_latency_recent_seconds"]["0.99",] > 0
    assert samples["headrace_object_rows"]["dev", "materialized view", "m"] == 2
    assert samples["headrace_object_rows"]["dev", "table", "t"] == 3
    assert samples["headrace_state_rows"]["dev", "materialized view", "m"] > 0
    assert ("dev", "materialized view", "m") in samples["headrace_object_size_bytes"]
    assert samples["headrace_sink_lag_epochs"]["dev", "k"] >= 0
    assert families["headrace_barrier_latency_seconds"].type == "histogram"
    buckets = {
        s.labels["le"]: s.value for s in families["headrace_barrier_latency_seconds"].samples if s.name.endswith("_bucket")
    }
    counts = list(buckets.values())
    assert counts == sorted(counts)
    (count,) = [s.value for s in families["headrace_barrier_latency_seconds"].samples if s.name.endswith("_count")]
    assert buckets["+Inf"] == count >= 1
    counters = (
        "headrace_job_runs",
        "headrace_function_failed_rows",
        "headrace_function_processes_ended",
        "headrace_source_records",
    )
    units = ("_seconds", "_rows", "_records", "_bytes", "_epoch", "_epochs", "_objects", "_held_back", "_failing")
    assert all(name.startswith("headrace_") and (name.endswith(units) or name in counters) for name in families)
