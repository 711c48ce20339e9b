"""Maps: the constructor, the functions and the subscript.

Source: RisingWave documentation, "Map type", "Map functions and operators".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from engine.functions import maps
from engine.functions.casts import can_cast_implicitly, common_type
from engine.functions.json_values import from_json
from engine.sql.binder.scope import position_of
from engine.sql.errors import TypeMismatch, UndefinedFunction
from engine.sql.expressions import Call, Expr
from engine.sql.types import BOOL, INT2, INT4, INT8, JSONB, UNKNOWN, VARCHAR, SqlType, list_of, map_of

if TYPE_CHECKING:
    from engine.sql.binder.expression import ExpressionBinder

_KEY_TYPES = (VARCHAR, INT2, INT4, INT8)
_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from")


def bind_map(binder: ExpressionBinder, node: exp.Map) -> Expr:
    """`MAP {key: value, ...}`."""
    keys = binder.call("array", [binder.bind(item) for item in node.args["keys"].expressions], node)
    values = binder.call("array", [binder.bind(item) for item in node.args["values"].expressions], node)
    return _from_lists(keys, values, node)


def map_call(binder: ExpressionBinder, name: str, args: list[Expr], node: exp.Expr) -> Expr | None:
    """A call of one of the map functions; None if it is none."""
    if name == "map_from_key_values" and len(args) == 2 and all(a.type.element is not None for a in args):
        return _from_lists(args[0], args[1], node)
    if name == "map_from_entries" and len(args) == 1:
        return _from_entries(args[0], node)
    if name == "jsonb_populate_map" and len(args) == 2:
        return _populate(args[0], binder.coerce(args[1], JSONB), node)
    maps_among = [a.type for a in args if a.type.name == "map"]
    if not maps_among:
        return None
    if name in _COMPARISONS and len(args) == 2:
        return _compared(binder, name, args, node)
    if name in ("map_cat",) and len(args) == 2:
        type_ = _common(args, node)
        return Call(type_, name, tuple(binder.coerce(a, type_) for a in args), maps.CAT)
    if args[0].type.name != "map":
        return None
    (_, key), (_, value) = args[0].type.fields
    by_key: dict[str, tuple[str, SqlType]] = {
        "map_access": (maps.ACCESS, value), "subscript": (maps.ACCESS, value), "map_contains": (maps.CONTAINS, BOOL),
        "map_delete": (maps.DELETE, args[0].type),
    }  # fmt: skip
    whole: dict[str, tuple[str, SqlType]] = {
        "map_keys": (maps.KEYS, list_of(key)), "map_values": (maps.VALUES, list_of(value)), "map_length": (maps.LENGTH, INT4),
        "cardinality": (maps.LENGTH, INT4), "map_entries": ("{0}", list_of(args[0].type.entries)),
    }  # fmt: skip
    if name in whole and len(args) == 1:
        template, returns = whole[name]
        return Call(returns, name, (args[0],), template)
    if name in by_key and len(args) == 2:
        template, returns = by_key[name]
        return Call(returns, name, (args[0], _fits(binder, args[1], key, node)), template)
    if name == "map_insert" and len(args) == 3:
        type_ = _common([args[0], args[0]], node)
        values = (args[0], _fits(binder, args[1], key, node), _fits(binder, args[2], value, node))
        return Call(type_, name, values, maps.INSERT)
    if name.startswith("map_"):
        shown = ", ".join(a.type.sql for a in args)
        raise UndefinedFunction(f"function `{name}({shown})` does not exist", position=position_of(node))
    return None


def _from_lists(keys: Expr, values: Expr, node: exp.Expr) -> Expr:
    key, value = keys.type.element, values.type.element
    assert key is not None
    assert value is not None
    if key not in _KEY_TYPES:
        raise TypeMismatch(
            f"invalid map key type: {key}", position=position_of(node), fix="A key is a varchar, smallint, integer or bigint."
        )
    return Call(map_of(key, value), "map_from_key_values", (keys, values), maps.FROM_LISTS)


def _from_entries(entries: Expr, node: exp.Expr) -> Expr:
    pair = entries.type.element
    if pair is None or len(pair.fields) != 2:
        raise TypeMismatch(
            f"map_from_entries takes an array of rows of two fields, not {entries.type}", position=position_of(node)
        )
    lists = [
        Call(list_of(type_), "fields", (entries,), f"list_transform({{0}}, lambda m_e: struct_extract(m_e, '{name}'))")
        for name, type_ in pair.fields
    ]
    return _from_lists(lists[0], lists[1], node)


def _populate(base: Expr, document: Expr, node: exp.Expr) -> Expr:
    """The map with the members of a JSON object."""
    if base.type.name != "map":
        raise TypeMismatch(f"jsonb_populate_map takes a map, not {base.type}", position=position_of(node))
    (_, key), (_, value) = base.type.fields
    pair = f"struct_pack(key := {from_json('m_j.key', key, text=True)}, value := {from_json('m_j.value', value)})"
    members = (
        "list_transform(list_sort(json_keys({0})), lambda m_n: struct_pack(key := m_n,"
        " value := json_extract({0}, '$.\"' || replace(m_n, '\"', '\\\"') || '\"')))"
    )
    read = Call(base.type, "jsonb_to_map", (document,), f"list_transform({members}, lambda m_j: {pair})")
    return Call(base.type, "jsonb_populate_map", (base, read), maps.CAT)


def _compared(binder: ExpressionBinder, name: str, args: list[Expr], node: exp.Expr) -> Expr:
    type_ = _common(args, node)
    sides = tuple(Call(type_, "sorted", (binder.coerce(a, type_),), maps.SORTED) for a in args)
    return Call(BOOL, name, sides, f"({{0}} {name.upper()} {{1}})")


def _common(args: list[Expr], node: exp.Expr) -> SqlType:
    type_ = common_type([a.type for a in args])
    if type_ is None or type_.name != "map":
        shown = ", ".join(a.type.sql for a in args)
        raise TypeMismatch(f"map types cannot be matched: {shown}", position=position_of(node), fix="Add a cast.")
    return type_


def _fits(binder: ExpressionBinder, expr: Expr, type_: SqlType, node: exp.Expr) -> Expr:
    if expr.type != UNKNOWN and not can_cast_implicitly(expr.type, type_):
        raise TypeMismatch(f"the map takes {type_}, not {expr.type}", position=position_of(node), fix="Add a cast.")
    return binder.coerce(expr, type_)
