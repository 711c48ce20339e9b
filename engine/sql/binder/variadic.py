"""Calls with `VARIADIC array`: each means a call that takes an array.

Source: RisingWave documentation, "String functions and operators", "JSON functions and operators".
"""

from __future__ import annotations

from engine.sql.errors import UnsupportedQuery
from engine.sql.expressions import Expr, Literal
from engine.sql.types import VARCHAR

_SAME = {
    "jsonb_build_array": "to_jsonb",
    "jsonb_extract_path": "#>",
    "jsonb_extract_path_text": "#>>",
    "format": "format variadic",
    "jsonb_build_object": "jsonb_build_object variadic",
}


def spread(name: str, args: list[Expr], position: int | None) -> tuple[str, list[Expr]]:
    """The function and arguments that the call stands for."""
    if name == "concat" and len(args) == 1:
        return "array_to_string", [args[0], Literal(VARCHAR, "")]
    if name == "concat_ws" and len(args) == 2:
        return "array_to_string", [args[1], args[0]]
    if name in _SAME:
        return _SAME[name], args
    raise UnsupportedQuery(f"`{name}` takes no VARIADIC argument", position=position, fix="Write the elements as arguments.")
