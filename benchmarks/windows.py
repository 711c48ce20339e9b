"""What the sixteen window features cost: `python -P benchmarks/windows.py --json`, about four minutes on a quiet machine.

A million events of ten thousand users over 36 days go into the engine in epochs, so that in the last sixth every window loses
events as it gains them. Told are microseconds an event and epoch (all views, committed to disk), the state's rows and bytes, and the
same after every epoch's events by plain DuckDB from all raw events (`history_sql`, the query for the lake): what one would do
without a stream database. At the end both must agree.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import math
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine
from features.templates.windows import WindowFeatures, history_sql, stream_sql

KEYS = ("tenant_id", "entity_id")
EXACT = WindowFeatures(view="w", source="ev", keys=KEYS)
VARIANTS = {
    "exact": EXACT,
    "tiles: 7d by hours, 30d by days": WindowFeatures(
        view="w", source="ev", keys=KEYS, tiles={"7d": dt.timedelta(hours=1), "30d": dt.timedelta(hours=24)}
    ),
}
DAYS = 36
START_US = 1_767_225_600_000_000
COLUMNS = ("tenant_id", "entity_id", "action", "value", "event_time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--epoch", type=int, default=5_000)
    parser.add_argument("--variants", default=",".join(VARIANTS), help="names, with commas between them")
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/windows-<date>.json")
    asked = parser.parse_args()
    events = make_events(asked.events, asked.users)
    load = os.getloadavg()[0]
    found: dict[str, Any] = {}
    for name, features in VARIANTS.items():
        if name in asked.variants:
            found[name] = asyncio.run(measure(features, events, asked.epoch))
            print(name, json.dumps({key: value for key, value in found[name].items() if key != "answer"}))
    found["DuckDB, all anew each epoch"], answer = recompute(events, asked.epoch)
    print(json.dumps(found["DuckDB, all anew each epoch"]))
    exact = found.get("exact")
    if exact is not None:
        compare(exact["answer"], answer)
    for each in found.values():
        each.pop("answer", None)
    document = {
        "recorded": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
        "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "load_before": round(load, 1)},
        "events": asked.events, "users": asked.users, "epoch_events": asked.epoch, "days": DAYS, "found": found,
    }  # fmt: skip
    if asked.json:
        file = Path(__file__).parent / "results" / f"windows-{dt.datetime.now(dt.UTC):%Y-%m-%d}.json"
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def make_events(count: int, users: int) -> pa.Table:
    drawn = np.random.default_rng(16)
    at = START_US + (np.arange(count) / count * DAYS * 86_400_000_000).astype(np.int64)
    columns = [
        pa.array(["acme"] * count),
        pa.array([f"user-{number}" for number in drawn.integers(0, users, count)]),
        pa.array(np.array(["view", "click", "like", "purchase"])[drawn.choice(4, count, p=[0.7, 0.2, 0.07, 0.03])]),
        pa.array(np.round(drawn.gamma(2, 3, count), 2)),
        pa.array(at, pa.timestamp("us")),
    ]
    return pa.table(columns, names=list(COLUMNS))


async def measure(features: WindowFeatures, events: pa.Table, epoch: int) -> dict[str, Any]:
    settings = EngineSettings(epoch_interval_ms=3_600_000, epoch_max_rows=10**9, memory_limit="3GB", threads=1)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder) / "engine", settings, SystemClock())
        engine.start()
        session = await EngineSessions(engine)(database="dev", user="root", options={})

        async def run(sql: str) -> Any:
            result = None
            for statement in session.parse(sql):
                result = await session.execute(await session.prepare(statement))
            return result

        try:
            await run(
                "CREATE TABLE ev (tenant_id VARCHAR, entity_id VARCHAR, action VARCHAR, value DOUBLE PRECISION, event_time TIMESTAMPTZ)"
                " APPEND ONLY; FLUSH"
            )
            await run(stream_sql(features))
            relation = next(each for each in engine.catalog.objects.values() if each.name == "ev")
            times, busy = [], []
            for start in range(0, events.num_rows, epoch):
                part = events.slice(start, epoch).combine_chunks()
                rows = {f"c{i}": part.column(i) for i in range(len(COLUMNS))}
                number = pa.array(np.arange(start, start + part.num_rows, dtype=np.int64))
                rows |= {f"c{len(COLUMNS) + i}": number for i in range(len(relation.columns) - len(COLUMNS))}
                rows["d"] = pa.array(np.ones(part.num_rows, np.int8))
                engine.write(relation.id, pa.table(rows))
                began, used = time.perf_counter(), time.process_time()
                await run("FLUSH")
                times.append(time.perf_counter() - began)
                busy.append(time.process_time() - used)
            state = await run(
                "SELECT object_name, sum(rows)::bigint AS n FROM rw_catalog.headrace_state_tables GROUP BY object_name"
            )
            answer = await run(f"SELECT entity_id, {', '.join(EXACT.columns())} FROM w")
            kept = dict(zip(state.rows.column(0).to_pylist(), state.rows.column(1).to_pylist(), strict=True))
        finally:
            await asyncio.to_thread(engine.close)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    steady = slice(len(times) * 5 // 6, None)
    return {
        "us_per_event": round(statistics.mean(times[steady]) / epoch * 1e6, 1),
        "cpu_us_per_event": round(statistics.mean(busy[steady]) / epoch * 1e6, 1),
        "epoch_ms": {"p50": round(statistics.median(times[steady]) * 1e3, 1), "max": round(max(times[steady]) * 1e3, 1)},
        "first_epochs_us_per_event": round(statistics.mean(times[1:5]) / epoch * 1e6, 1),
        "state_rows": kept,
        "bytes_on_disk": size,
        "answer": dict(
            zip(
                answer.rows.column(0).to_pylist(),
                zip(*(c.to_pylist() for c in answer.rows.columns[1:]), strict=True),
                strict=True,
            )
        ),
    }


def recompute(events: pa.Table, epoch: int) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """All features of all users from all events, as at the end: what an epoch would cost without keeping anything."""
    lake = duckdb.connect(config={"threads": 1})
    lake.register("given", events)
    lake.execute("CREATE TABLE events AS SELECT * FROM given")
    lake.execute(
        "CREATE TABLE points AS SELECT DISTINCT tenant_id, entity_id, (SELECT max(event_time) FROM events) AS moment FROM events"
    )
    times, rows = [], []
    for _ in range(3):
        began = time.perf_counter()
        rows = lake.execute(
            f"SELECT entity_id, {', '.join(EXACT.columns())} FROM ({history_sql(EXACT)}) WHERE count_30d > 0"
        ).fetchall()
        times.append(time.perf_counter() - began)
    told = {
        "epoch_ms": {"p50": round(statistics.median(times) * 1e3, 1)},
        "us_per_event": round(statistics.median(times) / epoch * 1e6, 1),
    }
    return told, {row[0]: row[1:] for row in rows}


def compare(found: dict[str, tuple[Any, ...]], wanted: dict[str, tuple[Any, ...]]) -> None:
    assert found.keys() == wanted.keys(), "the same users"
    for user, values in wanted.items():
        for name, one, other in zip(EXACT.columns(), found[user], values, strict=True):
            assert (one is None) == (other is None), (user, name)
            assert one is None or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9), (user, name, one, other)
    print(f"{len(wanted)} users agree")


if __name__ == "__main__":
    main()
