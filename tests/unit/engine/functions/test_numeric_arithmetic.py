"""NUMERIC against Python's decimal: values, scales, order and text, for any two numbers that fit."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.sql import numeric
from engine.sql.errors import SqlError

LIMIT = 2**96
WIDE = Context(prec=200, rounding=ROUND_HALF_EVEN)
MANTISSAS = st.one_of(st.integers(-1000, 1000), st.integers(-(10**12), 10**12), st.integers(-LIMIT + 1, LIMIT - 1))
NUMBERS = st.tuples(MANTISSAS, st.integers(0, 28)).map(lambda parts: Decimal(parts[0]).scaleb(-parts[1], WIDE))


def key(value: Decimal) -> int:
    return numeric.from_decimal(value)


@given(value=NUMBERS)
def test_a_number_comes_back_with_its_own_scale(value: Decimal) -> None:
    text = numeric.to_text(key(value))
    assert text == f"{abs(value) if value == 0 else value:f}"
    assert numeric.parse_numeric(text) == key(value)
    assert numeric.to_decimal(key(value)) == value


@given(total=MANTISSAS, count=st.one_of(st.integers(1, 50), st.integers(1, 10**12)))
def test_an_average_of_whole_numbers_is_their_quotient(total: int, count: int) -> None:
    assert numeric.average(total, count) == numeric.divide(numeric.from_int(total), numeric.from_int(count))


@given(a=NUMBERS, b=NUMBERS)
def test_keys_sort_as_numbers_do(a: Decimal, b: Decimal) -> None:
    assert (key(a) >> 5 < key(b) >> 5) == (a < b)
    assert (key(a) >> 5 == key(b) >> 5) == (a == b)
    assert (numeric.normalize(key(a)) == numeric.normalize(key(b))) == (a == b)
    assert numeric.MINUS_INFINITY < key(a) < numeric.INFINITY < numeric.NAN


@given(a=NUMBERS, b=NUMBERS)
def test_sums_and_products_are_the_nearest_that_fit(a: Decimal, b: Decimal) -> None:
    for operation, exact, scale in (
        (numeric.add, WIDE.add(a, b), max(-_exponent(a), -_exponent(b))),
        (numeric.subtract, WIDE.subtract(a, b), max(-_exponent(a), -_exponent(b))),
        (numeric.multiply, WIDE.multiply(a, b), -_exponent(a) - _exponent(b)),
    ):
        if exact.copy_abs() >= LIMIT:
            with pytest.raises(SqlError) as caught:
                operation(key(a), key(b))
            assert caught.value.sqlstate == "22003"
            continue
        result = numeric.to_decimal(operation(key(a), key(b)))
        unit = Decimal(1).scaleb(_exponent(result), WIDE)
        assert abs(WIDE.subtract(result, exact)) * 2 <= unit
        if a and b and scale <= 28 and exact.copy_abs().scaleb(scale, WIDE) < LIMIT:
            assert result == exact
            assert -_exponent(result) == scale


@given(a=NUMBERS, b=NUMBERS)
def test_a_quotient_is_exact_where_it_ends_and_has_all_digits_where_not(a: Decimal, b: Decimal) -> None:
    assume(b != 0)
    exact = WIDE.divide(a, b)
    assume(exact.copy_abs() < LIMIT - 1)
    result = numeric.to_decimal(numeric.divide(key(a), key(b)))
    digits = 28 if abs(exact) < 1 else 27 - len(str(int(abs(exact))))
    assert abs(WIDE.subtract(result, exact)) <= Decimal(1).scaleb(-max(digits, 0), WIDE)
    if WIDE.multiply(result, b) == a:
        assert -_exponent(result) <= 28


@given(value=NUMBERS, places=st.integers(-5, 30))
def test_rounding_is_half_away_from_zero(value: Decimal, places: int) -> None:
    exact = value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, WIDE)
    assume(abs(exact) < LIMIT)
    assert numeric.to_decimal(numeric.round_to(key(value), places)) == exact


@given(values=st.lists(st.tuples(st.integers(-(10**15), 10**15), st.integers(0, 10)), min_size=1, max_size=20))
def test_a_sum_from_parts_is_the_sum(values: list[tuple[int, int]]) -> None:
    keys = [numeric.encode(m, s) for m, s in values]
    total = numeric.combine(
        sum(map(numeric.whole_part, keys)), sum(map(numeric.fraction_part, keys)), max(k & 31 for k in keys)
    )
    assert numeric.to_decimal(total) == sum(numeric.to_decimal(k) for k in keys)


def test_known_quotients() -> None:
    cases = {
        ("1.0", "3"): "0.3333333333333333333333333333", ("2", "3"): "0.6666666666666666666666666667", ("10", "4"): "2.5",
        ("10.00", "4"): "2.50", ("1", "1.00"): "1", ("100", "3"): "33.333333333333333333333333333", ("103", "3"): "34.333333333333333333333333333",
    }  # fmt: skip
    for (a, b), expected in cases.items():
        assert numeric.to_text(numeric.divide(numeric.parse_numeric(a), numeric.parse_numeric(b))) == expected


def _exponent(value: Decimal) -> int:
    return int(value.as_tuple().exponent)
