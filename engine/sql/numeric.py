"""NUMERIC: each value keeps its own scale, and is stored as one HUGEINT that sorts as the value does.

A value is a whole mantissa below 2**96 and a scale of 0 to 28 digits behind the point (28 to 29 significant digits), or one
of -Infinity, Infinity, NaN in this order, the first below and the others above all numbers. The key of a positive value is

    bits  102..97   96........5+..   4..0
         [ E + 28 | M, 29 digits   | scale ]          value = 0.M * 10**E

with M shifted so that its first digit is not zero; a negative value has the same with minus E and M and plus the scale, zero has
the scale alone. So keys compare as values do, and values that differ by scale only (1.0 and 1.00) are neighbours: two values
are equal when their keys are equal without the last five bits. docs/adr/0007-numeric.md has what else was tried.

Arithmetic follows the decimal type that RisingWave uses: a sum has the larger scale, a product the sum of the scales, a
quotient as many digits as fit when it does not end, none of its trailing zeros when it does; what does not fit is rounded half
to even. Adding zero keeps the other operand as it is, a product with zero is plain `0`.

Source: documentation of the crate `rust_decimal`; RisingWave documentation, "Overview of data types".
"""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal

from engine.sql.errors import SqlError

MAX_SCALE = 28
_DIGITS = 29
_SCALE_BITS = 5
_MANTISSA_BITS = 97
_LIMIT = 1 << 96
_POWER: tuple[int, ...] = tuple(int(10**n) for n in range(120))
_SCALE_28 = _POWER[MAX_SCALE]
_MASK = (1 << _MANTISSA_BITS) - 1
_WIDE = Context(prec=60)

NAN = ((64 << _MANTISSA_BITS) << _SCALE_BITS) + 31
INFINITY = ((63 << _MANTISSA_BITS) << _SCALE_BITS) + 30
MINUS_INFINITY = -((63 << _MANTISSA_BITS) << _SCALE_BITS) + 29
_SPECIAL_TEXT = {NAN: "NaN", INFINITY: "Infinity", MINUS_INFINITY: "-Infinity"}
_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?")
_WORDS = {
    "nan": NAN, "inf": INFINITY, "+inf": INFINITY, "-inf": MINUS_INFINITY, "infinity": INFINITY, "+infinity": INFINITY,
    "-infinity": MINUS_INFINITY,
}  # fmt: skip


def out_of_range() -> SqlError:
    return SqlError("numeric value out of range", sqlstate="22003", fix="A numeric has at most 28 digits.")


def is_special(key: int) -> bool:
    """Whether it is NaN or an infinity."""
    return key & 31 > MAX_SCALE


def encode(mantissa: int, scale: int) -> int:
    """The key of `mantissa / 10**scale`; both must fit already."""
    if not mantissa:
        return scale
    size = -mantissa if mantissa < 0 else mantissa
    digits = len(str(size))
    body: int = ((digits - scale + 28 << _MANTISSA_BITS) + size * _POWER[_DIGITS - digits]) << _SCALE_BITS
    return scale - body if mantissa < 0 else body + scale


def decode(key: int) -> tuple[int, int]:
    """Mantissa and scale of a finite key."""
    scale = key & 31
    body = (key - scale) >> _SCALE_BITS
    if not body:
        return 0, scale
    size = -body if body < 0 else body
    digits = (size >> _MANTISSA_BITS) - 28 + scale
    mantissa = (size & _MASK) // _POWER[_DIGITS - digits]
    return (-mantissa if body < 0 else mantissa), scale


def fit(mantissa: int, scale: int, *, half_even: bool = True) -> int:
    """The key of the nearest value that fits.

    Raises:
        SqlError: 22003, the whole part has too many digits.
    """
    size = -mantissa if mantissa < 0 else mantissa
    if scale < 0:
        size, scale = size * 10**-scale, 0
    if size >= _LIMIT or scale > MAX_SCALE:
        drop = max(scale - MAX_SCALE, 0)
        if size >= _LIMIT:
            drop = max(drop, len(str(size)) - _DIGITS)
        while True:
            rounded = divide_rounded(size, 10**drop, half_even=half_even)
            if rounded < _LIMIT:
                break
            drop += 1
        if drop > scale:
            raise out_of_range()
        size, scale = rounded, scale - drop
    return encode(-size if mantissa < 0 else size, scale)


def divide_rounded(size: int, by: int, *, half_even: bool) -> int:
    """A quotient of two whole numbers that are not negative, rounded to the nearest one."""
    quotient, rest = divmod(size, by)
    twice = 2 * rest
    if twice > by or (twice == by and by > 1 and (not half_even or quotient & 1)):
        quotient += 1
    return quotient


