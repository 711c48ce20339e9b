"""What every peer's script shares: arguments in, one line of JSON and an Arrow file out. Needs pyarrow only."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc

READS = {"q3": ("person", "auction"), "q4": ("auction", "bid"), "q6": ("auction", "bid"), "q8": ("person", "auction")}
"""As `events.READS`; the peers do not import it, because they run in environments without the engine."""
EPOCH_ROWS = 20_000
GROWING = os.environ.get("NEXMARK_EPOCHS") == "growing"
"""Epochs of twice as many rows each time, up to 16 times EPOCH_ROWS: what the engine does while it is behind."""


def main(run: Callable[[str, dict[str, pa.Table], Path], tuple[float, pa.Table]]) -> None:
    """Run `python <peer>.py QUERY FOLDER OUT`: the query over `FOLDER/<table>.arrow`, the answer to OUT.

    Args:
        run: gets query, tables and folder (JSON lines lie beside the Arrow files); returns seconds and the answer.
    """
    query, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    tables = {}
    for name in READS.get(query, ("bid",)):
        with ipc.open_file(folder / f"{name}.arrow") as reader:
            tables[name] = reader.read_all()
    seconds, answer = run(query, tables, folder)
    with ipc.new_file(str(out), answer.schema) as writer:
        writer.write_table(answer)
    print(json.dumps({"seconds": seconds, "rows": sum(t.num_rows for t in tables.values())}))


def epochs(tables: dict[str, pa.Table]) -> list[tuple[str, pa.Table]]:
    """Slices of all tables in turns, EPOCH_ROWS rows for each epoch, in event order within a table."""
    total = sum(t.num_rows for t in tables.values())
    ends, size = [0], EPOCH_ROWS
    while ends[-1] < total:
        ends.append(min(ends[-1] + size, total))
        size = min(2 * size, 16 * EPOCH_ROWS) if GROWING else size
    slices = []
    for start, end in itertools.pairwise(ends):
        for name, table in tables.items():
            first, last = table.num_rows * start // total, table.num_rows * end // total
            if last > first:
                slices.append((name, table.slice(first, last - first)))
    return slices


def now() -> float:
    return time.perf_counter()
