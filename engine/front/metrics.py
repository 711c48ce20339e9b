"""What the engine does, for Prometheus: text on a port of its own, read from the engine's objects when it is asked for.

Names end in their unit. Labels are names of objects, of which there are as many as the user created.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from core.errors import HeadraceError
from engine.front.live import live_relations, quantile
from engine.runtime.engine import Engine

logger = logging.getLogger(__name__)

_COUNT_SECONDS = 5.0  # a scrape waits ten seconds by default; counting backlogs must not use that up


class EngineCollector(Collector):
    """Makes all metrics of one engine, anew at every scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        yield from self._barriers()
        yield from self._objects()
        yield from self._jobs()
        yield from self._sources()
        yield from self._sinks()

    def _barriers(self) -> Iterator[Metric]:
        engine = self._engine
        yield GaugeMetricFamily("headrace_epoch", "Number of the last committed epoch.", value=engine.epoch)
        latency = HistogramMetricFamily("headrace_barrier_latency_seconds", "From the cut of an epoch to its commit.")
        latency.add_metric([], engine.epoch_latency.buckets(), engine.epoch_latency.sum_seconds)
        yield latency
        recent = GaugeMetricFamily(
            "headrace_barrier_latency_recent_seconds", "The same over the last 1,000 epochs, by quantile.", labels=["quantile"]
        )
        ordered = sorted(engine.recent_epoch_seconds)
        for share in (0.5, 0.95, 0.99):
            recent.add_metric([str(share)], quantile(ordered, share))
        yield recent
        held = int(engine.problem is not None)
        yield GaugeMetricFamily("headrace_epochs_held_back", "1 while epochs cannot be committed, else 0.", value=held)
        failed = CounterMetricFamily("headrace_function_failed_rows", "Rows on which a user's function raised.")
        failed.add_metric([], engine.udfs.failed_rows)
        yield failed
        ended = CounterMetricFamily("headrace_function_processes_ended", "Worker processes that a user's function ended.")
        ended.add_metric([], engine.udfs.workers.deaths)
        yield ended
        kinds = GaugeMetricFamily("headrace_objects", "Objects of the catalog.", labels=["kind"])
        objects = [o.kind for o in engine.catalog.objects.values() if o.database]
        for kind in sorted(set(objects)):
            kinds.add_metric([kind], objects.count(kind))
        yield kinds

    def _objects(self) -> Iterator[Metric]:
        """What each object stores, in one query; nothing where the engine is too busy to count."""
        labels = ["database", "object", "kind"]
        stored = GaugeMetricFamily("headrace_object_rows", "Rows of tables, views, outboxes and subscriptions.", labels=labels)
        state = GaugeMetricFamily("headrace_state_rows", "Rows in the state of an object's operators.", labels=labels)
        size = GaugeMetricFamily(
            "headrace_object_size_bytes", "Rows and state on disk, as of the last checkpoint.", labels=labels
        )
        sql = live_relations(self._engine)["headrace_objects"]()
        for number, _, _, kind, rows, state_rows, _, size_bytes in self._select(sql) if isinstance(sql, str) else ():
            found = self._engine.catalog.objects.get(number)
            if found is None:
                continue
            names = [found.database, found.name, kind]
            if rows is not None:
                stored.add_metric(names, rows)
            state.add_metric(names, state_rows)
            size.add_metric(names, size_bytes)
        yield from (stored, state, size)

    def _jobs(self) -> Iterator[Metric]:
        labels = ["database", "object"]
        seconds = CounterMetricFamily("headrace_job_seconds", "Time in epochs that an object took.", labels=labels)
        runs = CounterMetricFamily("headrace_job_runs", "Epochs in which an object had something to do.", labels=labels)
        for _, job in sorted(self._engine.jobs.items()):
            seconds.add_metric([job.object.database, job.object.name], job.seconds)
            runs.add_metric([job.object.database, job.object.name], job.runs)
        yield from (seconds, runs)

    def _sources(self) -> Iterator[Metric]:
        labels = ["database", "source"]
        read = CounterMetricFamily("headrace_source_records", "Records read and committed.", labels=labels)
        lag = GaugeMetricFamily("headrace_source_lag_records", "Records that wait at the other side.", labels=labels)
        reached = GaugeMetricFamily(
            "headrace_source_watermark_timestamp_seconds",
            "Event time that the watermark has reached, as Unix time.",
            labels=labels,
        )
        for _, source in sorted(self._engine.connectors.items()):
            names = [source.relation.database, source.relation.name]
            read.add_metric(names, source.rows_read)
            lag.add_metric(names, sum(source.reader.lag().values()))
            if isinstance(source.watermark, datetime):
                reached.add_metric(names, source.watermark.replace(tzinfo=UTC).timestamp())
        waiting = GaugeMetricFamily(
            "headrace_table_waiting_rows", "Rows written and not committed yet.", labels=["database", "table"]
        )
        for _, table in sorted(self._engine.tables.items()):
            waiting.add_metric([table.relation.database, table.relation.name], table.pending)
        yield from (read, lag, reached, waiting)

    def _sinks(self) -> Iterator[Metric]:
        labels = ["database", "sink"]
        backlog = GaugeMetricFamily("headrace_sink_backlog_rows", "Rows committed and not delivered yet.", labels=labels)
        behind = GaugeMetricFamily("headrace_sink_lag_epochs", "Epochs since the oldest row that waits.", labels=labels)
        stuck = GaugeMetricFamily("headrace_sink_failing", "1 while a sink cannot deliver, else 0.", labels=labels)
        for _, delivery in sorted(self._engine.deliveries.items()):
            names = [delivery.sink.database, delivery.sink.name]
            stuck.add_metric(names, int(delivery.problem is not None))
            count = self._count(f"SELECT count(*) AS n FROM {delivery.sink.outbox} WHERE epoch > {delivery.delivered}")
            if count is not None:
                backlog.add_metric(names, count)
                behind.add_metric(names, self._engine.epoch - delivery.delivered if count else 0)
        yield from (backlog, behind, stuck)

    def _count(self, sql: str) -> int | None:
        """A count, or nothing when the sink goes away in this moment or the engine is too busy."""
        rows = self._select(sql)
        return int(rows[0][0]) if rows else None

    def _select(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query of our own; none when what it reads goes away in this moment or the engine is too busy."""
        try:
            found = self._engine.reads.submit(sql).result(_COUNT_SECONDS)
        except (HeadraceError, FutureTimeout, RuntimeError) as error:
            logger.info("not counted", extra={"error": str(error)})
            return []
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


class MetricsServer:
    """Serves the metrics over HTTP until it is stopped.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, engine: Engine, host: str, port: int) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(EngineCollector(engine))
        self._server, self._thread = start_http_server(port, host, registry)
        self.port = int(self._server.server_port)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)
