"""From INSERT to visible, three views deep: `python benchmarks/freshness.py --json`.

The engine is a process of its own. A writer inserts 1,000 rows a second over the PostgreSQL wire in statements of ten rows; a
reader polls the third view. The delay of a row is from just before its INSERT is sent until a read has seen it, so half a polling
interval is part of it. A writer that falls behind its rate is told in the report: then the figures are those of a full machine.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg

from core.settings import EngineSettings
from engine.main import run

SCRIPT = """
CREATE TABLE t (id BIGINT, sensor BIGINT, x DOUBLE PRECISION);
CREATE MATERIALIZED VIEW v1 AS SELECT id, sensor, x * 2 AS y FROM t WHERE x >= 0;
CREATE MATERIALIZED VIEW v2 AS SELECT sensor, count(*) AS n, max(id) AS last FROM v1 GROUP BY sensor;
CREATE MATERIALIZED VIEW v3 AS SELECT sum(n) AS n, max(last) AS last FROM v2;
"""
BATCH = 10
SENSORS = 100
POLL_SECONDS = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1000, help="rows a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--interval-ms", type=int, default=EngineSettings().epoch_interval_ms)
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/freshness-<date>.json")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with served(arguments.interval_ms) as address:
        found, reached = asyncio.run(measure(address, arguments.rate, arguments.seconds))
    delays = sorted(found)
    figures = {
        name: round(delays[min(len(delays) - 1, int(len(delays) * share))] * 1000)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    report = {
        "benchmark": "freshness", "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "cores": os.cpu_count(),
        "machine": platform.machine(), "python": platform.python_version(), "load_before": round(load, 1),
        "rows_per_second": arguments.rate, "reached_rows_per_second": round(reached), "rows": len(delays) * BATCH, "epoch_interval_ms": arguments.interval_ms,
        "delay_ms": figures | {"most": round(delays[-1] * 1000)},
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if arguments.json:
        target = Path(__file__).parent / "results" / f"freshness-{dt.datetime.now(dt.UTC).date()}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(report, indent=1) + "\n")


@contextmanager
def served(interval_ms: int) -> Iterator[str]:
    """An engine in a process of its own; gives its address."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(folder, interval_ms, theirs))
        process.start()
        try:
            if not ours.poll(60):
                raise TimeoutError("the engine did not start")
            yield f"host=127.0.0.1 port={ours.recv()} user=root dbname=dev"
        finally:
            process.terminate()
            process.join(30)


def serve(folder: str, interval_ms: int, ready: Connection) -> None:
    settings = EngineSettings(epoch_interval_ms=interval_ms, metrics_port=None)
    run(Path(folder), "127.0.0.1", 0, settings, on_ready=ready.send)


async def measure(address: str, rate: int, seconds: float) -> tuple[list[float], float]:
    """Seconds from INSERT to visible, one figure a statement; and the rows a second that were reached."""
    connect = psycopg.AsyncConnection.connect
    async with await connect(address, autocommit=True) as writer, await connect(address, autocommit=True) as reader:
        for statement in SCRIPT.split(";"):
            if statement.strip():
                await writer.execute(statement.encode())
        sent: list[float] = []
        delays: list[float] = []
        total = int(rate * seconds) // BATCH
        insert = f"INSERT INTO t VALUES {', '.join(['(%s, %s, %s)'] * BATCH)}".encode()

        async def write() -> float:
            began = time.perf_counter()
            for number in range(total):
                await asyncio.sleep(max(0.0, began + number * BATCH / rate - time.perf_counter()))
                rows = [v for i in range(number * BATCH, (number + 1) * BATCH) for v in (i, i % SENSORS, i + 0.5)]
                sent.append(time.perf_counter())
                await writer.execute(insert, rows)
            return total * BATCH / (time.perf_counter() - began)

        async def read() -> None:
            deadline = time.perf_counter() + 3 * seconds + 60
            while len(delays) < total:
                if time.perf_counter() > deadline:
                    raise TimeoutError(f"{len(delays)} of {total} statements were seen")
                row = await (await reader.execute("SELECT last FROM v3")).fetchone()
                now = time.perf_counter()
                seen = 0 if row is None or row[0] is None else (int(row[0]) + 1) // BATCH
                delays.extend(now - moment for moment in sent[len(delays) : seen])
                await asyncio.sleep(POLL_SECONDS)

        reached, _ = await asyncio.gather(write(), read())
        return delays, reached


if __name__ == "__main__":
    main()
