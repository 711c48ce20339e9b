"""Merge by key, small commits, and compaction, each beside what PyIceberg or plain pyarrow does with the same data.

    .venv/bin/python benchmarks/merge.py [--rows 1000000] [--keys 10000] [--repeats 3] [--json FILE]

Merge: 10,000 keys, nearly all of them there, into 1,000,000 rows x 18 columns in 8 data files. Every contestant gets a table of
its own with the same rows; the tables must be equal row by row before any time counts. What a merge leaves to readers is measured,
too: a full scan by PyIceberg afterwards. Ours syncs every file to the disk before the pointer is swapped; PyIceberg's does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pyiceberg
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import In
from pyiceberg.table import Table

from iceberg.catalog import open_catalog
from iceberg.compaction import compact
from iceberg.compaction_plan import EVERYTHING
from iceberg.merge import upsert
from iceberg.rows import conform
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

FILES = 8
DOUBLES, TEXTS = 12, 5
SEED = 20261127

type_contestant = Callable[[Catalog, str, pa.Table], None]


def rows_of(ids: np.ndarray, dice: np.random.Generator) -> pa.Table:
    """Rows of 18 columns: the key, 12 numbers, 5 texts."""
    columns = {"id": pa.array(ids, pa.int64())}
    columns |= {f"f{n}": pa.array(dice.normal(size=len(ids))) for n in range(DOUBLES)}
    columns |= {f"s{n}": pa.array([f"v{k}" for k in dice.integers(0, 1000, len(ids))]) for n in range(TEXTS)}
    return pa.table(columns)


def ours(catalog: Catalog, name: str, rows: pa.Table) -> None:
    upsert(catalog, name, rows, key=["id"])


def pyicebergs_upsert(catalog: Catalog, name: str, rows: pa.Table) -> None:
    table = catalog.load_table(name)
    table.upsert(conform(table, rows, {"sink_epoch": None}), join_cols=["id"])


def pyicebergs_delete_and_append(catalog: Catalog, name: str, rows: pa.Table) -> None:
    table = catalog.load_table(name)
    with table.transaction() as change:
        change.delete(In("id", rows.column("id").to_pylist()))  # type: ignore[call-arg]  # its own signature, see iceberg.predicates
        change.append(conform(table, rows, {"sink_epoch": None}))


CONTESTANTS: dict[str, type_contestant] = {
    "headrace merge": ours,
    "PyIceberg upsert": pyicebergs_upsert,
    "PyIceberg delete and append": pyicebergs_delete_and_append,
}


def create(catalog: Catalog, name: str, rows: pa.Table, files: int) -> None:
    create_table_for_arrow(catalog, name, rows.schema)
    sink = ExactlyOnceTable(catalog, name, uuid.uuid4())
    step = -(-rows.num_rows // files)
    for epoch in range(files):
        part = rows.slice(epoch * step, step)
        sink.append(epoch + 1, part.append_column("sink_epoch", pa.nulls(part.num_rows, pa.int64())))


def content(table: Table) -> pa.Table:
    # When a row was written is no part of what it says.
    names = [name for name in table.schema().column_names if not name.startswith("sink_")]
    return table.scan(selected_fields=tuple(names)).to_arrow().sort_by("id").combine_chunks()


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def merges(catalog: Catalog, peers: Catalog, count: int, keys: int, repeats: int) -> dict[str, object]:
    dice = np.random.default_rng(SEED)
    base = rows_of(np.arange(count), dice)
    batches = [rows_of(dice.choice(count + keys // 20, keys, replace=False), dice) for _ in range(repeats)]
    found: dict[str, dict[str, object]] = {}
    results = {}
    for contestant, work in CONTESTANTS.items():
        name = f"lake.{contestant.lower().replace(' ', '_')}"
        create(catalog, name, base, FILES)
        lake = catalog if work is ours else peers
        seconds = [timed(lambda rows=rows, name=name, work=work, lake=lake: work(lake, name, rows)) for rows in batches]  # type: ignore[misc]
        table = catalog.load_table(name)
        scans = [timed(lambda table=table: table.scan().to_arrow()) for _ in range(3)]  # type: ignore[misc]
        found[contestant] = {
            "seconds": [round(each, 3) for each in seconds],
            "median_seconds": round(statistics.median(seconds), 3),
            "scan_afterwards_seconds": round(min(scans), 3),
        }
        results[contestant] = content(table)
        print(contestant, found[contestant], flush=True)
    first = results["headrace merge"]
    for contestant, rows in results.items():
        if not rows.equals(first):
            raise AssertionError(f"`{contestant}` has other rows than ours")
    own = found["headrace merge"]["median_seconds"]
    assert isinstance(own, float)
    factors = {name: round(each["median_seconds"] / own, 1) for name, each in found.items()}  # type: ignore[operator]
    # What copy-on-write would have added to a merge: the keys are in every file.
    compacted = timed(lambda: compact(catalog, "lake.headrace_merge", policy=EVERYTHING))
    table = catalog.load_table("lake.headrace_merge")
    return {
        "rows": count, "columns": base.num_columns, "keys": keys, "equal": True, "contestants": found, "times_slower_than_ours": factors,
        "rewriting_all_touched_files_seconds": round(compacted, 3),
        "our_scan_after_that_seconds": round(min(timed(lambda: table.scan().to_arrow()) for _ in range(3)), 3),
    }  # fmt: skip


def small_commits(catalog: Catalog, peers: Catalog, commits: int) -> dict[str, object]:
    """100 rows a commit into a fresh table, by one writer."""
    dice = np.random.default_rng(SEED)
    rows = rows_of(np.arange(100), dice)
    create_table_for_arrow(catalog, "lake.small_ours", rows.schema)
    create_table_for_arrow(catalog, "lake.small_merge", rows.schema)
    create_table_for_arrow(catalog, "lake.small_peer", rows.schema)
    sink = ExactlyOnceTable(catalog, "lake.small_ours", uuid.uuid4())
    peer = peers.load_table("lake.small_peer")
    peer_rows = conform(peer, rows, {"sink_epoch": 1})
    own = timed(lambda: [sink.append(epoch, rows) for epoch in range(1, commits + 1)])
    merged = timed(lambda: [upsert(catalog, "lake.small_merge", rows, key=["id"]) for _ in range(commits)])
    theirs = timed(lambda: [peer.append(peer_rows) for _ in range(commits)])
    return {
        "commits": commits,
        "our_appends_per_second": round(commits / own, 1),
        "our_merges_of_the_same_100_keys_per_second": round(commits / merged, 1),
        "pyiceberg_appends_per_second": round(commits / theirs, 1),
    }


def compaction(catalog: Catalog, count: int, files: int) -> dict[str, object]:
    """Small files to one: ours with commit and sync, and pyarrow reading and writing the same files."""
    dice = np.random.default_rng(SEED)
    create(catalog, "lake.compacted", rows_of(np.arange(count), dice), files)
    table = catalog.load_table("lake.compacted")
    paths = [path.removeprefix("file://") for path in table.inspect.data_files().column("file_path").to_pylist()]
    before = content(table)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.parquet"
        seconds_plain = timed(lambda: pq.write_table(ds.dataset(paths).to_table(), plain, compression="zstd"))
        plain_bytes = plain.stat().st_size
    scan_before = timed(lambda: table.scan().to_arrow())
    started = time.perf_counter()
    done = compact(catalog, "lake.compacted")
    seconds = time.perf_counter() - started
    table.refresh()
    if not content(table).equals(before):
        raise AssertionError("compaction has changed rows")
    return {
        "rows": count, "files_before": done.files_before, "files_after": done.files_after, "bytes_before": done.bytes_before,
        "bytes_after": done.bytes_after, "seconds": round(seconds, 3), "pyarrow_rewrite_seconds": round(seconds_plain, 3),
        "pyarrow_bytes": plain_bytes, "scan_before_seconds": round(scan_before, 3),
        "scan_after_seconds": round(timed(lambda: table.scan().to_arrow()), 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalog = open_catalog("jdbc", f"jdbc:sqlite:{folder}/catalog.db", f"{folder}/warehouse")
        peers = SqlCatalog("headrace", uri=f"sqlite:///{folder}/catalog.db")  # PyIceberg as it comes
        load = os.getloadavg()[0]
        told = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "load_at_start": round(load, 1)},
            "pyiceberg": pyiceberg.__version__,
            "pyarrow": pa.__version__,
            "merge": merges(catalog, peers, arguments.rows, arguments.keys, arguments.repeats),
            "small_commits": small_commits(catalog, peers, arguments.commits),
            "compaction": compaction(catalog, arguments.rows, 200),
        }
    text = json.dumps(told, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
