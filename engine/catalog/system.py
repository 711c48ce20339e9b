"""All system relations, by id: what clients and tools ask about the catalog, made from the catalog itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.catalog.information_schema import INFORMATION_SCHEMA
from engine.catalog.objects import ColumnInfo, Relation
from engine.catalog.pg_catalog import PG_CATALOG
from engine.catalog.relations import Declared, Row, View
from engine.catalog.rw_catalog import RW_CATALOG

_FIRST_ID = 100  # ids below 1001 are the system's


@dataclass(frozen=True)
class SystemRelation:
    """A relation whose rows are made when it is read."""

    relation: Relation
    declared: Declared

    def rows(self, view: View) -> Iterable[Row] | str:
        if self.declared.rows is not None:
            return self.declared.rows(view)
        live = view.live.get(self.declared.name)
        return live() if live is not None else ()


def _build() -> dict[int, SystemRelation]:
    found = {}
    for number, declared in enumerate((*PG_CATALOG, *INFORMATION_SCHEMA, *RW_CATALOG), start=_FIRST_ID):
        columns = tuple(ColumnInfo(name, type_) for name, type_ in declared.fields)
        relation = Relation(number, "", declared.schema, declared.name, columns=columns, key=(0,), kind="system")
        found[number] = SystemRelation(relation, declared)
    return found


SYSTEM_RELATIONS = _build()
"""By id."""
