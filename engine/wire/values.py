"""Single values in PostgreSQL's forms, as RisingWave prints them: what no Arrow kernel can do for a whole column.

Floats follow RisingWave (the ryu layout: plain up to 16 digits for float8 and 13 for float4, an exponent of at least two
digits beyond), which differs from PostgreSQL's only between 1e15 and 1e16 and around 1e-5; both are the shortest digits that
read back as the same value.
"""

from __future__ import annotations

import json
import math
import struct
from datetime import timedelta
from decimal import Decimal

import numpy as np

EPOCH_DAYS = 10_957
"""Days from 1970-01-01 to 2000-01-01, PostgreSQL's day zero."""
EPOCH_MICROSECONDS = EPOCH_DAYS * 86_400 * 1_000_000

_NUMERIC_NAN = 0xC000
_NUMERIC_INFINITY = 0xD000
_NUMERIC_MINUS_INFINITY = 0xF000
_NUMERIC_NEGATIVE = 0x4000


def float_text(value: float, *, single: bool) -> str:
    """The shortest text that reads back as the same float8, or float4 when `single`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    # NumPy and Python both print the shortest round-trip digits; only the layout below is ours.
    shortest = Decimal(str(np.float32(value)) if single else repr(value))
    sign, digits, exponent = shortest.normalize().as_tuple()
    assert isinstance(exponent, int)
    point = len(digits) + exponent
    text = "".join(map(str, digits))
    lowest, highest = (-6, 13) if single else (-5, 16)
    if exponent >= 0 and point <= highest:
        text += "0" * exponent
    elif 0 < point <= highest:
        text = f"{text[:point]}.{text[point:]}"
    elif lowest < point <= 0:
        text = f"0.{'0' * -point}{text}"
    else:
        mantissa = text if len(text) == 1 else f"{text[0]}.{text[1:]}"
        text = f"{mantissa}e{'-' if point < 1 else '+'}{abs(point - 1):02d}"
    return f"-{text}" if sign else text


def interval_text(months: int, days: int, microseconds: int) -> str:
    """`1 year 2 mons 3 days 04:05:06.789`, without the parts that are zero; `00:00:00` when all are."""
    years, months = int(months / 12), int(math.fmod(months, 12))
    parts = []
    before = 1
    for count, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if count:
            # A part above zero behind one below zero shows its sign.
            parts.append(f"{'+' if before < 0 < count else ''}{count} {unit if count == 1 else unit + 's'}")
            before = count
    if microseconds or not parts:
        seconds, fraction = divmod(abs(microseconds), 1_000_000)
        clock = f"{'-' if microseconds < 0 else '+' if before < 0 else ''}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        parts.append(f"{clock}.{fraction:06d}".rstrip("0") if fraction else clock)
    return " ".join(parts)


def json_text(document: str) -> str:
    """The normal form of jsonb: sorted keys, a space after `:` and `,`. Text that is no JSON is handed on as it is."""
    try:
        return json.dumps(json.loads(document), sort_keys=True, ensure_ascii=False)
    except ValueError:
        return document


def decimal_text(value: Decimal) -> str:
    """A numeric without exponent and without zeros after the value's last digit."""
    if not value.is_finite():
        return "NaN" if value.is_nan() else ("Infinity" if value > 0 else "-Infinity")
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def decimal_to_binary(value: Decimal) -> bytes:
    """numeric_send: `ndigits, weight, sign, dscale` and digits in base 10,000."""
    if not value.is_finite():
        code = _NUMERIC_NAN if value.is_nan() else (_NUMERIC_INFINITY if value > 0 else _NUMERIC_MINUS_INFINITY)
        return struct.pack("!HhHH", 0, 0, code, 0)
    text = f"{value:f}"
    negative = text.startswith("-")
    whole, _, fraction = text.lstrip("-").partition(".")
    whole = whole.lstrip("0")
    padded = whole.rjust(-(-len(whole) // 4) * 4, "0") + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int(padded[at : at + 4]) for at in range(0, len(padded), 4)]
    weight = -(-len(whole) // 4) - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    if not groups:
        weight = 0
    return struct.pack(
        f"!HhHH{len(groups)}H", len(groups), weight, _NUMERIC_NEGATIVE if negative else 0, len(fraction), *groups
    )


def decimal_from_binary(data: bytes) -> Decimal:
    """numeric_recv. Raises ValueError when the bytes are no numeric."""
    if len(data) < 8:
        raise ValueError("a binary numeric has at least 8 bytes")
    count, weight, sign, scale = struct.unpack_from("!HhHH", data)
    if sign == _NUMERIC_NAN:
        return Decimal("NaN")
    if sign in (_NUMERIC_INFINITY, _NUMERIC_MINUS_INFINITY):
        return Decimal("Infinity") if sign == _NUMERIC_INFINITY else Decimal("-Infinity")
    if sign not in (0, _NUMERIC_NEGATIVE) or len(data) != 8 + 2 * count:
        raise ValueError("the header of a binary numeric contradicts its length")
    groups = struct.unpack_from(f"!{count}H", data, 8)
    if any(group > 9999 for group in groups):
        raise ValueError("a digit of a binary numeric is above 9999")
    text = "".join(f"{group:04d}" for group in groups) or "0"
    exponent = (weight - count + 1) * 4 if count else 0
    digits = tuple(int(digit) for digit in text)
    value = Decimal((1 if sign else 0, digits, exponent))
    whole, _, fraction = f"{value:f}".partition(".")
    return Decimal(f"{whole}.{fraction[:scale].ljust(scale, '0')}" if scale else whole)


def interval_value(months: int, days: int, microseconds: int) -> timedelta | str:
    """An interval parameter: a timedelta, or its text where it has months, which no timedelta can hold."""
    if months:
        return interval_text(months, days, microseconds)
    return timedelta(days=days, microseconds=microseconds)
