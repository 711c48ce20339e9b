"""Row filters as PyIceberg expressions, from values: nothing is ever spliced into text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import reduce

from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    IsNull,
    LessThan,
    LessThanOrEqual,
    Or,
    Reference,
)


def equals(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column has the value."""
    return _predicate(EqualTo, column, value)


def at_least(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column is the value or greater."""
    return _predicate(GreaterThanOrEqual, column, value)


def at_most(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column is the value or less."""
    return _predicate(LessThanOrEqual, column, value)


def less_than(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column is less than the value."""
    return _predicate(LessThan, column, value)


def greater_than(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column is greater than the value."""
    return _predicate(GreaterThan, column, value)


def is_null(column: str) -> BooleanExpression:
    """The column has no value."""
    return _predicate(IsNull, column)


def one_of(first: BooleanExpression, *others: BooleanExpression) -> BooleanExpression:
    """At least one part holds."""
    return reduce(Or, others, first)


def all_of(*parts: BooleanExpression) -> BooleanExpression:
    """All parts hold; without parts every row does."""
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, parts, everything)


def _predicate(kind: Callable[..., BooleanExpression], column: str, *values: str | float | datetime) -> BooleanExpression:
    """PyIceberg's predicates are pydantic models whose own __init__ takes (term, value); mypy's plugin sees only the fields."""
    return kind(Reference(column), *values)
