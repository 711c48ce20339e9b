"""The first rows of each group: a filter on row_number() or rank(), and DISTINCT ON.

Only touched groups are looked at, and only rows that enter or leave the first n go out, where a window function would send every
row whose number moved. Input that never retracts is not kept: what is not among the first n now will never be.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    apply_to_state,
    column_list,
    columns,
    consolidate,
    no_change,
    stored_input,
)
from engine.plan.algebra import GroupTopN as GroupTopNNode
from engine.plan.batch import render_window
from engine.sql.expressions import Column, render


class GroupTopN(Operator):
    """Columns: the input's visible ones, the rank if it is asked for, the hidden ones. State: `rows`, the input (only where it may
    retract); `out`, the rows that were emitted."""

    def __init__(self, source: Operator, node: GroupTopNNode) -> None:
        self.inputs = (source,)
        self._node = node
        self._partition = node.call.partition_by
        width = source.visible
        rank = (node.call.type,) if node.ranked else ()
        self.types = (*source.types[:width], *rank, *source.types[width:])
        self.visible = width + len(rank)
        self._moved = {p: p if p < width else p + len(rank) for p in range(len(source.types))}
        keys = [e.index for e in self._partition if isinstance(e, Column)]
        alone = node.call.name == "row_number" and node.limit == 1 and len(keys) == len(self._partition)
        self.key = tuple(dict.fromkeys(keys)) if alone else tuple(self._moved[p] for p in source.key)
        self._rows = self._out = ""

    def name_state(self, prefix: str) -> None:
        self._rows, self._out = f"{prefix}_rows", f"{prefix}_out"

    def state(self) -> tuple[StateTable, ...]:
        out = StateTable(self._out, self.types)
        return (out,) if self.inputs[0].append_only else (StateTable(self._rows, self.inputs[0].types), out)

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        source = self.inputs[0]
        width = len(source.types)
        incoming = stored_input(epoch, deltas[0], source)
        if incoming is None:
            return no_change()
        items = ", ".join(f"{render(e)} AS k{i}" for i, e in enumerate(self._partition))
        touched = epoch.temp(f"SELECT DISTINCT {items} FROM {incoming} AS t")[0] if self._partition else ""
        old = self._touched(self._out, touched, self._moved)
        if source.append_only:
            kept = ", ".join(f"c{m} AS c{p}" for p, m in self._moved.items())
            candidates = f"(SELECT {kept} FROM {old} AS o UNION ALL SELECT {column_list(width)} FROM {incoming} AS i)"
        else:
            apply_to_state(epoch, self._rows, incoming, width, source.key, append_only=False)
            candidates = self._touched(self._rows, touched, None)
        names = column_list(len(self.types))
        changed, count = consolidate(
            epoch,
            f"SELECT {names}, 1 AS d FROM ({self._first(candidates)}) AS n UNION ALL SELECT {names}, -1 AS d FROM {old} AS p",
            len(self.types),
        )
        if count:
            apply_to_state(epoch, self._out, changed, len(self.types), self.key, append_only=False)
        return Delta(changed, count == 0)

    def _touched(self, table: str, touched: str, moved: dict[int, int] | None) -> str:
        """The rows of touched groups; `moved` says where the input's columns are in `table`."""
        if not touched:
            return table
        name_of = (lambda i: f"s.c{moved[i]}") if moved is not None else (lambda i: f"s.c{i}")
        on = " AND ".join(f"{render(e, name_of)} IS NOT DISTINCT FROM x.k{i}" for i, e in enumerate(self._partition))
        return f"(SELECT s.* FROM {table} AS s SEMI JOIN {touched} AS x ON {on})"

    def _first(self, candidates: str) -> str:
        source = self.inputs[0]
        keys = tuple(f"c{p}" for p in source.key)
        items = [*columns(source.visible)]
        items += [f"r AS c{source.visible}"] if self._node.ranked else []
        items += [f"c{p} AS c{self._moved[p]}" for p in range(source.visible, len(source.types))]
        ranked = f"SELECT *, {render_window(self._node.call, keys)} AS r FROM {candidates} AS t"
        return f"SELECT {', '.join(items)} FROM ({ranked}) AS q WHERE r <= {self._node.limit}"

    def details(self) -> str:
        return f"{self._node.call.name} <= {self._node.limit}"
