"""What only the running engine knows, as relations of `rw_catalog`: rows, state, latency, lag, backlog, problems.

Counts are SELECTs over the stored tables, so that they run where queries run; the rest is read from the engine's objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.catalog.objects import CatalogObject, MaterializedView, Relation, Sink, Subscription
from engine.catalog.pg_catalog import schema_oid
from engine.catalog.relations import OWNER_ID, LiveRows, Row
from engine.plan.stream import operators
from engine.runtime.backfill import Backfill
from engine.runtime.engine import Engine
from engine.runtime.jobs import Job
from engine.sql.expressions import quote_string


def live_relations(engine: Engine) -> Mapping[str, LiveRows]:
    """Rows by relation name."""
    return {
        "headrace_objects": lambda: _objects(engine),
        "headrace_state_tables": lambda: _state_tables(engine),
        "headrace_jobs": lambda: _jobs(engine),
        "headrace_barriers": lambda: _barriers(engine),
        "headrace_sources": lambda: _sources(engine),
        "headrace_sinks": lambda: _sinks(engine),
        "headrace_subscriptions": lambda: _subscriptions(engine),
        "rw_internal_tables": lambda: _internal_tables(engine),
        "rw_table_stats": lambda: _table_stats(engine),
        "rw_ddl_progress": lambda: _ddl_progress(engine),
    }


def stored_table(found: CatalogObject) -> str | None:
    """The DuckDB table that holds an object's rows, if it has one."""
    if isinstance(found, MaterializedView) or (isinstance(found, Relation) and found.kind == "table"):
        return found.physical
    if isinstance(found, Subscription):
        return found.log
    return found.outbox if isinstance(found, Sink) and not found.into else None


def state_names(job: Job) -> list[tuple[str, str]]:
    """State tables of a job's operators: (table, operator)."""
    return [(table.name, operator.name) for operator in operators(job.root) for table in operator.state()]


def _count(table: str) -> str:
    return f"(SELECT count(*) FROM {table})"


def _bytes(table: str) -> str:
    """Blocks of 256 KiB that the table fills on disk; what is only in the write-ahead log counts as nothing."""
    return f"(SELECT count(DISTINCT block_id) * 262144 FROM pragma_storage_info('{table}') WHERE persistent AND block_id >= 0)"


def _union(selects: list[str]) -> Iterable[Row] | str:
    return " UNION ALL ".join(selects) if selects else ()


def _objects(engine: Engine) -> Iterable[Row] | str:
    selects = []
    for found in _named(engine):
        table, job = stored_table(found), engine.jobs.get(found.id)
        states = [name for name, _ in state_names(job)] if job is not None else []
        rows = _count(table) if table is not None else "CAST(NULL AS BIGINT)"
        state_rows = " + ".join(_count(name) for name in states) or "0"
        size = " + ".join(_bytes(name) for name in [*([table] if table else []), *states]) or "0"
        selects.append(
            f"SELECT {found.id} AS c0, {quote_string(found.name)} AS c1, {quote_string(found.schema)} AS c2, {quote_string(found.kind)}"
            f" AS c3, {rows} AS c4, CAST({state_rows} AS BIGINT) AS c5, {len(states)} AS c6, CAST({size} AS BIGINT) AS c7"
        )
    return _union(selects)


def _state_tables(engine: Engine) -> Iterable[Row] | str:
    selects = []
    for found in _named(engine):
        job = engine.jobs.get(found.id)
        for name, operator in state_names(job) if job is not None else []:
            selects.append(
                f"SELECT {found.id} AS c0, {quote_string(found.name)} AS c1, {quote_string(name)} AS c2, {quote_string(operator)} AS c3,"
                f" {_count(name)} AS c4"
            )
    return _union(selects)


