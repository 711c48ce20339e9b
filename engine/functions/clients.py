"""Functions that clients and tools call about privileges, visibility and descriptions, so that their queries run.

Every user may do everything. What needs the catalog is answered in
`engine.sql.binder.catalog_functions`.
Source: PostgreSQL documentation, section 9.27 "System Information Functions".
"""

from __future__ import annotations

from engine.functions.registry import FunctionTable
from engine.sql.types import SCALARS, UNKNOWN, list_of

_OTHER_TYPES = {
    19: "name",
    25: "text",
    26: "oid",
    18: '"char"',
    1042: "character",
    2205: "regclass",
    2249: "record",
    2278: "void",
}
_NO_TEXT = "CAST(NULL AS VARCHAR)"
_NO_TEXTS = {
    "shobj_description": ("any, varchar",),
    "pg_get_partkeydef": ("any",), "pg_get_statisticsobjdef_columns": ("any",), "pg_get_statisticsobjdef": ("any",),
    "pg_get_serial_sequence": ("varchar, varchar",), "pg_get_ruledef": ("any", "any, bool"), "pg_get_triggerdef": ("any", "any, bool"),
    "inet_client_addr": ("",), "inet_server_addr": ("",),
}  # fmt: skip


def declare(t: FunctionTable) -> None:
    """Add them all."""
    for what in ("type", "function", "opclass", "operator", "collation", "conversion", "statistics_obj", "ts_config"):
        t.add(f"pg_{what}_is_visible", "any -> bool", "({0} IS NOT NULL)")
    for name in ("pg_relation_is_publishable", "pg_is_other_temp_schema", "pg_cancel_backend", "pg_terminate_backend"):
        t.add(name, "any -> bool", "false")
    for what in (
        "schema",
        "table",
        "database",
        "function",
        "column",
        "sequence",
        "any_column",
        "language",
        "type",
        "tablespace",
    ):
        t.add(f"has_{what}_privilege", "any, varchar -> bool", "true")
        t.add(f"has_{what}_privilege", "any, any, varchar -> bool", "true")
    t.add("has_column_privilege", "any, any, any, varchar -> bool", "true")
    t.add("pg_has_role", "any, varchar -> bool", "true")
    t.add("pg_has_role", "any, any, varchar -> bool", "true")
    for name, signatures in _NO_TEXTS.items():
        for signature in signatures:
            t.add(name, f"{signature} -> varchar", _NO_TEXT)
    t.add("pg_get_expr", "varchar, any -> varchar", "{0}")
    t.add("pg_get_expr", "varchar, any, bool -> varchar", "{0}")
    t.add("format_type", "any, any -> varchar", _format_type())
    t.add("pg_encoding_to_char", "any -> varchar", "'UTF8'")
    t.add("pg_char_to_encoding", "varchar -> int4", "6")
    t.add("pg_tablespace_location", "any -> varchar", "''")
    t.add("set_config", "varchar, varchar, bool -> varchar", "{1}")
    t.add("json_build_object", "any... -> jsonb", "json_object({*})")
    t.add("txid_current", "-> int8", "CAST(0 AS BIGINT)")
    t.add("pg_my_temp_schema", "-> int4", "0")
    t.add("inet_server_port", "-> int4", "CAST(NULL AS INTEGER)")
    for what in ("indexes", "database", "tablespace"):
        t.add(f"pg_{what}_size", "any -> int8", "CAST(0 AS BIGINT)")


def _format_type() -> str:
    names = {t.oid: t.sql for t in SCALARS if t != UNKNOWN and t.name != "serial"}
    names |= {list_of(t).oid: f"{t.sql}[]" for t in SCALARS if t != UNKNOWN and t.name != "serial"}
    cases = " ".join(f"WHEN {oid} THEN '{name}'" for oid, name in {**_OTHER_TYPES, **names}.items())
    return f"(CASE CAST({{0}} AS BIGINT) {cases} ELSE '???' END)"
