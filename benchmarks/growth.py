"""What an epoch costs as the state grows: `python benchmarks/growth.py --json`, about ten minutes on a quiet machine.

A table with N rows feeds one view; then epochs of 1,000 changes each (half of them new keys, half new values of old keys) are
timed from writing to FLUSH. Flat is good: the work should follow the change, not the state. The table itself, its primary key
and the view are all stored, so what is measured is the whole way of a change; `table` is that way without a view.

What is not flat: a key is found by reading the key column of the state (DuckDB has no index that a join uses), 1 ms for a
million rows and statement against 1 ms that a statement costs anyhow. So the curve is flat where the fixed cost is larger and
grows with the state behind that; the factor from 10^4 to 10^6 rows is printed, and must not exceed 3. Processor time is told
beside, because it does not wait for other programs.
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
from numpy.typing import NDArray

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
WARM_UP = 2
LOAD_ROWS = 1_000_000
FLAT_UP_TO = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000,10000000")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/growth-<date>.json")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    load = os.getloadavg()[0]
    found: dict[str, dict[str, Any]] = {}
    for name in VIEWS:
        for size in sizes:
            times = asyncio.run(measure(name, size, arguments.epochs))
            wall, cpu = ([round(t[i], 1) for t in times] for i in (0, 1))
            found.setdefault(name, {})[str(size)] = {
                "median_ms": round(statistics.median(wall), 1), "median_cpu_ms": round(statistics.median(cpu), 1), "epochs_ms": wall,
            }  # fmt: skip
            print(name, size, found[name][str(size)]["median_ms"], "ms", flush=True)
        flat = [found[name][str(size)] for size in sizes if size <= FLAT_UP_TO]
        found[name]["factor"] = round(flat[-1]["median_ms"] / flat[0]["median_ms"], 2)
        found[name]["cpu_factor"] = round(flat[-1]["median_cpu_ms"] / flat[0]["median_cpu_ms"], 2)
    table = as_table(found, sizes)
    if arguments.json:
        now = dt.datetime.now(dt.UTC)
        report = {
            "benchmark": "growth", "date": now.isoformat(timespec="seconds"), "cores": os.cpu_count(), "machine": platform.machine(),
            "python": platform.python_version(), "duckdb": duckdb.__version__, "load_before": round(load, 1), "changes": CHANGES,
            "operators": found,
        }  # fmt: skip
        target = Path(__file__).parent / "results" / f"growth-{now.date()}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(report, indent=1) + "\n")
        target.with_suffix(".md").write_text(f"Growth, {now.date()}, load {load:.1f} on {os.cpu_count()} cores\n\n{table}\n")
    print("\n" + table)


def as_table(found: dict[str, dict[str, Any]], sizes: list[int]) -> str:
    """A table, and behind it the curves: a bar's length is the logarithm of the time."""
    titles = " | ".join(f"{size:,} rows" for size in sizes)
    lines = [f"| operator | {titles} | factor | of processor time |", "|---|" + "---|" * (len(sizes) + 2)]
    for name, by_size in found.items():
        cells = " | ".join(f"{by_size[str(size)]['median_ms']} ms" for size in sizes)
        lines.append(f"| {name} | {cells} | {by_size['factor']} | {by_size['cpu_factor']} |")
    lines += ["", "```text"]
    for name, by_size in found.items():
        for size in sizes:
            median = by_size[str(size)]["median_ms"]
            lines.append(f"{name:12} {size:>12,} {'#' * max(1, round(20 * math.log10(max(median, 1))))} {median} ms")
    return "\n".join([*lines, "```"])


async def measure(name: str, size: int, epochs: int) -> list[tuple[float, float]]:
    """Milliseconds, and those of the processor, of each epoch of CHANGES changes over a state of `size` rows."""
    with tempfile.TemporaryDirectory() as folder:
        # Whatever waits is one epoch, and the view takes the table at once: the loading is not what is measured.
        settings = EngineSettings(epoch_interval_ms=1, epoch_max_rows=10 * LOAD_ROWS, backfill_rows=1 << 40)
        engine = Engine(Path(folder), settings, SystemClock())
        engine.start()
        try:
            session = await EngineSessions(engine)(database="dev", user="root", options={})

            async def execute(sql: str) -> None:
                for statement in session.parse(sql):
                    await session.execute(await session.prepare(statement))

            random = np.random.default_rng(1)
            groups = max(1, size // GROUP_ROWS)

            async def write(table: int, keys: NDArray[np.int64]) -> None:
                engine.write(table, changes(keys, keys % groups, random.integers(0, 1 << 40, len(keys))))
                await asyncio.wrap_future(engine.flush())

            await execute("CREATE TABLE t (id BIGINT PRIMARY KEY, k BIGINT, x BIGINT)")
            table = max(engine.tables)
            if name == "join":
                await execute("CREATE TABLE d (k BIGINT PRIMARY KEY, name VARCHAR)")
                names = np.arange(groups, dtype=np.int64)
                engine.write(max(engine.tables), changes(names, pa.array([f"name {k}" for k in names.tolist()])))
            for first in range(0, size, LOAD_ROWS):
                await write(table, np.arange(first, min(size, first + LOAD_ROWS), dtype=np.int64))
            if VIEWS[name]:
                await execute(VIEWS[name])
            await asyncio.wrap_future(engine.submit(engine.store.checkpoint))
            times = []
            following = size
            for number in range(epochs + WARM_UP):
                old = random.choice(size, CHANGES // 2, replace=False).astype(np.int64)
                new = np.arange(following, following + CHANGES // 2, dtype=np.int64)
                following += CHANGES // 2
                began, busy = time.perf_counter(), time.process_time()
                await write(table, np.concatenate([old, new]))
                if number >= WARM_UP:
                    times.append(((time.perf_counter() - began) * 1000, (time.process_time() - busy) * 1000))
            return times
        finally:
            await asyncio.to_thread(engine.close)


def changes(*columns: Any) -> pa.Table:
    """Insertions with these columns, as the engine's tables take them."""
    table = {f"c{i}": pa.array(column) for i, column in enumerate(columns)}
    return pa.table({**table, "d": pa.array(np.ones(len(columns[0]), np.int8))})


if __name__ == "__main__":
    main()
