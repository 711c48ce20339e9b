"""Functions in FROM whose rows have several columns, or a type that only the call says.

Each becomes one list, of which every element is a row. Source: RisingWave documentation, "JSON functions and operators",
"Set-returning functions", "System information functions".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlglot import exp

from engine.functions.json_values import from_json, member
from engine.functions.keywords import KEYWORDS
from engine.sql.errors import SqlError, TypeMismatch
from engine.sql.expressions import Call, Expr, quote_identifier
from engine.sql.parser.calls import FunctionCall
from engine.sql.type_names import parse_type
from engine.sql.types import BOOL, INT4, JSONB, VARCHAR, SqlType, list_of, struct_of

if TYPE_CHECKING:
    from engine.sql.binder.expression import ExpressionBinder

_DEFINED = ("jsonb_to_record", "jsonb_to_recordset")
_LIKE_BASE = ("jsonb_populate_record", "jsonb_populate_recordset")


def is_record_function(name: str) -> bool:
    """Whether it is one of these; all of them may stand in FROM."""
    return name in _DEFINED or name in _FUNCTIONS


def gives_rows(name: str) -> bool:
    """Whether it gives rows in a SELECT list, too."""
    return is_record_function(name) and name != "jsonb_populate_record"


def record_list(binder: ExpressionBinder, call: FunctionCall, columns: list[exp.Expr]) -> Call:
    """The list of the call's rows.

    Args:
        columns: the column definitions of `AS t(a int, b text)`, for the functions that need them.
    """
    args = [binder.bind(arg) for arg in call.arguments]
    if call.name in _DEFINED:
        return _defined(binder, call, args, columns)
    return _FUNCTIONS[call.name](binder, call, args)


def populated(binder: ExpressionBinder, call: FunctionCall, args: list[Expr]) -> Call:
    """`jsonb_populate_record(base, document)` as one value."""
    base, document = _base_and_document(binder, call, args)
    return Call(base.type, call.name, (base, document), _populated(base.type, "{1}"))


def _defined(binder: ExpressionBinder, call: FunctionCall, args: list[Expr], columns: list[exp.Expr]) -> Call:
    typed = [c for c in columns if isinstance(c, exp.ColumnDef)]
    if len(args) != 1 or not typed or len(typed) != len(columns):
        raise SqlError(
            f"a column definition list is required for {call.name}",
            position=call.position,
            fix=f"`{call.name}(document) AS t(a int, b varchar)`.",
            sqlstate="42601",
        )
    row = struct_of(*((c.this.name, parse_type(c.args["kind"])) for c in typed))
    document = binder.coerce(args[0], JSONB)
    if call.name == "jsonb_to_record":
        return Call(list_of(row), call.name, (document,), f"[{from_json('{0}', row)}]")
    each = f"list_transform(json_extract({{0}}, '$[*]'), lambda r_j: {from_json('r_j', row, depth=1)})"
    return Call(list_of(row), call.name, (document,), each)


def _populate_record(binder: ExpressionBinder, call: FunctionCall, args: list[Expr]) -> Call:
    base, document = _base_and_document(binder, call, args)
    return Call(list_of(base.type), call.name, (base, document), f"[{_populated(base.type, '{1}')}]")


def _populate_recordset(binder: ExpressionBinder, call: FunctionCall, args: list[Expr]) -> Call:
    base, document = _base_and_document(binder, call, args)
    each = f"list_transform(json_extract({{1}}, '$[*]'), lambda r_j: {_populated(base.type, 'r_j')})"
    return Call(list_of(base.type), call.name, (base, document), each)


def _base_and_document(binder: ExpressionBinder, call: FunctionCall, args: list[Expr]) -> tuple[Expr, Expr]:
    if len(args) != 2 or args[0].type.name != "struct":
        raise TypeMismatch(
            f"{call.name} takes a row and a jsonb",
            position=call.position,
            fix="Give the row's type: `NULL::struct<a int, b varchar>`.",
        )
    return args[0], binder.coerce(args[1], JSONB)


def _populated(row: SqlType, document: str) -> str:
    """The members of the document; of the base, `{0}`, what it has not got."""
    parts = []
    for name, type_ in row.fields:
        found = member(document, name)
        quoted = name.replace("'", "''")
        kept = f"struct_extract({{0}}, '{quoted}')"
        parts.append(
            f"{quote_identifier(name)} := CASE WHEN {found} IS NULL THEN {kept} ELSE {from_json(found, type_, depth=1)} END"
        )
    return f"(CASE WHEN {document} IS NULL THEN {{0}} ELSE struct_pack({', '.join(parts)}) END)"


def _path_query(binder: ExpressionBinder, call: FunctionCall, args: list[Expr]) -> Call:
    if not 2 <= len(args) <= 4:
        raise SqlError("jsonb_path_query takes a jsonb and a path", position=call.position, sqlstate="42883")
    types = (JSONB, VARCHAR, JSONB, BOOL)
    typed = tuple(binder.coerce(a, t) for a, t in zip(args, types, strict=False))
    variables = "CAST({2} AS VARCHAR)" if len(args) > 2 else "NULL"
    silent = "{3}" if len(args) > 3 else "false"
    found = f"hr_json_path_list(CAST({{0}} AS VARCHAR), {{1}}, {variables}, {silent})"
    return Call(list_of(JSONB), call.name, typed, f"CAST({found} AS JSON[])")


def _expand_array(binder: ExpressionBinder, call: FunctionCall, args: list[Expr]) -> Call:
    del binder
    if len(args) != 1 or args[0].type.element is None:
        raise SqlError("_pg_expandarray takes an array", position=call.position, sqlstate="42883")
    row = struct_of(("x", args[0].type.element), ("n", INT4))
    template = "list_transform({0}, lambda r_x, r_i: struct_pack(x := r_x, n := CAST(r_i AS INTEGER)))"
    return Call(list_of(row), call.name, (args[0],), template)


def _keywords(binder: ExpressionBinder, call: FunctionCall, args: list[Expr]) -> Call:
    del binder
    if args:
        raise SqlError("pg_get_keywords takes no arguments", position=call.position, sqlstate="42883")
    row = struct_of(("word", VARCHAR), ("catcode", VARCHAR), ("catdesc", VARCHAR))
    rows = ", ".join(f"struct_pack(word := '{w}', catcode := '{c}', catdesc := '{d}')" for w, c, d in KEYWORDS)
    return Call(list_of(row), call.name, (), f"[{rows}]")


_FUNCTIONS: dict[str, Callable[[ExpressionBinder, FunctionCall, list[Expr]], Call]] = {
    "jsonb_populate_record": _populate_record,
    "jsonb_populate_recordset": _populate_recordset,
    "jsonb_path_query": _path_query,
    "_pg_expandarray": _expand_array,
    "pg_get_keywords": _keywords,
}


def scalar_list(binder: ExpressionBinder, call: exp.Expr) -> Call:
    """A scalar function in FROM: one row."""
    value = binder.known(binder.bind(call))
    return Call(list_of(value.type), str(call.this).lower(), (value,), "[{0}]")
