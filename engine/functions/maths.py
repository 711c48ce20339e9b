"""Mathematics on integers and floats; numeric is in `numerics`.

Degree functions give the exact value at the angles where it is simple (sind(30) is 0.5), as PostgreSQL's do.

Source: RisingWave documentation, "Mathematical functions and operators"; PostgreSQL documentation, 9.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from engine.functions.native import ValueFault, native
from engine.functions.registry import FunctionTable

_OUT = "input is out of range"


def _float(name: str, function: Callable[..., float], arity: int = 1) -> None:
    def call(*values: float) -> float:
        try:
            result = function(*values)
        except (ValueError, ZeroDivisionError) as error:
            if any(math.isnan(v) for v in values):
                return math.nan
            raise ValueFault("22003", _OUT) from error
        except OverflowError as error:
            raise ValueFault("22003", "value out of range: overflow") from error
        return result

    native(f"hr_{name}", *["DOUBLE"] * arity, returns="DOUBLE")(call)


def _sqrt(x: float) -> float:
    if x < 0:
        raise ValueFault("2201F", "cannot take square root of a negative number")
    return math.sqrt(x)


def _log(function: Callable[[float], float]) -> Callable[[float], float]:
    def call(x: float) -> float:
        if x <= 0:
            raise ValueFault("2201E", f"cannot take logarithm of {'zero' if x == 0 else 'a negative number'}")
        return function(x)

    return call


def _cbrt(x: float) -> float:
    root = math.cbrt(x)
    nearest = float(round(root)) if math.isfinite(root) and abs(root) < 1e15 else root
    return nearest if nearest**3 == x else root


def _power(x: float, y: float) -> float:
    if x == 0 and y < 0:
        raise ValueFault("2201F", "zero raised to a negative power is undefined")
    if x < 0 and y != math.floor(y):
        raise ValueFault("2201F", "a negative number raised to a non-integer power yields a complex result")
    return math.pow(x, y)


def _sind_small(x: float) -> float:
    return math.sin(math.radians(x)) / math.sin(math.radians(30)) / 2


def _cosd_small(x: float) -> float:
    return 1 - (1 - math.cos(math.radians(x))) / (1 - math.cos(math.radians(60))) / 2


def _sind_quadrant(x: float) -> float:
    return _sind_small(x) if x <= 30 else _cosd_small(90 - x)


def _cosd_quadrant(x: float) -> float:
    return _cosd_small(x) if x <= 60 else _sind_small(90 - x)


def _sind(x: float) -> float:
    if math.isinf(x):
        raise ValueFault("22003", _OUT)
    sign, x = (-1.0, -x) if x < 0 else (1.0, x)
    x = math.fmod(x, 360)
    if x > 180:
        sign, x = -sign, 360 - x
    return sign * _sind_quadrant(180 - x if x > 90 else x)


def _cosd(x: float) -> float:
    if math.isinf(x):
        raise ValueFault("22003", _OUT)
    x = math.fmod(abs(x), 360)
    x = 360 - x if x > 180 else x
    return -_cosd_quadrant(180 - x) if x > 90 else _cosd_quadrant(x)


def _tand(x: float) -> float:
    sine, cosine = _sind(x), _cosd(x)
    if cosine == 0:
        return math.copysign(math.inf, sine)
    return sine / cosine / (_sind_quadrant(45) / _cosd_quadrant(45)) + 0.0


def _cotd(x: float) -> float:
    sine, cosine = _sind(x), _cosd(x)
    if sine == 0:
        return math.inf
    return cosine / sine / (_cosd_quadrant(45) / _sind_quadrant(45)) + 0.0


def _asind(x: float) -> float:
    if x < 0:
        return -_asind(-x)
    return math.asin(x) / math.asin(0.5) * 30 if x <= 0.5 else 90 - math.acos(x) / math.acos(0.5) * 60


def _acosd(x: float) -> float:
    if x < 0:
        return 90 + _asind(-x)
    return 90 - math.asin(x) / math.asin(0.5) * 30 if x <= 0.5 else math.acos(x) / math.acos(0.5) * 60


@native("hr_sketch_quantile", "DOUBLE[]", "DOUBLE", "DOUBLE", returns="DOUBLE")
def _sketch_quantile(values: list[float], fraction: float, error: float) -> float | None:
    """The quantile that a sketch of relative `error` answers: the middle of the bucket that holds it.

    A negative fraction counts from the other end.
    Source: Masson et al., "DDSketch", PVLDB 12(12), 2019.
    """
    if not values:
        return None
    if not 0 < error < 1:
        raise ValueFault("22023", f"relative_error must be between 0 and 1, not {error:g}")
    rank = math.floor((fraction if fraction >= 0 else 1 + fraction) * (len(values) - 1))
    value = sorted(values)[rank]
    if not value or not math.isfinite(value):
        return value
    base = (1 + error) / (1 - error)
    bucket = math.ceil(math.log(abs(value)) / math.log(base))
    return math.copysign(2 * _whole_power(base, bucket) / (base + 1), value)


def _whole_power(base: float, exponent: int) -> float:
    """By repeated squaring, so that the last digit is the same everywhere."""
    result, rest = 1.0, abs(exponent)
    while rest:
        if rest & 1:
            result *= base
        base *= base
        rest >>= 1
    return 1 / result if exponent < 0 else result


def _round_even(x: float) -> float:
    return x if not math.isfinite(x) else math.copysign(float(round(x)), x)


for _name, _function in {
    "sqrt": _sqrt, "cbrt": _cbrt, "exp": math.exp, "ln": _log(math.log), "log10": _log(math.log10), "sin": math.sin,
    "cos": math.cos, "tan": math.tan, "cot": lambda x: 1 / math.tan(x) if x else math.inf, "asin": math.asin, "acos": math.acos,
    "atan": math.atan, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh, "coth": lambda x: 1 / math.tanh(x) if x else math.inf,
    "asinh": math.asinh, "acosh": math.acosh, "atanh": lambda x: math.copysign(math.inf, x) if abs(x) == 1 else 0.5 * math.log1p(2 * x / (1 - x)),
    "sind": _sind, "cosd": _cosd, "tand": _tand, "cotd": _cotd, "asind": _asind, "acosd": _acosd,
    "atand": lambda x: math.atan(x) / math.atan(1) * 45, "degrees": math.degrees, "radians": math.radians,
    "round_even": _round_even,
}.items():  # fmt: skip
    _float(_name, _function)
_float("power", _power, 2)
_float("atan2", math.atan2, 2)
_float("atan2d", lambda y, x: math.atan2(y, x) / math.atan(1) * 45, 2)


@native("hr_factorial", "BIGINT", returns="HUGEINT")
def _factorial(n: int) -> int:
    from engine.sql.numeric import from_int

    if n < 0:
        raise ValueFault("22003", "factorial of a negative number is undefined")
    return from_int(math.factorial(min(n, 1000)))


@native("hr_width_bucket", "DOUBLE", "DOUBLE", "DOUBLE", "INTEGER", returns="INTEGER")
def _width_bucket(x: float, low: float, high: float, count: int) -> int:
    if count <= 0 or low == high:
        raise ValueFault("2201G", "count must be greater than zero" if count <= 0 else "lower bound cannot equal upper bound")
    place = (x - low) / (high - low)
    return 0 if place < 0 else count + 1 if place >= 1 else int(place * count) + 1


def declare(t: FunctionTable) -> None:
    names = [
        "sqrt",
        "cbrt",
        "exp",
        "ln",
        "log10",
        "sin",
        "cos",
        "tan",
        "cot",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "coth",
        "asinh",
        "acosh",
        "atanh",
        "sind",
        "cosd",
        "tand",
        "cotd",
        "asind",
        "acosd",
        "atand",
        "degrees",
        "radians",
    ]
    for name in names:
        # NaN stays NaN: DuckDB would take what Python answers for NULL.
        t.add(name, "float8 -> float8", f"(CASE WHEN isnan({{0}}) THEN {{0}} ELSE hr_{name}({{0}}) END)")
    t.add("dsqrt", "float8 -> float8", "hr_sqrt({0})")
    t.add("log", "float8 -> float8", "hr_log10({0})")
    for name in ("pow", "power", "^"):
        t.add(name, "float8, float8 -> float8", "hr_power({0}, {1})")
    t.add("atan2", "float8, float8 -> float8", "hr_atan2({0}, {1})")
    t.add("atan2d", "float8, float8 -> float8", "hr_atan2d({0}, {1})")
    for name, function in (("floor", "floor"), ("ceil", "ceil"), ("ceiling", "ceil"), ("trunc", "trunc")):
        t.add(name, "float8 -> float8", f"{function}({{0}})")
    t.add("sign", "float8 -> float8", "CAST(sign({0}) AS DOUBLE)")
    t.add("round", "float8 -> float8", "(CASE WHEN isnan({0}) THEN {0} ELSE hr_round_even({0}) END)")
    for number in ("int2", "int4", "int8"):
        type_ = {"int2": "SMALLINT", "int4": "INTEGER", "int8": "BIGINT"}[number]
        zero = f"CASE WHEN {{1}} = 0 THEN CAST(hr_fail('22012', 'division by zero') AS {type_}) ELSE"
        t.add("mod", f"{number}, {number} -> {number}", f"({zero} CAST({{0}} % {{1}} AS {type_}) END)")
        t.add("div", f"{number}, {number} -> {number}", f"({zero} CAST({{0}} // {{1}} AS {type_}) END)")
        for name in ("gcd", "lcm"):
            t.add(name, f"{number}, {number} -> {number}", f"CAST({name}({{0}}, {{1}}) AS {type_})")
    t.add("div", "numeric, numeric -> numeric", "hr_numeric_trunc(hr_numeric_divide({0}, {1}), 0)")
    t.add("factorial", "int8 -> numeric", "hr_factorial({0})")
    t.add("width_bucket", "float8, float8, float8, int4 -> int4", "hr_width_bucket({0}, {1}, {2}, {3})")
    t.add("random", "-> float8", "random()", volatile=True)
    t.add("pi", "-> float8", "pi()")
    t.add("square", "float8 -> float8", "({0} * {0})")
