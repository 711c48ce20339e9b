"""The catalog: an immutable snapshot of all objects, exchanged as a whole at a barrier.

Readers bind against the snapshot they picked up; nobody locks. Names are looked up as RisingWave does: the given schema, or
those of the search path, then the system schemas. A statement that is bound again later (recovery, a view that is expanded)
sees the names and columns that it was created with: its pins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from engine.catalog.objects import ROOT, CatalogObject, ColumnInfo, Function, Pins, Relation, Sink, User
from engine.sql.errors import DuplicateObject, SqlError, UndefinedObject, UndefinedTable
from engine.sql.statements import ObjectName
from engine.sql.types import BYTEA, INT4, INT8, TIMESTAMPTZ, VARCHAR

DEFAULT_SCHEMA = "public"
OWN_NAMES = ("function", "secret", "connection")
"""Kinds whose names do not meet those of relations."""
SYSTEM_SCHEMAS = ("pg_catalog", "rw_catalog", "information_schema")
FIRST_ID = 1001
"""Ids below are the system's."""

QUARANTINE_ID = 1


def _quarantine() -> Relation:
    """Rows that a source could not use, with the reason; found in every database without a schema."""
    names = (("stream", VARCHAR), ("kafka_partition", INT4), ("kafka_offset", INT8), ("reason", VARCHAR), ("received_at", TIMESTAMPTZ), ("payload", BYTEA))  # fmt: skip
    columns = tuple(ColumnInfo(name, type_) for name, type_ in names)
    return Relation(
        QUARANTINE_ID, "", "rw_catalog", "quarantine", columns=columns, key=(0, 1, 2), append_only=True, kind="system"
    )


def _system_objects() -> dict[int, CatalogObject]:
    from engine.catalog.system import SYSTEM_RELATIONS  # it reads catalogs, so it imports this module

    return {QUARANTINE_ID: _quarantine(), **{number: found.relation for number, found in SYSTEM_RELATIONS.items()}}


