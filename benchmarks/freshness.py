"""From INSERT to visible, three views deep: `python benchmarks/freshness.py --json`.

A writer inserts 1,000 rows a second in statements of ten rows over the PostgreSQL session; a reader polls the third view. The
delay of a row is from just before its INSERT is sent until a read has seen it, so half a polling interval is part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import tempfile
import time
from pathlib import Path

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine

SCRIPT = """
CREATE TABLE t (id BIGINT, sensor BIGINT, x DOUBLE PRECISION);
CREATE MATERIALIZED VIEW v1 AS SELECT id, sensor, x * 2 AS y FROM t WHERE x >= 0;
CREATE MATERIALIZED VIEW v2 AS SELECT sensor, count(*) AS n, max(id) AS last FROM v1 GROUP BY sensor;
CREATE MATERIALIZED VIEW v3 AS SELECT sum(n) AS n, max(last) AS last FROM v2;
"""
BATCH = 10
SENSORS = 100
POLL_SECONDS = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1000, help="rows a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--interval-ms", type=int, default=EngineSettings().epoch_interval_ms)
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/freshness-<date>.json")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    delays = sorted(asyncio.run(measure(arguments.rate, arguments.seconds, arguments.interval_ms)))
    figures = {
        name: round(delays[min(len(delays) - 1, int(len(delays) * share))] * 1000)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    report = {
        "benchmark": "freshness", "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "cores": os.cpu_count(),
        "load_before": load, "rows_per_second": arguments.rate, "rows": len(delays) * BATCH, "epoch_interval_ms": arguments.interval_ms,
        "delay_ms": figures | {"most": round(delays[-1] * 1000)},
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if arguments.json:
        target = Path(__file__).parent / "results" / f"freshness-{dt.datetime.now(dt.UTC).date()}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(report, indent=1) + "\n")


async def measure(rate: int, seconds: float, interval_ms: int) -> list[float]:
    """Seconds from INSERT to visible, one figure a statement."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder), EngineSettings(epoch_interval_ms=interval_ms), SystemClock())
        engine.start()
        try:
            sessions = EngineSessions(engine)
            writer, reader = [await sessions(database="dev", user="root", options={}) for _ in range(2)]
            for statement in writer.parse(SCRIPT):
                await writer.execute(await writer.prepare(statement))
            sent: list[float] = []
            delays: list[float] = []
            total = int(rate * seconds) // BATCH

            async def write() -> None:
                began = time.perf_counter()
                for number in range(total):
                    await asyncio.sleep(max(0.0, began + number * BATCH / rate - time.perf_counter()))
                    rows = ", ".join(f"({i}, {i % SENSORS}, {i}.5)" for i in range(number * BATCH, (number + 1) * BATCH))
                    sent.append(time.perf_counter())
                    (statement,) = writer.parse(f"INSERT INTO t VALUES {rows}")
                    await writer.execute(await writer.prepare(statement))

            async def read() -> None:
                deadline = time.perf_counter() + seconds + 30
                while len(delays) < total:
                    if time.perf_counter() > deadline:
                        raise TimeoutError(f"{len(delays)} of {total} statements were seen")
                    (statement,) = reader.parse("SELECT last FROM v3")
                    answer = await reader.execute(await reader.prepare(statement))
                    now, last = time.perf_counter(), answer.rows.column(0)[0].as_py()
                    seen = 0 if last is None else (int(last) + 1) // BATCH
                    delays.extend(now - moment for moment in sent[len(delays) : seen])
                    await asyncio.sleep(POLL_SECONDS)

            await asyncio.gather(write(), read())
            return delays
        finally:
            await asyncio.to_thread(engine.close)


if __name__ == "__main__":
    main()
