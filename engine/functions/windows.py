"""Window functions: result types. DuckDB computes them with the same names and meaning."""

from __future__ import annotations

from engine.functions.registry import FunctionTable
from engine.sql.types import SqlType

_TABLE = FunctionTable()
for _name in ("row_number", "rank", "dense_rank"):
    _TABLE.add(_name, "-> int8", f"{_name}()")
for _name in ("lag", "lead"):
    _TABLE.add(_name, "anyelement -> anyelement", f"{_name}({{0}})")
    _TABLE.add(_name, "anyelement, int4 -> anyelement", f"{_name}({{0}}, {{1}})")
    _TABLE.add(_name, "anyelement, int4, anyelement -> anyelement", f"{_name}({{0}}, {{1}}, {{2}})")
_TABLE.add("nth_value", "anyelement, int4 -> anyelement", "nth_value({0}, {1})")

_RANKING = frozenset({"row_number", "rank", "dense_rank", "lag", "lead", "nth_value"})


def is_window_function(name: str) -> bool:
    """Whether it may only be used with OVER."""
    return name in _RANKING


def resolve_window_function(name: str, types: list[SqlType], position: int | None) -> tuple[tuple[SqlType, ...], SqlType]:
    """Argument and result types."""
    resolved = _TABLE.resolve(name, types, position)
    return resolved.args, resolved.returns


def signatures() -> dict[str, list[str]]:
    """As `FunctionTable.signatures`."""
    return _TABLE.signatures()
