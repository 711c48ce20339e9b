"""What writers write in a round, and what must be in the table afterwards.

Two sinks share a table and its partitions, and each has keys of its own, so the rows after epochs (a, b) can be worked out for
each sink alone. Every third epoch appends new keys, the others upsert and delete among forty.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from datetime import timedelta

import pyarrow as pa
from pyiceberg.catalog import Catalog

from iceberg.catalog import open_catalog
from iceberg.compaction import compact
from iceberg.compaction_plan import EVERYTHING
from iceberg.sink import ExactlyOnceTable, epoch_property
from iceberg.tables import create_table_for_arrow
from tests.chaos.iceberg.points import kill_at

IDENTIFIER = "lake.rows"
SINKS: Mapping[str, uuid.UUID] = {name: uuid.UUID(int=number) for number, name in enumerate("ab", start=1)}
SCHEMA = pa.schema([("tenant_id", pa.string()), ("n", pa.int64()), ("text", pa.string())])
COLUMNS = ("tenant_id", "n", "text", "sink_epoch")
KEY = ("tenant_id", "n")
KINDS = ("append", "merge", "compaction")
TENANTS = 3
FIRST = {"a": 0, "b": 1_000_000}
SHARED = 40
PATIENCE = timedelta(seconds=60)

type_state = dict[tuple[str, int], tuple[str, int]]


def open_lake(folder: str) -> Catalog:
    return open_catalog("jdbc", f"jdbc:sqlite:{folder}/catalog.db", f"{folder}/warehouse")


def create(folder: str) -> None:
    create_table_for_arrow(open_lake(folder), IDENTIFIER, SCHEMA)


def epoch_content(sink: str, epoch: int) -> tuple[str, list[int], list[int]]:
    """Kind, keys to write and keys to delete of an epoch; the same for every attempt."""
    first = FIRST[sink]
    if epoch % 3 == 0:
        return "append", [first + 1000 + epoch * 4 + n for n in range(4)], []
    dice = random.Random(f"{sink}{epoch}")
    keys = [first + n for n in dice.sample(range(SHARED), 9)]
    return "merge", keys[:6], keys[6:]


def rows_of(sink: str, epoch: int, keys: list[int]) -> pa.Table:
    return pa.table([[f"t{n % TENANTS}" for n in keys], keys, [f"{sink}{epoch}"] * len(keys)], schema=SCHEMA)


def expected(epochs: Mapping[str, int]) -> list[tuple[str, int, str, int]]:
    """All rows after so many epochs of each sink, sorted."""
    rows: dict[int, tuple[str, int]] = {}
    for sink, last in epochs.items():
        for epoch in range(1, last + 1):
            _, written, deleted = epoch_content(sink, epoch)
            for key in deleted:
                rows.pop(key, None)
            rows.update(dict.fromkeys(written, (f"{sink}{epoch}", epoch)))
    return sorted((f"t{key % TENANTS}", key, text, epoch) for key, (text, epoch) in rows.items())


def write(folder: str, sink: str, epochs: int, point: str | None = None, turn: int = 1, kind: str | None = None) -> None:
    """Write epochs until killed, or so many; with a kind of epoch, die only in one of that kind."""
    table = ExactlyOnceTable(open_lake(folder), IDENTIFIER, SINKS[sink], patience=PATIENCE)
    epoch = table.last_epoch()
    armed = point is None
    for _ in range(epochs):
        epoch += 1
        what, written, deleted = epoch_content(sink, epoch)
        if not armed and what == kind and point is not None:
            kill_at(point, turn)
            armed = True
        rows = rows_of(sink, epoch, written)
        if what == "append":
            table.append(epoch, rows)
        else:
            table.merge(epoch, key=KEY, upserts=rows, deletes=rows_of(sink, epoch, deleted).select(KEY))


def compact_until_killed(folder: str, point: str, turn: int) -> None:
    catalog = open_lake(folder)
    kill_at(point, turn)
    compact(catalog, IDENTIFIER, policy=EVERYTHING, patience=PATIENCE)


def compact_once(folder: str) -> None:
    compact(open_lake(folder), IDENTIFIER, policy=EVERYTHING, patience=PATIENCE)


def stored_epochs(properties: Mapping[str, str]) -> dict[str, int]:
    """The last epoch of each sink, as the table's properties have it."""
    return {name: int(properties.get(epoch_property(sink), "0")) for name, sink in SINKS.items()}
