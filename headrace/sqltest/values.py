"""What a cell means in a column of a type: `1` and `1.0` are one number, `t` and `true` one boolean, `Z` and `+00:00` one zone.

What is expected and what came are read by the same functions; what cannot be read is compared as text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal

from headrace.sqltest.model import Cell
from headrace.sqltest.rows import cell_text

FLOATS = frozenset({700, 701})
_TRUE, _FALSE = ("t", "true"), ("f", "false")


def _boolean(text: str) -> object:
    if text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    raise ValueError(text)


def _instant(text: str) -> object:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _float(text: str) -> object:
    number = float(text)
    return "NaN" if math.isnan(number) else number


def _numeric(text: str) -> object:
    number = Decimal(text)
    return "NaN" if number.is_nan() else number


def _json(text: str) -> object:
    return _frozen(json.loads(text))


_READERS: Mapping[int, Callable[[str], object]] = {
    16: _boolean, 20: int, 21: int, 23: int, 26: int, 700: _float, 701: _float, 1700: _numeric, 1082: date.fromisoformat,
    1083: time.fromisoformat, 1114: datetime.fromisoformat, 1184: _instant, 114: _json, 3802: _json,
}  # fmt: skip
_ELEMENTS = {
    1000: 16, 1005: 21, 1007: 23, 1009: 25, 1015: 1043, 1016: 20, 1021: 700, 1022: 701, 1231: 1700, 1115: 1114, 1182: 1082,
    1183: 1083, 1185: 1184, 3807: 3802,
}  # fmt: skip


def meaning(cell: Cell, oid: int) -> object:
    """A hashable value that two cells share if they mean the same; None is NULL.

    Args:
        oid: PostgreSQL's of the column.
    """
    if cell is None:
        return None
    element = _ELEMENTS.get(oid)
    try:
        if element is not None:
            items = cell if isinstance(cell, list) else _array_items(str(cell))
            return tuple(meaning(item, element) for item in items)
        if oid in (114, 3802) and not isinstance(cell, str):
            return _frozen(cell)
        text = cell_text(cell)
        assert text is not None
        return _READERS[oid](text) if oid in _READERS else text
    except (ValueError, ArithmeticError):
        return cell_text(cell)


def same(expected: object, found: object, tolerance: float) -> bool:
    """Whether two meanings agree; floats, also inside arrays, may differ a little."""
    if isinstance(expected, float) and isinstance(found, float):
        return expected == found or math.isclose(expected, found, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(expected, tuple) and isinstance(found, tuple):
        return len(expected) == len(found) and all(same(e, f, tolerance) for e, f in zip(expected, found, strict=True))
    return type(expected) is type(found) and expected == found


def as_json(text: str | None, oid: int) -> Cell:
    """What came from the database, as one would write it in a JSON line."""
    if text is None:
        return None
    if oid == 16:
        return text == "t"
    element = _ELEMENTS.get(oid)
    try:
        if element is not None:
            return [as_json(None if item is None else str(item), element) for item in _array_items(text)]
        if oid in (20, 21, 23, 26, 114, 3802) or (oid in (700, 701, 1700) and math.isfinite(float(text))):
            return json.loads(text)
    except ValueError:
        pass
    return text


def _frozen(value: object) -> object:
    """JSON as something hashable; numbers compare as numbers, as jsonb does."""
    if isinstance(value, dict):
        return ("{}", *sorted((name, _frozen(each)) for name, each in value.items()))
    if isinstance(value, list):
        return ("[]", *(_frozen(each) for each in value))
    exact = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return float(value) if exact else value  # type: ignore[arg-type]  # an int, as `exact` says


def _array_items(text: str) -> list[Cell]:
    """The items of `{1,2}` or `[1, 2]`; nested arrays stay text.

    Raises:
        ValueError: it is neither.
    """
    stripped = text.strip()
    if stripped.startswith("["):
        items = json.loads(stripped)
        return list(items)
    if not (stripped.startswith("{") and stripped.endswith("}")):
        raise ValueError(text)
    items, item, depth, quoted, was_quoted = [], "", 0, False, False
    inner = iter(stripped[1:-1])
    for letter in inner:
        if letter == "\\":
            item += next(inner, "")
        elif letter == '"' and not depth:
            quoted, was_quoted = not quoted, True
        elif letter == "," and not quoted and not depth:
            items.append(_item(item, was_quoted))
            item, was_quoted = "", False
        else:
            depth += (letter == "{") - (letter == "}") if not quoted else 0
            item += letter
    return [*items, _item(item, was_quoted)] if stripped != "{}" else []


def _item(text: str, quoted: bool) -> Cell:
    return text if quoted else None if text.strip() == "NULL" else text.strip()