def _internal_tables(engine: Engine) -> Iterable[Row]:
    number = 0
    for found in _named(engine):
        job = engine.jobs.get(found.id)
        for name, _operator in state_names(job) if job is not None else []:
            number += 1
            yield (number, name.removeprefix("hr."), schema_oid(found.schema), OWNER_ID, None, None, found.schema, found.id)


def _table_stats(engine: Engine) -> Iterable[Row] | str:
    tables = [(found.id, table) for found in _named(engine) if (table := stored_table(found)) is not None]
    return _union([f"SELECT {i} AS c0, {_count(t)} AS c1, CAST(0 AS BIGINT) AS c2, {_bytes(t)} AS c3" for i, t in tables])


def _named(engine: Engine) -> list[CatalogObject]:
    return sorted((o for o in engine.catalog.objects.values() if o.database), key=lambda o: o.id)


def _jobs(engine: Engine) -> Iterable[Row]:
    for number, job in sorted(engine.jobs.items()):
        mean_ms = 1000 * job.seconds / job.runs if job.runs else 0.0
        yield (number, job.object.name, job.object.kind, job.runs, job.statements, job.seconds, mean_ms)


def progress_text(backfill: Backfill) -> str:
    """As RisingWave shows it."""
    return f"{100 * backfill.share:.2f}%"


def _ddl_progress(engine: Engine) -> Iterable[Row]:
    for number, backfill in sorted(engine.backfills.items()):
        yield (number, backfill.object.sql, progress_text(backfill), backfill.began_at.replace(tzinfo=None))


def _barriers(engine: Engine) -> Iterable[Row]:
    recent = sorted(engine.recent_epoch_seconds)
    last = engine.recent_epoch_seconds[-1] if recent else 0.0
    mean_ms = 1000 * engine.epoch_seconds / engine.epochs_run if engine.epochs_run else 0.0
    yield (
        engine.epoch, engine.epochs_run, mean_ms, 1000 * last, 1000 * quantile(recent, 0.5), 1000 * quantile(recent, 0.99),
        engine.problem or engine.back_pressure.problem,
    )  # fmt: skip


def quantile(ordered: list[float], share: float) -> float:
    """The value that `share` of an ordered list does not exceed; 0 when it is empty."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _sources(engine: Engine) -> Iterable[Row]:
    for number, source in sorted(engine.connectors.items()):
        lags = source.reader.lag()
        for partition, position in sorted(source.positions.items()):
            yield (number, source.relation.name, partition, position, lags.get(partition), source.rows_read, source.watermark)
    for number, table in sorted(engine.tables.items()):
        if table.watermark is not None:
            yield (number, table.relation.name, None, None, table.pending, table.rows_read, table.watermark)


def _sinks(engine: Engine) -> Iterable[Row] | str:
    selects = []
    for number, delivery in sorted(engine.deliveries.items()):
        sink = delivery.sink
        waiting = f"FROM {sink.outbox} WHERE epoch > {delivery.delivered}"
        problem = quote_string(delivery.problem) if delivery.problem else "CAST(NULL AS VARCHAR)"
        selects.append(
            f"SELECT {number} AS c0, {quote_string(engine.catalog.get(number).name)} AS c1, {quote_string(sink.options.get('connector', ''))} AS c2,"
            f" CAST({delivery.delivered} AS BIGINT) AS c3, (SELECT count(*) {waiting}) AS c4, (SELECT count(DISTINCT epoch) {waiting}) AS c5,"
            f" {problem} AS c6"
        )
    return _union(selects)


def _subscriptions(engine: Engine) -> Iterable[Row] | str:
    selects = []
    for found in _named(engine):
        if isinstance(found, Subscription):
            relation = engine.catalog.get(found.relation).name
            selects.append(
                f"SELECT {found.id} AS c0, {quote_string(found.name)} AS c1, {quote_string(relation)} AS c2, {_count(found.log)} AS c3,"
                f" (SELECT min(ts) FROM {found.log}) AS c4, CAST({found.retention_seconds} AS DOUBLE) AS c5"
            )
    return _union(selects)
