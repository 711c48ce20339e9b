"""The columns `_op` and `_epoch` of a sink's rows: what happened to each, and when."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from core.errors import InvalidInputError

INSERT, DELETE, UPDATE_DELETE, UPDATE_INSERT = 1, 2, 3, 4
OPERATION = "_op"
EPOCH = "_epoch"


def keep_insertions(rows: pa.Table, *, forced: bool, where: str) -> pa.Table:
    """The rows of an append-only sink, without `_op`.

    Args:
        forced: `force_append_only`: new versions of rows are kept, old ones and deletions left out, as in RisingWave.

    Raises:
        InvalidInputError: something was deleted or updated, and not `forced`.
    """
    operations = rows.column(OPERATION)
    visible = rows.drop_columns([OPERATION])
    if pc.all(pc.equal(operations, INSERT), min_count=0).as_py():
        return visible
    if not forced:
        raise InvalidInputError(
            "an append-only sink got a deletion or an update",
            where=where,
            fix="Sink an append-only query, or add force_append_only = 'true' to keep new versions of rows only.",
        )
    return visible.filter(pc.is_in(operations, pa.array([INSERT, UPDATE_INSERT], operations.type)))
