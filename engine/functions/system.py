"""What clients and tools ask of the system itself. The names that need a catalog are answered in `pg_catalog`.

Source: RisingWave documentation, "System administration functions", "System information functions".
"""

from __future__ import annotations

from engine.functions.native import native
from engine.functions.registry import FunctionTable
from engine.sql.types import SqlType

VERSION = "PostgreSQL 13.14.0-RisingWave-2.6.0 (headrace 0.1.0)"
_TYPE_NAMES = {
    16: "boolean", 17: "bytea", 20: "bigint", 21: "smallint", 23: "integer", 25: "text", 700: "real", 701: "double precision",
    1043: "character varying", 1082: "date", 1083: "time without time zone", 1114: "timestamp without time zone",
    1184: "timestamp with time zone", 1186: "interval", 1700: "numeric", 2249: "record", 3802: "jsonb", 1000: "boolean[]",
    1005: "smallint[]", 1007: "integer[]", 1015: "character varying[]", 1016: "bigint[]", 1021: "real[]", 1022: "double precision[]",
    1231: "numeric[]", 1115: "timestamp without time zone[]", 1185: "timestamp with time zone[]", 1182: "date[]", 3807: "jsonb[]",
}  # fmt: skip
_UNITS = {"b": 1, "bytes": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "tb": 1024**4, "pb": 1024**5}


@native("hr_format_type", "BIGINT", returns="VARCHAR")
def _format_type(oid: int) -> str:
    return _TYPE_NAMES.get(oid, "???")


@native("hr_size_pretty", "HUGEINT", returns="VARCHAR")
def _size_pretty(size: int) -> str:
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    at = 0
    while abs(size) >= 10 * 1024 and at < len(units) - 1:
        half = 1 if at < len(units) - 1 else 0
        size = (abs(size) // 512 + half) // 2 * (1 if size >= 0 else -1)
        at += 1
    return f"{size} {units[at]}"


def _type_name(types: tuple[SqlType, ...]) -> str:
    shown = "record" if types[0].name == "struct" else types[0].sql
    return "'" + shown.replace("'", "''") + "'"


def declare(t: FunctionTable) -> None:
    t.add("pg_typeof", "any -> varchar", _type_name)
    t.add("rw_recovery_status", "-> varchar", "'RUNNING'")
    t.add("pg_stat_get_numscans", "any -> int8", "CAST(0 AS BIGINT)")
    t.add("version", "-> varchar", f"'{VERSION}'")
    for name in ("current_database", "current_catalog"):
        t.add(name, "-> varchar", "'dev'")
    t.add("current_schema", "-> varchar", "'public'")
    t.add("current_schemas", "bool -> varchar[]", "['pg_catalog', 'public']")
    for name in ("current_user", "session_user", "current_role", "user"):
        t.add(name, "-> varchar", "'root'")
    t.add("rw_version", "-> varchar", f"'{VERSION}'")
    t.add("rw_cluster_id", "-> varchar", "CAST(uuid() AS VARCHAR)", volatile=True)
    for name in ("pg_cancel_backend", "pg_terminate_backend"):
        t.add(name, "int4 -> bool", "false")
    t.add("pg_sleep_for", "interval -> varchar", "''")
    t.add("pg_backend_pid", "-> int4", "0")
    t.add("pg_is_in_recovery", "-> bool", "false")
    t.add("pg_postmaster_start_time", "-> timestamptz", "CAST(now() AS TIMESTAMP)", volatile=True)
    t.add("pg_sleep", "float8 -> varchar", "''")
    t.add("format_type", "int8, int4 -> varchar", "hr_format_type({0})")
    t.add("pg_size_pretty", "int8 -> varchar", "hr_size_pretty(CAST({0} AS HUGEINT))")
    nothing = "CAST(NULL AS VARCHAR)"
    t.add("shobj_description", "any -> varchar", nothing)
    t.add("shobj_description", "any, any -> varchar", nothing)
    for name in (
        "pg_get_expr",
        "pg_get_constraintdef",
        "pg_get_partkeydef",
        "pg_get_serial_sequence",
        "pg_get_ruledef",
    ):
        t.add(name, "any -> varchar", nothing)
        t.add(name, "any, any -> varchar", nothing)
        t.add(name, "any, any, bool -> varchar", nothing)
    for name in ("pg_table_is_visible", "pg_type_is_visible", "pg_function_is_visible"):
        t.add(name, "any -> bool", "true")
    for name in (
        "has_table_privilege",
        "has_schema_privilege",
        "has_database_privilege",
        "has_any_column_privilege",
        "has_function_privilege",
    ):
        t.add(name, "any, any -> bool", "true")
        t.add(name, "any, any, any -> bool", "true")
    t.add("pg_has_role", "any, any -> bool", "true")
    t.add("pg_encoding_to_char", "int4 -> varchar", "'UTF8'")
    t.add("pg_char_to_encoding", "varchar -> int4", "6")
    t.add("pg_indexes_size", "any -> int8", "CAST(0 AS BIGINT)")
