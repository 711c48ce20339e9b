"""Window frames as DuckDB text."""

from __future__ import annotations

from sqlglot import exp

from engine.sql.binder.scope import position_of
from engine.sql.errors import UnsupportedQuery


def render_frame(spec: exp.Expr | None) -> str:
    """`ROWS BETWEEN 1 PRECEDING AND CURRENT ROW` and the like; empty for the default frame.

    Raises:
        UnsupportedQuery: a frame that we cannot maintain.
    """
    if spec is None:
        return ""
    kind = str(spec.args.get("kind") or "").upper()
    if kind != "ROWS":
        raise UnsupportedQuery(
            f"`{kind}` frames are not supported yet", position=position_of(spec), fix="Write the frame with ROWS."
        )
    start = _bound(spec.args.get("start"), spec.args.get("start_side"))
    end = _bound(spec.args.get("end"), spec.args.get("end_side")) if spec.args.get("end") is not None else "CURRENT ROW"
    return f"ROWS BETWEEN {start} AND {end}"


def _bound(value: object, side: object) -> str:
    if isinstance(value, exp.Expr):
        if not isinstance(value, exp.Literal) or value.is_string or not str(value.this).isdigit():
            raise UnsupportedQuery("a frame bound must be a constant number of rows", position=position_of(value))
        return f"{value.this} {side or 'PRECEDING'}"
    text = str(value or "CURRENT ROW").upper()
    return text if text == "CURRENT ROW" else f"{text} {side or 'PRECEDING'}"
