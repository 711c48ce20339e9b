"""What an epoch costs as the state grows: `python benchmarks/growth.py --json`.

A table with N rows feeds one view; then epochs of 1,000 changes each (half of them new keys, half new values of old keys) are
timed from writing to FLUSH. Flat is good: the work should follow the change, not the state. The table itself, its primary key
and the view are all stored, so what is measured is the whole way of a change.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine

VIEWS = {
    "table": "",
    "aggregate": "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, sum(x) AS total FROM t GROUP BY k",
    "join": "CREATE MATERIALIZED VIEW v AS SELECT t.id, t.x, d.name FROM t JOIN d ON t.k = d.k",
    "top-N": "CREATE MATERIALIZED VIEW v AS SELECT id, x FROM t ORDER BY x DESC LIMIT 10",
    "over window": "CREATE MATERIALIZED VIEW v AS SELECT id, k, row_number() OVER (PARTITION BY k ORDER BY x) AS place FROM t",
}
CHANGES = 1000
GROUP_ROWS = 10
LOAD_ROWS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/growth-<date>.json")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    load = os.getloadavg()[0]
    found: dict[str, dict[str, Any]] = {}
    for name in VIEWS:
        for size in sizes:
            times = asyncio.run(measure(name, size, arguments.epochs))
            found.setdefault(name, {})[str(size)] = {
                "median_ms": round(statistics.median(times), 1),
                "epochs_ms": [round(t, 1) for t in times],
            }
            print(name, size, found[name][str(size)]["median_ms"], "ms", flush=True)
        first, last = (found[name][str(size)]["median_ms"] for size in (sizes[0], sizes[-1]))
        found[name]["factor"] = round(last / first, 2)
    if arguments.json:
        now = dt.datetime.now(dt.UTC)
        report = {"benchmark": "growth", "date": now.isoformat(timespec="seconds"), "cores": os.cpu_count(), "load_before": load, "changes": CHANGES, "operators": found}  # fmt: skip
        target = Path(__file__).parent / "results" / f"growth-{now.date()}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(report, indent=1) + "\n")
    print("\n| operator | " + " | ".join(f"{size:,} rows" for size in sizes) + " | factor |\n|---|" + "---|" * (len(sizes) + 1))
    for name, by_size in found.items():
        print(
            f"| {name} | " + " | ".join(f"{by_size[str(size)]['median_ms']} ms" for size in sizes) + f" | {by_size['factor']} |"
        )


async def measure(name: str, size: int, epochs: int) -> list[float]:
    """Milliseconds of each epoch of CHANGES changes, over a state of `size` rows."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder), EngineSettings(epoch_interval_ms=1, epoch_max_rows=10 * LOAD_ROWS), SystemClock())
        engine.start()
        try:
            session = await EngineSessions(engine)(database="dev", user="root", options={})

            async def execute(sql: str) -> None:
                for statement in session.parse(sql):
                    await session.execute(await session.prepare(statement))

            await execute("CREATE TABLE t (id BIGINT PRIMARY KEY, k BIGINT, x BIGINT)")
            ids = {"t": max(engine.tables)}
            if name == "join":
                await execute("CREATE TABLE d (k BIGINT PRIMARY KEY, name VARCHAR)")
                ids["d"] = max(engine.tables)
                keys = np.arange(max(1, size // GROUP_ROWS), dtype=np.int64)
                engine.write(ids["d"], changes(keys, pa.array([f"name {k}" for k in keys.tolist()])))
            if VIEWS[name]:
                await execute(VIEWS[name])
            random = np.random.default_rng(1)
            groups = max(1, size // GROUP_ROWS)
            for first in range(0, size, LOAD_ROWS):
                keys = np.arange(first, min(size, first + LOAD_ROWS), dtype=np.int64)
                engine.write(ids["t"], changes(keys, keys % groups, random.integers(0, 1 << 40, len(keys))))
                await asyncio.wrap_future(engine.flush())
            times = []
            following = size
            for _ in range(epochs):
                old = random.choice(size, CHANGES // 2, replace=False).astype(np.int64)
                new = np.arange(following, following + CHANGES // 2, dtype=np.int64)
                following += CHANGES // 2
                keys = np.concatenate([old, new])
                began = time.perf_counter()
                engine.write(ids["t"], changes(keys, keys % groups, random.integers(0, 1 << 40, len(keys))))
                await asyncio.wrap_future(engine.flush())
                times.append((time.perf_counter() - began) * 1000)
            return times
        finally:
            await asyncio.to_thread(engine.close)


def changes(*columns: Any) -> pa.Table:
    """Insertions with these columns, as the engine's tables take them."""
    table = {f"c{i}": pa.array(column) for i, column in enumerate(columns)}
    return pa.table({**table, "d": pa.array(np.ones(len(columns[0]), np.int8))})


if __name__ == "__main__":
    main()
