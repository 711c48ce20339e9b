"""`AS CHANGELOG`: the changes themselves as rows that are only ever added.

Source: RisingWave documentation, "AS CHANGELOG": `changelog_op` is 1 for an insertion, 2 for a deletion, 3 for what an update made,
4 for what it replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import Delta, EpochContext, Operator, no_change, store, stored_input
from engine.sql.types import INT2, INT8

_ROWS_BITS = 28  # an epoch's rows are numbered below this


class Changelog(Operator):
    """Columns: the input's visible ones, `changelog_op`, `_changelog_row_id` (the key)."""

    def __init__(self, source: Operator) -> None:
        self.inputs = (source,)
        width = source.visible
        self.types = (*source.types[:width], INT2, INT8)
        self.visible = width + 2
        self.key = (width + 1,)
        self.append_only = True

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        source = self.inputs[0]
        incoming = stored_input(epoch, deltas[0], source, exact=True)
        if incoming is None:
            return no_change()
        key = ", ".join(f"c{p}" for p in source.key) or "1"
        paired = f"count(*) OVER (PARTITION BY {key}) = 2"
        op = f"CASE WHEN {paired} THEN CASE WHEN d > 0 THEN 3 ELSE 4 END ELSE CASE WHEN d > 0 THEN 1 ELSE 2 END END"
        number = f"{epoch.number << _ROWS_BITS} + row_number() OVER (ORDER BY {key}, d)"
        width = source.visible
        items = [f"c{i}" for i in range(width)]
        items += [f"CAST({op} AS SMALLINT) AS c{width}", f"CAST({number} AS BIGINT) AS c{width + 1}"]
        return store(epoch, f"SELECT {', '.join(items)}, CAST(1 AS TINYINT) AS d FROM {incoming} AS t")
