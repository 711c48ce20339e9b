"""The key of a sink that upserts: which columns, and what is left of an epoch's changes to one key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.connectors.operations import INSERT, OPERATION, UPDATE_INSERT
from engine.sql.errors import InvalidParameter
from engine.sql.types import SqlType


def read_key(
    option: str | None, declared: Sequence[str], fields: Sequence[tuple[str, SqlType]], *, required: bool, what: str
) -> tuple[str, ...]:
    """The key columns: option `primary_key` (names with commas between), else those that the query has."""
    key = tuple(name.strip() for name in option.split(",")) if option else tuple(declared) if required else ()
    names = [name for name, _ in fields]
    for name in key:
        if name not in names:
            raise InvalidParameter(f"primary_key `{name}` is not a column of the sink", fix=f"Columns are {', '.join(names)}.")
    if required and not key:
        raise InvalidParameter(f"{what} needs a primary key", fix="Add primary_key = 'column, ...' to the WITH clause.")
    return key


def last_of_each_key(rows: pa.Table, key: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """What an epoch leaves of each key: the rows that are written, and those that are deleted; both without `_op`.

    A row that moves to another key is deleted under the old one and written under the new one; of one key the last change counts.
    """
    numbered = rows.select(list(key)).append_column("#", pa.array(np.arange(rows.num_rows)))
    last = numbered.group_by(list(key), use_threads=False).aggregate([("#", "max")]).column("#_max")
    kept = rows.take(pa.array(np.sort(last.to_numpy())))
    written = pc.is_in(kept.column(OPERATION), pa.array([INSERT, UPDATE_INSERT], kept.column(OPERATION).type))
    visible = kept.drop_columns([OPERATION])
    return visible.filter(written), visible.filter(pc.invert(written))
