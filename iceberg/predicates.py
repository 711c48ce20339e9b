"""Row filters as PyIceberg expressions, from values: nothing is ever spliced into text."""

from __future__ import annotations

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

# PyIceberg's predicates are pydantic models whose own __init__ takes (term, value); mypy's plugin sees only the fields.


def equals(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column has the value."""
    return EqualTo(Reference(column), value)  # type: ignore[call-arg, misc]


def at_least(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column is the value or greater."""
    return GreaterThanOrEqual(Reference(column), value)  # type: ignore[call-arg, misc]


def at_most(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column is the value or less."""
    return LessThanOrEqual(Reference(column), value)  # type: ignore[call-arg, misc]


def less_than(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column is less than the value."""
    return LessThan(Reference(column), value)  # type: ignore[call-arg, misc]


def greater_than(column: str, value: str | float | datetime) -> BooleanExpression:
    """The column is greater than the value."""
    return GreaterThan(Reference(column), value)  # type: ignore[call-arg, misc]


def is_null(column: str) -> BooleanExpression:
    """The column has no value."""
    return IsNull(Reference(column))  # type: ignore[call-arg, misc]


def one_of(first: BooleanExpression, *others: BooleanExpression) -> BooleanExpression:
    """At least one part holds."""
    return reduce(Or, others, first)


def all_of(*parts: BooleanExpression) -> BooleanExpression:
    """All parts hold; without parts every row does."""
    everything: BooleanExpression = AlwaysTrue()
    return reduce(And, parts, everything)
