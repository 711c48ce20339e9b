"""`rw_int256`: arithmetic, comparison comes with its bytes.

Source: RisingWave documentation, "rw_int256".
"""

from __future__ import annotations

import math
from collections.abc import Callable

from engine.functions.native import ValueFault, native
from engine.functions.registry import FunctionTable
from engine.sql.int256 import decode, encode, parse


@native("hr_int256", "VARCHAR", returns="BLOB")
def _from_text(text: str) -> bytes:
    return encode(parse(text))


@native("hr_int256_of", "BIGINT", returns="BLOB")
def _from_int(value: int) -> bytes:
    return encode(value)


@native("hr_int256_hex", "VARCHAR", returns="BLOB")
def _from_hex(text: str) -> bytes:
    return encode(parse(text if text[:2].lower() == "0x" else f"0x{text}"))


@native("hr_int256_text", "BLOB", returns="VARCHAR")
def _text(value: bytes) -> str:
    return str(decode(value))


@native("hr_int256_float", "BLOB", returns="DOUBLE")
def _float(value: bytes) -> float:
    return float(decode(value))


def _divide(a: int, b: int) -> int:
    if b == 0:
        raise ValueFault("22012", "division by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": lambda a, b: a - b * _divide(a, b),
}


@native("hr_int256_op", "VARCHAR", "BLOB", "BLOB", returns="BLOB")
def _operate(sign: str, a: bytes, b: bytes) -> bytes:
    return encode(_OPERATIONS[sign](decode(a), decode(b)))


@native("hr_int256_neg", "BLOB", "BOOLEAN", returns="BLOB")
def _negate(value: bytes, only_below_zero: bool) -> bytes:
    number = decode(value)
    return value if only_below_zero and number >= 0 else encode(-number)


@native("hr_int256_sum", "BLOB[]", returns="BLOB")
def _sum(values: list[bytes | None]) -> bytes | None:
    numbers = [decode(value) for value in values if value is not None]
    return encode(sum(numbers)) if numbers else None


@native("hr_int256_moment", "BLOB[]", "VARCHAR", returns="DOUBLE")
def _moment(values: list[bytes | None], what: str) -> float | None:
    numbers = [decode(value) for value in values if value is not None]
    count = len(numbers)
    if not count or (count == 1 and what.endswith("samp")):
        return None
    if what == "avg":
        return sum(numbers) / count
    squares = float(sum(n * n for n in numbers)) - float(sum(numbers)) ** 2 / count
    spread = squares / (count - what.endswith("samp"))
    return math.sqrt(spread) if what.startswith("stddev") else spread


def declare(t: FunctionTable) -> None:
    for sign in _OPERATIONS:
        t.add(sign, "int256, int256 -> int256", f"hr_int256_op('{sign}', {{0}}, {{1}})")
    for sign in ("=", "<>", "<", "<=", ">", ">="):
        t.add(sign, "int256, int256 -> bool", f"({{0}} {sign} {{1}})")
    t.add("mod", "int256, int256 -> int256", "hr_int256_op('%', {0}, {1})")
    t.add("neg", "int256 -> int256", "hr_int256_neg({0}, false)")
    t.add("abs", "int256 -> int256", "hr_int256_neg({0}, true)")
    t.add("hex_to_int256", "varchar -> int256", "hr_int256_hex({0})")


def declare_aggregates(t: FunctionTable) -> None:
    t.add("sum", "int256 -> int256", "hr_int256_sum({list({0})})")
    for name in ("avg", "stddev_pop", "stddev_samp", "var_pop", "var_samp"):
        t.add(name, "int256 -> float8", f"hr_int256_moment({{list({{0}})}}, '{name}')")
    for name in ("min", "max"):
        t.add(name, "int256 -> int256", f"{{{name}({{0}})}}")