def parse_numeric(text: str) -> int:
    """The key of a text.

    Raises:
        SqlError: 22P02, it is no number; 22003, it does not fit.
    """
    stripped = text.strip()
    found = _NUMBER.fullmatch(stripped)
    if found is None or not (found[2] or found[3]):
        word = _WORDS.get(stripped.lower())
        if word is None:
            raise SqlError(f'invalid input syntax for type numeric: "{text}"', sqlstate="22P02")
        return word
    fraction = found[3] or ""
    exponent = int(found[4] or 0)
    if abs(exponent) > 10_000:
        raise out_of_range()
    mantissa = int((found[2] or "") + fraction or "0")
    scale = len(fraction) - exponent
    if not mantissa:
        return encode(0, min(max(scale, 0), MAX_SCALE))
    return fit(-mantissa if found[1] == "-" else mantissa, scale, half_even=False)


def from_int(value: int) -> int:
    return fit(value, 0)


def from_decimal(value: Decimal) -> int:
    """The key of a Python decimal, with its scale where it fits."""
    if not value.is_finite():
        return NAN if value.is_nan() else (INFINITY if value > 0 else MINUS_INFINITY)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    mantissa = int("".join(map(str, digits)) or "0")
    if not mantissa:
        return encode(0, min(max(-exponent, 0), MAX_SCALE))
    return fit(-mantissa if sign else mantissa, -exponent)


def from_float(value: float) -> int:
    """The key of a float8, to its 15 reliable digits."""
    return (
        from_decimal(Decimal(f"{value:.15g}")) if value == value and abs(value) != float("inf") else parse_numeric(str(value))
    )


def to_decimal(key: int) -> Decimal:
    """The value as a Python decimal of the same scale."""
    if is_special(key):
        return Decimal(_SPECIAL_TEXT[key])
    mantissa, scale = decode(key)
    return Decimal(mantissa).scaleb(-scale, _WIDE) if scale else Decimal(mantissa)


def to_float(key: int) -> float:
    return float(to_text(key))


def to_int(key: int) -> int:
    """Rounded half away from zero.

    Raises:
        SqlError: 22003, NaN or infinity.
    """
    if is_special(key):
        raise SqlError("cannot convert NaN or infinity to an integer", sqlstate="22003")
    mantissa, scale = decode(key)
    size = divide_rounded(abs(mantissa), _POWER[scale], half_even=False)
    return -size if mantissa < 0 else size


def to_text(key: int) -> str:
    """All digits of the value's own scale, no exponent."""
    scale = key & 31
    if scale > MAX_SCALE:
        return _SPECIAL_TEXT[key]
    mantissa, scale = decode(key)
    if not scale:
        return str(mantissa)
    digits = str(abs(mantissa)).rjust(scale + 1, "0")
    return f"{'-' if mantissa < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def normalize(key: int) -> int:
    """The same value without trailing zeros: equal for equal values."""
    if is_special(key):
        return key
    mantissa, scale = decode(key)
    if not mantissa:
        return 0
    while scale and not mantissa % 10:
        mantissa, scale = mantissa // 10, scale - 1
    return encode(mantissa, scale)


def negate(key: int) -> int:
    if is_special(key):
        return NAN if key == NAN else (MINUS_INFINITY if key == INFINITY else INFINITY)
    scale = key & 31
    return 2 * scale - key


def add(a: int, b: int) -> int:
    if is_special(a) or is_special(b):
        return _special(a, b, "add")
    (m, s), (n, t) = decode(a), decode(b)
    if not m:
        return b
    if not n:
        return a
    if s < t:
        m, s = m * _POWER[t - s], t
    elif t < s:
        n *= _POWER[s - t]
    return fit(m + n, s)


def subtract(a: int, b: int) -> int:
    return add(a, negate(b))


def multiply(a: int, b: int) -> int:
    if is_special(a) or is_special(b):
        return _special(a, b, "multiply")
    (m, s), (n, t) = decode(a), decode(b)
    return fit(m * n, s + t) if m and n else 0


def divide(a: int, b: int) -> int:
    """Raises SqlError: 22012, division by zero."""
    if is_special(a) or is_special(b):
        return _special(a, b, "divide")
    (m, s), (n, t) = decode(a), decode(b)
    if not n:
        raise SqlError("division by zero", sqlstate="22012")
    if not m:
        return 0
    negative = (m < 0) != (n < 0)
    m, n = abs(m), abs(n)
    scale = s - t
    if scale < 0:
        m, scale = m * _POWER[-scale], 0
    quotient, rest = divmod(m, n)
    if rest:
        # As many digits as a mantissa holds, then the trailing zeros go again.
        more = MAX_SCALE - scale
        wide, left = divmod(m * _POWER[more], n)
        while wide >= _LIMIT and more > 0:
            more -= 1
            wide, left = divmod(m * _POWER[more], n)
        if 2 * left > n or (2 * left == n and wide & 1):
            wide += 1
        quotient, scale = wide, scale + more
        while scale and not quotient % 10:
            quotient, scale = quotient // 10, scale - 1
    return fit(-quotient if negative else quotient, scale)


