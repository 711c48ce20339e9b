"""What a small append costs, and how it grows with the history: ours, and PyIceberg's own transaction.

    .venv/bin/python benchmarks/iceberg_append.py [--appends 1000] [--peer-appends 300]

Each append adds 100 rows of two tenants to a table with the schema and the partitioning of `lake.predictions` and sets a
table property in the same commit. Ours syncs every file before the pointer is swapped; PyIceberg's does not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog

from core.clock import SystemClock
from iceberg.catalog import open_catalog
from iceberg.rows import conform
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import PREDICTIONS, ensure_tables

STEPS = 5


def batch(rows: int = 100) -> pa.Table:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "prediction_id": [f"p{n}" for n in range(rows)],
            "tenant_id": [f"tenant-{n % 2}" for n in range(rows)],
            "endpoint": ["plant.health"] * rows,
            "feature_end": pa.array([now] * rows, pa.timestamp("us", tz="UTC")),
            "features": pa.array([[0.1 * n for n in range(7)]] * rows),
            "score": [0.5] * rows,
            "members": ['{"model":"plant","version":1,"weight":0.5}'] * rows,
        }
    )


def ours(catalog: Catalog) -> Callable[[int], None]:
    sink, rows = ExactlyOnceTable(catalog, PREDICTIONS.identifier, uuid.uuid4(), clock=SystemClock()), batch()
    return lambda epoch: assert_added(sink.append(epoch, rows))


def pyicebergs(catalog: Catalog) -> Callable[[int], None]:
    table = catalog.load_table(PREDICTIONS.identifier)
    rows = conform(table, batch(), {"sink_epoch": 1})

    def append(epoch: int) -> None:
        with table.transaction() as change:
            change.append(rows)
            change.set_properties({"headrace.sink.peer.epoch": str(epoch)})

    return append


def assert_added(added: bool) -> None:
    if not added:
        raise AssertionError("nothing was appended")


def run(name: str, append: Callable[[int], None], appends: int) -> None:
    for step in range(STEPS):
        times = []
        for n in range(appends // STEPS):
            started = time.perf_counter()
            append(step * (appends // STEPS) + n + 1)
            times.append((time.perf_counter() - started) * 1000)
        times.sort()
        print(
            f"{name:10} snapshots {(step + 1) * (appends // STEPS):5}   "
            f"median {statistics.median(times):7.1f} ms   p99 {times[int(len(times) * 0.99) - 1]:7.1f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--appends", type=int, default=1000)
    parser.add_argument("--peer-appends", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, appends in (("headrace", arguments.appends), ("pyiceberg", arguments.peer_appends)):
            path = Path(folder) / name
            catalog = open_catalog("jdbc", f"jdbc:sqlite:{path}/catalog.db", f"{path}/warehouse")
            ensure_tables(catalog, (PREDICTIONS,))
            if name == "headrace":
                run(name, ours(catalog), appends)
            else:
                run(name, pyicebergs(SqlCatalog("headrace", uri=f"sqlite:///{path}/catalog.db")), appends)


if __name__ == "__main__":
    main()
