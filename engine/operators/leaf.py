"""Leaves: what flows into a view from a table, a source, another view, or from constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.catalog.objects import Relation
from engine.operators.base import Delta, EpochContext, Operator, no_change, store
from engine.plan.algebra import Values
from engine.sql.expressions import render


class RelationLeaf(Operator):
    """The changelog of a relation of the catalog, visible columns first."""

    def __init__(self, relation: Relation) -> None:
        visible = [i for i, column in enumerate(relation.columns) if not column.hidden]
        hidden = [i for i in relation.key if relation.columns[i].hidden]
        self._order = visible + hidden
        positions = {physical: i for i, physical in enumerate(self._order)}
        self.relation = relation.id
        self._relation_name = relation.name
        self.physical = relation.physical
        self.types = tuple(relation.columns[i].type for i in self._order)
        self.visible = len(visible)
        self.key = tuple(positions[i] for i in relation.key)
        self.append_only = relation.append_only
        self.watermarked = frozenset(positions[i] for i in relation.watermarked if i in positions)
        self._positions = positions
        self.physical_types = tuple(column.type for column in relation.columns)
        self.physical_watermarked = relation.watermarked
        self.physical_key = relation.key

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        del deltas
        delta = epoch.relation_delta(self.relation)
        watermarks = {self._positions[i]: w for i, w in delta.watermarks.items() if i in self._positions}
        if delta.empty:
            return no_change(watermarks)
        if self._order == list(range(len(self.physical_types))):
            return replace(delta, watermarks=watermarks)
        return Delta(
            f"(SELECT {self._columns()}, d FROM {delta.source})", watermarks=watermarks, picked=delta.cheap, grows=delta.grows
        )

    def snapshot(self) -> str:
        """A SELECT of all rows that are stored now, as insertions."""
        return f"SELECT {self._columns()}, CAST(1 AS TINYINT) AS d FROM {self.physical}"

    def _columns(self) -> str:
        return ", ".join(f"c{physical} AS c{i}" for i, physical in enumerate(self._order))

    def details(self) -> str:
        return self._relation_name


class ValuesLeaf(Operator):
    """Constant rows, emitted once when the view is created; the row number is the hidden key."""

    def __init__(self, node: Values) -> None:
        from engine.sql.types import INT8

        self._node = node
        self.visible = len(node.columns)
        self.types = (*(c.type for c in node.columns), INT8)
        self.key = (self.visible,)
        self.append_only = True

    def initialize(self, epoch: EpochContext) -> Delta:
        rows = []
        for number, row in enumerate(self._node.rows):
            items = [f"{render(item)} AS c{i}" for i, item in enumerate(row)]
            rows.append(f"SELECT {', '.join(items)}, CAST({number} AS BIGINT) AS c{self.visible}, CAST(1 AS TINYINT) AS d")
        return store(epoch, " UNION ALL ".join(rows)) if rows else no_change()

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        del epoch, deltas
        return no_change()