def average(total: int, count: int) -> int:
    """As `divide` of two whole numbers, `count` above zero: the average of whole numbers, in a third of the time."""
    size = -total if total < 0 else total
    whole, rest = divmod(size, count)
    if not rest:
        return fit(-whole if total < 0 else whole, 0)
    scale = MAX_SCALE
    mantissa, left = divmod(size * _SCALE_28, count)
    while mantissa >= _LIMIT:
        scale = max(min(scale - 1, _DIGITS - len(str(whole))), 0)
        mantissa, left = divmod(size * _POWER[scale], count)
        if not scale:
            break
    if 2 * left > count or (2 * left == count and mantissa & 1):
        mantissa += 1
    if mantissa >= _LIMIT:
        return fit(-mantissa if total < 0 else mantissa, scale)
    # The digits of a key are always 29, so trailing zeros change nothing but the scale.
    text = str(mantissa)
    digits = len(text)
    body: int = ((digits - scale + 28 << _MANTISSA_BITS) + mantissa * _POWER[_DIGITS - digits]) << _SCALE_BITS
    scale -= min(scale, digits - len(text.rstrip("0")))
    return scale - body if total < 0 else scale + body


def remainder(a: int, b: int) -> int:
    """The sign is the dividend's. Raises SqlError: 22012."""
    if is_special(a) or is_special(b):
        return NAN
    (m, s), (n, t) = decode(a), decode(b)
    if not n:
        raise SqlError("division by zero", sqlstate="22012")
    if not m:
        return 0
    scale = max(s, t)
    rest = abs(m) * _POWER[scale - s] % (abs(n) * _POWER[scale - t])
    return fit(-rest if m < 0 else rest, scale)


def round_to(key: int, places: int, mode: str = "round") -> int:
    """`round` (half away from zero), `trunc`, `floor` or `ceil` at `places` digits behind the point (before it if negative).

    A value with no more digits stays as it is, as in the crate rust_decimal; PostgreSQL would add zeros.
    """
    if is_special(key):
        return key
    mantissa, scale = decode(key)
    places = max(min(places, MAX_SCALE), -40)
    if places >= scale:
        return key
    unit = 10 ** (scale - places)
    size = abs(mantissa)
    if mode == "round":
        size = divide_rounded(size, unit, half_even=False)
    else:
        size, rest = divmod(size, unit)
        if rest and ((mode == "floor" and mantissa < 0) or (mode == "ceil" and mantissa > 0)):
            size += 1
    if mantissa < 0:
        size = -size
    return fit(size, places)


def whole_part(key: int) -> int:
    """For sums: the part before the point, with the value's sign; 0 for NaN and infinity."""
    if is_special(key):
        return 0
    mantissa, scale = decode(key)
    return -(-mantissa // _POWER[scale]) if mantissa < 0 else mantissa // _POWER[scale]


def fraction_part(key: int) -> int:
    """For sums: the part behind the point in units of 10**-28, with the value's sign; 0 for NaN and infinity."""
    if is_special(key):
        return 0
    mantissa, scale = decode(key)
    rest = abs(mantissa) % _POWER[scale] * _POWER[MAX_SCALE - scale]
    return -rest if mantissa < 0 else rest


def combine(whole: int, fraction: int, scale: int) -> int:
    """The sum of many values from the sums of their parts and their largest scale (above 28: the special value's own)."""
    if scale > MAX_SCALE:
        return {31: NAN, 30: INFINITY, 29: MINUS_INFINITY}[scale]
    total = whole * _SCALE_28 + fraction
    size = abs(total) // _POWER[MAX_SCALE - scale]
    return fit(-size if total < 0 else size, scale)


def _special(a: int, b: int, operation: str) -> int:
    """Arithmetic with NaN or infinity, as IEEE 754 has it."""
    value = {NAN: math.nan, INFINITY: math.inf, MINUS_INFINITY: -math.inf}
    x, y = (value[k] if is_special(k) else float(to_text(k)) for k in (a, b))
    if operation == "add":
        result = x + y
    elif operation == "multiply":
        result = x * y
    elif y == 0:
        raise SqlError("division by zero", sqlstate="22012")
    else:
        result = x / y
    return from_float(result)
