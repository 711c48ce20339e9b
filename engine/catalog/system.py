"""System relations: what clients and tools ask about the catalog, made from the catalog itself.

Source: PostgreSQL documentation, chapters 37 and 54; RisingWave documentation, "System catalogs".
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.catalog.catalog import Catalog
from engine.catalog.objects import ColumnInfo, MaterializedView, Relation
from engine.sql.types import BOOL, INT4, INT8, VARCHAR, SqlType

Rows = Callable[[Catalog, str], Iterator[tuple[object, ...]]]


@dataclass(frozen=True)
class SystemRelation:
    """A relation whose rows are made when it is read."""

    relation: Relation
    rows: Rows


_TABLE_TYPES = {"table": "BASE TABLE", "source": "SYSTEM TABLE", "materialized view": "MATERIALIZED VIEW", "view": "VIEW"}
_RELKIND = {"table": "r", "source": "x", "materialized view": "m", "view": "v", "index": "i", "sink": "s", "subscription": "u"}


def _tables(catalog: Catalog, database: str) -> Iterator[tuple[object, ...]]:
    for found in catalog.in_database(database):
        if found.kind in _TABLE_TYPES:
            yield (database, found.schema, found.name, _TABLE_TYPES[found.kind])


def _columns(catalog: Catalog, database: str) -> Iterator[tuple[object, ...]]:
    for found in catalog.in_database(database):
        if isinstance(found, Relation):
            for number, column in enumerate(found.visible, start=1):
                yield (
                    database,
                    found.schema,
                    found.name,
                    column.name,
                    number,
                    "NO" if column.not_null else "YES",
                    column.type.sql,
                )


def _schemata(catalog: Catalog, database: str) -> Iterator[tuple[object, ...]]:
    for schema in (*sorted(catalog.databases[database]), "information_schema", "pg_catalog", "rw_catalog"):
        yield (database, schema, "root")


def _schema_oid(schema: str) -> int:
    return 1 + zlib.crc32(schema.encode()) % 1_000_000


def _namespaces(catalog: Catalog, database: str) -> Iterator[tuple[object, ...]]:
    for _, schema, _ in _schemata(catalog, database):
        yield (_schema_oid(str(schema)), schema, 1)


def _classes(catalog: Catalog, database: str) -> Iterator[tuple[object, ...]]:
    for found in catalog.in_database(database):
        if found.kind in _RELKIND:
            yield (found.id, found.name, _schema_oid(found.schema), _RELKIND[found.kind], 1)


def _databases(catalog: Catalog, _database: str) -> Iterator[tuple[object, ...]]:
    yield from enumerate(sorted(catalog.databases), start=1)


def _rw_relations(catalog: Catalog, database: str) -> Iterator[tuple[object, ...]]:
    for found in catalog.in_database(database):
        if found.kind in _RELKIND:
            yield (found.id, found.schema, found.name, found.kind, found.sql)


def _rw_views(kind: str) -> Rows:
    def rows(catalog: Catalog, database: str) -> Iterator[tuple[object, ...]]:
        for found in catalog.in_database(database):
            if found.kind == kind:
                append_only = isinstance(found, Relation) and found.append_only
                windows = isinstance(found, MaterializedView) and found.emit_on_window_close
                yield (found.id, found.name, found.schema, append_only, windows, found.sql)

    return rows


_NAME_COLUMNS = (
    ("id", INT4),
    ("name", VARCHAR),
    ("schema_name", VARCHAR),
    ("append_only", BOOL),
    ("emit_on_window_close", BOOL),
    ("definition", VARCHAR),
)
_DEFINITIONS: tuple[tuple[str, str, tuple[tuple[str, SqlType], ...], Rows], ...] = (
    ("information_schema", "tables", (("table_catalog", VARCHAR), ("table_schema", VARCHAR), ("table_name", VARCHAR), ("table_type", VARCHAR)), _tables),
    ("information_schema", "columns", (("table_catalog", VARCHAR), ("table_schema", VARCHAR), ("table_name", VARCHAR), ("column_name", VARCHAR), ("ordinal_position", INT4), ("is_nullable", VARCHAR), ("data_type", VARCHAR)), _columns),
    ("information_schema", "schemata", (("catalog_name", VARCHAR), ("schema_name", VARCHAR), ("schema_owner", VARCHAR)), _schemata),
    ("pg_catalog", "pg_namespace", (("oid", INT4), ("nspname", VARCHAR), ("nspowner", INT4)), _namespaces),
    ("pg_catalog", "pg_class", (("oid", INT4), ("relname", VARCHAR), ("relnamespace", INT4), ("relkind", VARCHAR), ("relowner", INT4)), _classes),
    ("pg_catalog", "pg_database", (("oid", INT4), ("datname", VARCHAR)), _databases),
    ("rw_catalog", "rw_relations", (("id", INT8), ("schema_name", VARCHAR), ("name", VARCHAR), ("relation_type", VARCHAR), ("definition", VARCHAR)), _rw_relations),
    ("rw_catalog", "rw_tables", _NAME_COLUMNS, _rw_views("table")),
    ("rw_catalog", "rw_sources", _NAME_COLUMNS, _rw_views("source")),
    ("rw_catalog", "rw_materialized_views", _NAME_COLUMNS, _rw_views("materialized view")),
    ("rw_catalog", "rw_sinks", _NAME_COLUMNS, _rw_views("sink")),
    ("rw_catalog", "rw_subscriptions", _NAME_COLUMNS, _rw_views("subscription")),
)  # fmt: skip


def _build() -> dict[int, SystemRelation]:
    found = {}
    for number, (schema, name, columns, rows) in enumerate(_DEFINITIONS, start=100):
        infos = tuple(ColumnInfo(column, type_) for column, type_ in columns)
        found[number] = SystemRelation(Relation(number, "", schema, name, columns=infos, key=(0,), kind="system"), rows)
    return found


SYSTEM_RELATIONS = _build()
"""By id; ids below 1001 are the system's."""
