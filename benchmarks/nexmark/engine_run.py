"""One query on the embedded engine: from CREATE MATERIALIZED VIEW to the epoch that has read everything."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from arrow_source import arrow_connector
from events import HERE, tables_of

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.connectors.nexmark_source import SCHEMAS
from engine.front.session import EngineSessions
from engine.main import SWITCH_SECONDS
from engine.runtime.engine import Engine
from engine.session import Result
from engine.sql.numeric import to_float


@dataclass(frozen=True)
class Run:
    """Attributes:
    seconds: from CREATE MATERIALIZED VIEW until every row was read and its epoch committed.
    rows: source rows read.
    epochs: how many epochs that took.
    """

    seconds: float
    rows: int
    epochs: int
    answer: pa.Table
    timings: dict[str, Any]


def run_query(
    query: str,
    tables: Mapping[str, pa.Table],
    settings: EngineSettings,
    kafka: Mapping[str, str] | None = None,
    deadline: float = 300.0,
) -> Run:
    """Run one query over all events.

    Args:
        kafka: topic of each table and `bootstrap`; without it the tables are read from memory.

    Raises:
        TimeoutError: not done within `deadline` seconds.
    """
    sys.setswitchinterval(SWITCH_SECONDS)  # as the engine's own process does
    with tempfile.TemporaryDirectory() as folder, arrow_connector(tables):
        return asyncio.run(_run(query, tables, settings, kafka, deadline, Path(folder)))


async def _run(
    query: str,
    tables: Mapping[str, pa.Table],
    settings: EngineSettings,
    kafka: Mapping[str, str] | None,
    deadline: float,
    folder: Path,
) -> Run:
    engine = Engine(folder, settings, SystemClock())
    engine.start()
    session = await EngineSessions(engine)(database="dev", user="root", options={})

    async def execute(sql: str) -> Any:
        result = None
        for statement in session.parse(sql):
            result = await session.execute(await session.prepare(statement))
        return result

    try:
        for name in tables_of(query):
            await execute(_source_sql(name, kafka))
        wanted = sum(tables[name].num_rows for name in tables_of(query))
        select = (HERE / "queries" / f"{query}.sql").read_text()
        before, began = engine.epochs_run, time.perf_counter()
        await execute(f"CREATE MATERIALIZED VIEW {query} AS {select}")
        while sum(source.rows_read for source in engine.connectors.values()) < wanted:
            if time.perf_counter() - began > deadline:
                raise TimeoutError(f"{query} took more than {deadline} s; problem: {engine.problem}")
            await asyncio.sleep(0.002)
        seconds = time.perf_counter() - began
        (job,) = engine.jobs.values()
        timings = {
            "job_seconds": round(job.seconds, 3),
            "job_statements": job.statements,
            "epoch_seconds": round(engine.epoch_seconds, 3),
        }
        answer = await execute(f"SELECT * FROM {query}")
        return Run(seconds, wanted, engine.epochs_run - before, _plain_numbers(answer), timings)
    finally:
        await asyncio.to_thread(engine.close)


def _plain_numbers(answer: Result) -> pa.Table:
    """The rows, numerics (which are stored as keys) as floats for comparing."""
    rows, fields = answer.rows, answer.fields
    assert rows is not None
    assert fields is not None
    for i, field in enumerate(fields):
        if field.type.name == "numeric":
            values = [None if key is None else to_float(int(key)) for key in rows.column(i).to_pylist()]
            rows = rows.set_column(i, rows.column_names[i], pa.array(values, pa.float64()))
    return rows.rename_columns([field.name for field in fields])


def _source_sql(name: str, kafka: Mapping[str, str] | None) -> str:
    columns = ", ".join(f"{column} {type_.sql}" for column, type_ in SCHEMAS[name.capitalize()])
    if kafka is None:
        return f"CREATE SOURCE {name} ({columns}) WITH (connector = 'arrow', table = '{name}')"
    return (
        f"CREATE SOURCE {name} ({columns}) WITH (connector = 'kafka', topic = '{kafka[name]}',"
        f" properties.bootstrap.server = '{kafka['bootstrap']}') FORMAT PLAIN ENCODE JSON"
    )
