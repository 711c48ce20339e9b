"""The events of the benchmark: Arrow tables in event order, the same as JSON lines, and comparing two answers."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from engine.connectors.nexmark_events import TABLE_TYPES, NexmarkConfig, generate

QUERIES = tuple(f"q{i}" for i in range(9))
READS = {"q3": ("person", "auction"), "q4": ("auction", "bid"), "q6": ("auction", "bid"), "q8": ("person", "auction")}
"""Which tables a query reads; the others read `bid`."""
HERE = Path(__file__).parent


def make_events(count: int) -> dict[str, pa.Table]:
    """The tables `person`, `auction` and `bid` of the first `count` events."""
    config = NexmarkConfig()
    return {
        kind.lower(): generate(config, kind, config.numbers(kind, np.arange(config.count(kind, count), dtype=np.int64)))
        for kind in TABLE_TYPES
    }


def tables_of(query: str) -> tuple[str, ...]:
    return READS.get(query, ("bid",))


def write_arrow(events: dict[str, pa.Table], folder: Path) -> None:
    """One Arrow IPC file a table: what every peer reads before its clock starts."""
    for name, table in events.items():
        with ipc.new_file(str(folder / f"{name}.arrow"), table.schema) as writer:
            writer.write_table(table.combine_chunks())


def to_json_lines(table: pa.Table) -> list[bytes]:
    """One JSON object a row; times as `YYYY-MM-DD hh:mm:ss.mmm`."""
    rows = table.to_pylist()
    for row in rows:
        for name, value in row.items():
            if isinstance(value, datetime):
                row[name] = value.isoformat(sep=" ", timespec="milliseconds")
    return [json.dumps(row, separators=(",", ":")).encode() for row in rows]


def differences(answer: pa.Table, wanted: pa.Table) -> int:
    """How many rows differ: bags compared, numbers by value whatever their type, to nine digits."""
    mine, others = (
        sorted(zip(*(map(_plain, c.to_pylist()) for c in t.columns), strict=True), key=repr) for t in (answer, wanted)
    )
    if len(mine) != len(others):
        return max(len(mine), len(others))
    left, right = Counter(mine), Counter(others)
    # What is left over may differ in the last digit only, where two ways to an average were rounded.
    rest = zip(sorted((left - right).elements()), sorted((right - left).elements()), strict=True)
    return sum(not all(_same(x, y) for x, y in zip(a, b, strict=True)) for a, b in rest)


def _plain(value: Any) -> Any:
    if isinstance(value, (float, Decimal)):
        return float(f"{float(value):.12g}")
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    return value


def _same(a: Any, b: Any) -> bool:
    return math.isclose(a, b, rel_tol=1e-9) if isinstance(a, float) and isinstance(b, float) else bool(a == b)
