"""What every peer's script shares: arguments in, one line of JSON and an Arrow file out. Needs pyarrow only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc

READS = {"q3": ("person", "auction"), "q4": ("auction", "bid"), "q6": ("auction", "bid"), "q8": ("person", "auction")}
"""As `events.READS`; the peers do not import it, because they run in environments without the engine."""
EPOCH_ROWS = 20_000


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
    """Slices of all tables in turns, about EPOCH_ROWS rows for each epoch, in event order within a table."""
    total = sum(t.num_rows for t in tables.values())
    count = max(1, -(-total // EPOCH_ROWS))
    slices = []
    for number in range(count):
        for name, table in tables.items():
            first, last = table.num_rows * number // count, table.num_rows * (number + 1) // count
            if last > first:
                slices.append((name, table.slice(first, last - first)))
    return slices


def now() -> float:
    return time.perf_counter()
