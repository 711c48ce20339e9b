"""What is deployed, read over the wire from the ledger and the catalog: the input of planning, and a value.

Only relations of `rw_catalog` that RisingWave has are read; what the embedded engine knows besides is asked for and may be
missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg

from pipelines import ledger, sqltext
from pipelines.ledger import Entry

_RELATIONS: LiteralString = """SELECT r.id, s.name, r.name, r.relation_type, r.definition
FROM rw_catalog.rw_relations AS r JOIN rw_catalog.rw_schemas AS s ON r.schema_id = s.id"""
_SUBSCRIPTIONS: LiteralString = """SELECT r.id, s.name, r.name, 'subscription', r.definition
FROM rw_catalog.rw_subscriptions AS r JOIN rw_catalog.rw_schemas AS s ON r.schema_id = s.id"""
_FUNCTIONS: LiteralString = """SELECT r.id, s.name, r.name, 'function', ''
FROM rw_catalog.rw_functions AS r JOIN rw_catalog.rw_schemas AS s ON r.schema_id = s.id"""
_COLUMNS: LiteralString = (
    "SELECT relation_id, name, data_type FROM rw_catalog.rw_columns WHERE NOT is_hidden ORDER BY relation_id, position"
)
_SIZES: LiteralString = "SELECT id, total_key_count, total_key_size + total_value_size FROM rw_catalog.rw_table_stats"
_SYSTEM = ("system table", "system")


@dataclass(frozen=True)
class Deployed:
    """One object of the stream database; `kind` in capitals, `name` with its schema unless that is `public`."""

    id: int
    name: str
    kind: str
    definition: str = ""


@dataclass(frozen=True)
class Column:
    name: str
    type: str


@dataclass(frozen=True)
class Snapshot:
    """The catalog and the ledger at one moment.

    Attributes:
        objects: by id.
        below: by id, ids of what the object is built on directly.
        columns: by id, the visible ones in order.
        rows, size_bytes: by id, as far as the database tells.
        entries: the ledger, by (name, kind).
    """

    objects: Mapping[int, Deployed] = field(default_factory=dict)
    below: Mapping[int, frozenset[int]] = field(default_factory=dict)
    columns: Mapping[int, tuple[Column, ...]] = field(default_factory=dict)
    rows: Mapping[int, int] = field(default_factory=dict)
    size_bytes: Mapping[int, int] = field(default_factory=dict)
    entries: Mapping[tuple[str, str], Entry] = field(default_factory=dict)

    def find(self, name: str, kind: str | None = None) -> Deployed | None:
        """The object of that name; functions have names of their own."""
        for found in self.objects.values():
            if found.name == name and (found.kind == kind if kind is not None else found.kind != "FUNCTION"):
                return found
        return None

    def above(self, object_id: int) -> list[Deployed]:
        """What is built on the object directly, oldest first."""
        return [self.objects[i] for i in sorted(self.below) if object_id in self.below[i] and i in self.objects]

    def text(self, found: Deployed) -> str:
        """The statement that made an object: as it was applied, or else as the database tells it."""
        entry = self.entries.get((found.name, found.kind))
        if entry is not None and entry.sql:
            return entry.sql
        text = found.definition.strip().rstrip(";")
        bare = found.kind == "VIEW" and text and not text.upper().startswith("CREATE")
        return f"CREATE VIEW {found.name} AS {text}" if bare else text

    def without(self, names: Iterable[str]) -> Snapshot:
        """As if these objects were not there."""
        gone = set(names)
        kept = {i: found for i, found in self.objects.items() if found.name not in gone}
        below = {i: ids for i, ids in self.below.items() if i in kept}
        return Snapshot(kept, below, self.columns, self.rows, self.size_bytes, self.entries)


def read(connection: psycopg.Connection, *, brief: bool = False) -> Snapshot:
    """Read what is there; nothing is changed, not even the ledger's table is made.

    Args:
        brief: only the objects and what they are built on.

    Raises:
        psycopg.Error: the database refuses; it is no stream database of ours or RisingWave's.
    """
    found: dict[int, Deployed] = {}
    for query in (_RELATIONS, _SUBSCRIPTIONS, _FUNCTIONS):
        for number, schema, name, kind, definition in connection.execute(query).fetchall():
            if kind not in _SYSTEM and schema not in ("rw_catalog", "pg_catalog", "information_schema"):
                shown = name if schema == "public" else f"{schema}.{name}"
                found[int(number)] = Deployed(int(number), shown, str(kind).upper(), definition or "")
    below: dict[int, set[int]] = {}
    for number, under in connection.execute("SELECT objid, refobjid FROM rw_catalog.rw_depend").fetchall():
        if int(number) in found:
            below.setdefault(int(number), set()).add(int(under))
    _complete(found, below)
    edges = {number: frozenset(ids) for number, ids in below.items()}
    if brief:
        return Snapshot(found, edges)
    columns: dict[int, list[Column]] = {}
    for number, name, type_ in connection.execute(_COLUMNS).fetchall():
        columns.setdefault(int(number), []).append(Column(name, type_))
    sizes = connection.execute(_SIZES).fetchall()
    return Snapshot(
        found,
        edges,
        {number: tuple(each) for number, each in columns.items()},
        {int(number): int(count) for number, count, _ in sizes if count is not None},
        {int(number): int(size) for number, _, size in sizes if size is not None},
        ledger.read(connection) if any(each.name == ledger.TABLE for each in found.values()) else {},
    )


def _complete(found: Mapping[int, Deployed], below: dict[int, set[int]]) -> None:
    """Take what a sink, subscription or index reads from its text where the dependencies do not have it."""
    for each in found.values():
        if each.id not in below and each.kind in ("SINK", "SUBSCRIPTION", "INDEX") and each.definition:
            names = {reference.name for reference in sqltext.references(each.definition) or ()}
            below[each.id] = {other.id for other in found.values() if other.name in names and other.kind != "FUNCTION"}
