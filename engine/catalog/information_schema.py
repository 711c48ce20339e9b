"""The relations of `information_schema`. Source: PostgreSQL documentation, chapter 37."""

from __future__ import annotations

from collections.abc import Iterator

from engine.catalog.catalog import SYSTEM_SCHEMAS
from engine.catalog.objects import Function, Input
from engine.catalog.pg_catalog import columns_of
from engine.catalog.relations import Declared, Row, View, nothing
from engine.sql.types import SqlType

_TABLE_TYPES = {"table": "BASE TABLE", "source": "SYSTEM TABLE", "materialized view": "MATERIALIZED VIEW", "view": "VIEW"}
_PRECISION = {"int2": (16, 2, 0), "int4": (32, 2, 0), "int8": (64, 2, 0), "float4": (24, 2, None), "float8": (53, 2, None)}
_TIMES = ("time", "timestamp", "timestamptz", "interval")


def _tables(view: View) -> Iterator[Row]:
    for found in view.objects(*_TABLE_TYPES):
        insertable = "YES" if found.kind == "table" else "NO"
        yield (view.database, found.schema, found.name, _TABLE_TYPES[found.kind], insertable)


def _columns(view: View) -> Iterator[Row]:
    for found in view.objects(*_TABLE_TYPES):
        for number, column in enumerate(columns_of(found, view), start=1):
            precision, radix, scale = _PRECISION.get(column.type.name, (None, None, None))
            generated = "ALWAYS" if column.generated is not None else "NEVER"
            yield (
                view.database, found.schema, found.name, column.name, number, None, "NO" if column.not_null else "YES",
                _data_type(column.type), None, None, precision, radix, scale, 6 if column.type.name in _TIMES else None, None,
                view.database, "pg_catalog", _udt(column.type), "NO", None, generated, "YES" if found.kind == "table" else "NO",
            )  # fmt: skip


def _data_type(type_: SqlType) -> str:
    return "ARRAY" if type_.name == "list" else type_.sql


def _udt(type_: SqlType) -> str:
    return f"_{type_.element.name}" if type_.element is not None else type_.name


def _schemata(view: View) -> Iterator[Row]:
    for schema in (*sorted(view.catalog.databases[view.database]), *SYSTEM_SCHEMAS):
        yield (view.database, schema, "root", None, None, None, None)


def _views(view: View) -> Iterator[Row]:
    for found in view.objects("view", "materialized view"):
        yield (view.database, found.schema, found.name, found.sql, "NONE", "NO", "NO")


def _key_columns(view: View) -> Iterator[Row]:
    for found in view.objects("table"):
        if isinstance(found, Input):
            for number, position in enumerate(found.primary_key, start=1):
                yield (
                    view.database, found.schema, f"{found.name}_pkey", view.database, found.schema, found.name,
                    found.columns[position].name, number, None,
                )  # fmt: skip


def _constraints(view: View) -> Iterator[Row]:
    for found in view.objects("table"):
        if isinstance(found, Input) and found.primary_key:
            place = (view.database, found.schema)
            yield (*place, f"{found.name}_pkey", *place, found.name, "PRIMARY KEY", "NO", "NO")


def _routines(view: View) -> Iterator[Row]:
    for found in view.objects("function"):
        assert isinstance(found, Function)
        place = (view.database, found.schema, found.name)
        yield (*place, *place, "FUNCTION", found.returns.sql, found.body, (found.language or "external").upper())


_PLACE = "constraint_catalog text, constraint_schema text, constraint_name text, table_catalog text, table_schema text, table_name text"
INFORMATION_SCHEMA: tuple[Declared, ...] = (
    Declared("information_schema", "tables", "table_catalog text, table_schema text, table_name text, table_type text, is_insertable_into text", _tables),
    Declared("information_schema", "columns", "table_catalog text, table_schema text, table_name text, column_name text, ordinal_position int4, column_default text, is_nullable text, data_type text, character_maximum_length int4, character_octet_length int4, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, interval_type text, udt_catalog text, udt_schema text, udt_name text, is_identity text, identity_generation text, is_generated text, is_updatable text", _columns),
    Declared("information_schema", "schemata", "catalog_name text, schema_name text, schema_owner text, default_character_set_catalog text, default_character_set_schema text, default_character_set_name text, sql_path text", _schemata),
    Declared("information_schema", "views", "table_catalog text, table_schema text, table_name text, view_definition text, check_option text, is_updatable text, is_insertable_into text", _views),
    Declared("information_schema", "key_column_usage", f"{_PLACE}, column_name text, ordinal_position int4, position_in_unique_constraint int4", _key_columns),
    Declared("information_schema", "table_constraints", f"{_PLACE}, constraint_type text, is_deferrable text, initially_deferred text", _constraints),
    Declared("information_schema", "routines", "specific_catalog text, specific_schema text, specific_name text, routine_catalog text, routine_schema text, routine_name text, routine_type text, data_type text, routine_definition text, external_language text", _routines),
    Declared("information_schema", "referential_constraints", "constraint_catalog text, constraint_schema text, constraint_name text, unique_constraint_name text", nothing),
    Declared("information_schema", "constraint_column_usage", "table_catalog text, table_schema text, table_name text, column_name text, constraint_catalog text, constraint_schema text, constraint_name text", nothing),
    Declared("information_schema", "sequences", "sequence_catalog text, sequence_schema text, sequence_name text, data_type text", nothing),
    Declared("information_schema", "triggers", "trigger_catalog text, trigger_schema text, trigger_name text, event_object_table text", nothing),
)  # fmt: skip
