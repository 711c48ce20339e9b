"""Writers that all write into one table at once, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyarrow as pa

from iceberg.compaction import compact
from iceberg.compaction_plan import CompactionPolicy
from iceberg.merge import upsert
from iceberg.sink import ExactlyOnceTable
from tests.chaos.iceberg.world import IDENTIFIER, PATIENCE, SCHEMA, open_lake

SHARED_KEYS = 30
ROWS = 5
POLICY = CompactionPolicy(min_files=4)


def append_epochs(folder: str, writer: int, epochs: int) -> None:
    """Add rows of this writer alone, epoch by epoch."""
    sink = ExactlyOnceTable(open_lake(folder), IDENTIFIER, uuid.UUID(int=100 + writer), patience=PATIENCE)
    for epoch in range(1, epochs + 1):
        assert sink.append(epoch, pa.table([[f"w{writer}"] * ROWS, own_keys(writer, epoch), ["own"] * ROWS], schema=SCHEMA))


def own_keys(writer: int, epoch: int) -> list[int]:
    return [writer * 1_000_000 + epoch * ROWS + n for n in range(ROWS)]


def merge_shared(folder: str, writer: int, turns: int) -> None:
    """Upsert the same keys as all other writers of this kind, each turn the whole set."""
    catalog = open_lake(folder)
    for turn in range(turns):
        keys = list(range(SHARED_KEYS))
        rows = pa.table([["shared"] * SHARED_KEYS, keys, [f"m{writer}.{turn}"] * SHARED_KEYS], schema=SCHEMA)
        upsert(catalog, IDENTIFIER, rows, key=("tenant_id", "n"), patience=PATIENCE)


def compact_until(folder: str, done: str) -> None:
    """Compact again and again until a file appears."""
    catalog = open_lake(folder)
    while not Path(done).exists():
        compact(catalog, IDENTIFIER, policy=POLICY, patience=PATIENCE)
        time.sleep(0.05)  # not to wait for anything: a compaction that finds nothing must not take the processor


def start(target: object, *args: object) -> BaseProcess:
    """Start a writer, from a server that has everything imported."""
    spawn = multiprocessing.get_context("forkserver")
    spawn.set_forkserver_preload([__name__])
    process = spawn.Process(target=target, args=args)  # type: ignore[arg-type]  # any of the functions above
    process.start()
    return process


def join(processes: Sequence[BaseProcess], patience: timedelta) -> list[int | None]:
    """Wait for all, and return their exit codes; None for one that hangs, which is ended."""
    deadline = time.monotonic() + patience.total_seconds()
    codes = []
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        codes.append(process.exitcode)
        if process.is_alive():
            process.kill()
            process.join()
    return codes