@dataclass(frozen=True)
class Catalog:
    """All objects by id, and the names of schemas and databases.

    Attributes:
        path: schemas in which unqualified names are looked up, in order.
        pins: names that mean what they meant when a statement was first bound, as written, to ids.
        trace: when it is given, every name that is found is noted here.
        before: when it is given, functions of this id and later ones are not seen: a view that is bound again calls those
            that it called at first, although a better match has come since.
        last_id: the highest id that an object has had since the engine was opened.
        users: by name.
        comments: by object and column, counted from 1; 0 is the object itself.
    """

    objects: Mapping[int, CatalogObject] = field(default_factory=_system_objects)
    databases: Mapping[str, frozenset[str]] = field(default_factory=lambda: {"dev": frozenset({DEFAULT_SCHEMA})})
    path: tuple[str, ...] = (DEFAULT_SCHEMA,)
    pins: Mapping[str, int] = field(default_factory=dict)
    trace: dict[str, int] | None = field(default=None, compare=False)
    before: int | None = None
    last_id: int = FIRST_ID - 1
    users: Mapping[str, User] = field(default_factory=lambda: {ROOT.name: ROOT})
    comments: Mapping[tuple[int, int], str] = field(default_factory=dict)

    # How a statement sees it

    def seen_from(self, path: tuple[str, ...]) -> Catalog:
        """The same catalog with another search path, noting which names are used."""
        return replace(self, path=path, trace={})

    def pinned(self, pins: Pins, before: int | None = None) -> Catalog:
        """The catalog as the statement that made these pins, and the object with the id `before`, saw it."""
        changed = {}
        for object_id, shape in pins.columns.items():
            relation = self.objects.get(object_id)
            if isinstance(relation, Relation) and relation.shape != shape:
                changed[object_id] = relation.with_shape(shape)
        objects = {**self.objects, **changed} if changed else self.objects
        return replace(self, objects=objects, pins=pins.names, path=pins.path or self.path, trace=None, before=before)

    def take_pins(self, used: Iterable[int]) -> Pins:
        """What was traced, and the columns of all relations that were used."""
        found = {i: self.objects[i] for i in used}
        shapes = {i: o.shape for i, o in found.items() if isinstance(o, Relation) and o.kind != "system"}
        return Pins(dict(self.trace or {}), shapes, self.path)

    # Lookups

    @cached_property
    def _by_name(self) -> Mapping[tuple[str, str], list[CatalogObject]]:
        index: dict[tuple[str, str], list[CatalogObject]] = {}
        for found in self.objects.values():
            if found.kind not in OWN_NAMES:
                index.setdefault((found.schema, found.name), []).append(found)
        return index

    def get(self, object_id: int) -> CatalogObject:
        return self.objects[object_id]

    def relation(self, object_id: int) -> Relation:
        found = self.objects[object_id]
        assert isinstance(found, Relation)
        return found

    def find(self, name: ObjectName, database: str) -> CatalogObject | None:
        """The relation, view, sink or subscription of that name; functions have a namespace of their own."""
        pinned = self.pins.get(str(name))
        if pinned is not None and pinned in self.objects:
            return self.objects[pinned]
        wanted_db = name.database or database
        schemas = (name.schema,) if name.schema else (*self.path, *SYSTEM_SCHEMAS)
        for schema in schemas:
            for found in self._by_name.get((schema, name.name), ()):
                if found.database == wanted_db or found.schema in SYSTEM_SCHEMAS:
                    if self.trace is not None:
                        self.trace[str(name)] = found.id
                    return found
        return None

    def must_find(self, name: ObjectName, database: str, kinds: tuple[str, ...] = ()) -> CatalogObject:
        """As `find`.

        Raises:
            UndefinedTable: nothing of that name, or not of these kinds.
        """
        what = kinds[0] if kinds else "relation"
        found = self.find_own(what, name, database) if what in OWN_NAMES else self.find(name, database)
        if found is None:
            known = sorted(o.name for o in self.in_database(database) if not kinds or o.kind in kinds)
            fix = (
                f"Known: {', '.join(f'`{n}`' for n in known[:8])}."
                if known
                else "Nothing of that kind exists in this database."
            )
            state = "42P01" if not kinds or what in ("table", "source", "materialized view", "view") else "42704"
            raise UndefinedTable(f"{what} `{name}` does not exist", position=name.position, fix=fix, sqlstate=state)
        if kinds and found.kind not in kinds:
            raise UndefinedTable(
                f"`{name}` is a {found.kind}, not a {what}",
                position=name.position,
                sqlstate="42809",
                fix=f"Use the statement for a {found.kind}.",
            )
        return found

    def find_own(self, kind: str, name: ObjectName, database: str) -> CatalogObject | None:
        """The secret or connection of that name."""
        schemas = (name.schema,) if name.schema else self.path
        for schema in schemas:
            for found in self.objects.values():
                place = (found.kind, found.name, found.schema, found.database)
                if place == (kind, name.name, schema, name.database or database):
                    return found
        return None

    def find_functions(self, name: str, database: str, schema: str | None = None) -> list[Function]:
        return [
            o
            for o in self.objects.values()
            if isinstance(o, Function) and o.name == name and o.database == database and (schema is None or o.schema == schema)
            if self.before is None or o.id < self.before
        ]

    def functions_called(self, name: str, database: str, schema: str | None) -> list[Function]:
        """Functions that a call may mean: of the schema that is written, or else of those on the path.

        What is bound again finds them also where ALTER ... SET SCHEMA has put them since.
        """
        found = self.find_functions(name, database)
        schemas = self.path if schema is None else (schema.rpartition(".")[2],)
        near = [function for function in found if function.schema in schemas]
        return near if near or self.before is None else found

    def in_database(self, database: str) -> Iterator[CatalogObject]:
        return (o for o in self.objects.values() if o.database == database)

    def dependents(self, object_id: int) -> list[CatalogObject]:
        """Objects that are built directly on this one, oldest first."""
        return [o for o in sorted(self.objects.values(), key=lambda o: o.id) if object_id in o.depends_on]

    def dependents_closure(self, object_id: int) -> list[CatalogObject]:
        """All that falls with the object (without itself), last built first: the order in which to drop."""
        seen: dict[int, CatalogObject] = {}
        pending = [object_id]
        while pending:
            for dependent in self.dependents(pending.pop()):
                if dependent.id not in seen:
                    seen[dependent.id] = dependent
                    pending.append(dependent.id)
        return sorted(seen.values(), key=lambda o: o.id, reverse=True)

    def sources_closure(self, object_id: int) -> set[int]:
        """All that the object is built on, directly or not; a table that sinks go into is built on those."""
        seen: set[int] = set()
        pending = [object_id]
        while pending:
            current = pending.pop()
            below = [*self.objects[current].depends_on, *self._fed_by.get(current, ())]
            pending += [i for i in below if i not in seen and i in self.objects]
            seen.update(below)
        return seen

    @cached_property
    def _fed_by(self) -> Mapping[int, list[int]]:
        fed: dict[int, list[int]] = {}
        for found in self.objects.values():
            if isinstance(found, Sink) and found.into:
                fed.setdefault(found.into, []).append(found.id)
        return fed

    def next_id(self) -> int:
        """An id that no object has had since the engine was opened: a cursor may still hold one of something dropped."""
        return self.last_id + 1

    def place(self, name: ObjectName, database: str) -> tuple[str, str]:
        """Database and schema where a new object of this name goes.

        Raises:
            UndefinedObject: there is no such schema.
        """
        target = name.database or database
        if target not in self.databases:
            raise SqlError(
                f"database `{target}` does not exist",
                position=name.position,
                sqlstate="3D000",
                fix=f"Run `CREATE DATABASE {target}` first.",
            )
        schema = name.schema or next((s for s in self.path if s in self.databases[target]), DEFAULT_SCHEMA)
        if schema in SYSTEM_SCHEMAS:
            raise SqlError(
                f"permission denied to create in schema `{schema}`",
                position=name.position,
                sqlstate="42501",
                fix="System schemas are read only; use another one.",
            )
        if schema not in self.databases[target]:
            raise UndefinedObject(
                f"schema `{schema}` does not exist",
                position=name.position,
                sqlstate="3F000",
                fix=f"Run `CREATE SCHEMA {schema}` first.",
            )
        return target, schema

    def check_free(self, name: ObjectName, database: str, kind: str = "") -> None:
        """Raises DuplicateObject if the name is taken in its schema, by an object of that kind if those have names of their own."""
        target, schema = self.place(name, database)
        for found in self.objects.values():
            meets = found.kind == kind if kind in OWN_NAMES else found.kind not in OWN_NAMES
            if meets and (found.database, found.schema, found.name) == (target, schema, name.name):
                raise DuplicateObject(
                    f"{found.kind} `{name.name}` already exists",
                    position=name.position,
                    fix=f"Drop it first (`DROP {found.kind.upper()} {name.name}`), or choose another name.",
                )

    # Changes give a new catalog

    def with_objects(self, added: Iterable[CatalogObject]) -> Catalog:
        new = {o.id: o for o in added}
        return replace(self, objects={**self.objects, **new}, last_id=max([self.last_id, *new]))

    def without(self, ids: Iterable[int]) -> Catalog:
        gone = set(ids)
        comments = {k: text for k, text in self.comments.items() if k[0] not in gone}
        return replace(self, objects={k: o for k, o in self.objects.items() if k not in gone}, comments=comments)

    def with_comment(self, object_id: int, column: int, text: str | None) -> Catalog:
        others = {k: v for k, v in self.comments.items() if k != (object_id, column)}
        return replace(self, comments=others if text is None else {**others, (object_id, column): text})

    def with_schema(self, database: str, schema: str) -> Catalog:
        return replace(self, databases={**self.databases, database: self.databases[database] | {schema}})

    def without_schema(self, database: str, schema: str) -> Catalog:
        return replace(self, databases={**self.databases, database: self.databases[database] - {schema}})

    def with_database(self, database: str) -> Catalog:
        return replace(self, databases={**self.databases, database: frozenset({DEFAULT_SCHEMA})})

    def without_database(self, database: str) -> Catalog:
        return replace(self, databases={k: v for k, v in self.databases.items() if k != database})
