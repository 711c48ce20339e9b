"""What an aggregate must remember of its input: the evaluated groups, arguments, filters and sort keys, and the stream key.

Shared by the aggregates that keep rows. The calls are rewritten to refer to the remembered columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.operators.base import Operator
from engine.sql.expressions import AggregateCall, Column, Expr, Literal, render_lenient
from engine.sql.types import SqlType


@dataclass(frozen=True)
class AggregateInput:
    """Attributes:
    exprs: what is stored, over the input's columns: groups first, then what the calls need, then the stream key.
    calls: the aggregate calls over the stored columns.
    groups: how many group columns there are.
    key: positions of the stream key among the stored columns.
    """

    exprs: tuple[Expr, ...]
    calls: tuple[AggregateCall, ...]
    groups: int
    key: tuple[int, ...]

    @property
    def types(self) -> tuple[SqlType, ...]:
        return tuple(expr.type for expr in self.exprs)

    @property
    def group_exprs(self) -> tuple[Expr, ...]:
        return tuple(Column(self.exprs[i].type, i) for i in range(self.groups))

    def keeps_all(self, width: int) -> bool:
        """Whether every one of the input's `width` columns is remembered as it is."""
        return {expr.index for expr in self.exprs if isinstance(expr, Column)} == set(range(width))

    def select(self, source: str) -> str:
        """The stored columns and `d` from an input changelog."""
        items = ", ".join(f"{render_lenient(e)} AS c{i}" for i, e in enumerate(self.exprs))
        return f"SELECT {items}, d FROM {source} AS t"


def plan_aggregate_input(source: Operator, groups: tuple[Expr, ...], calls: tuple[AggregateCall, ...]) -> AggregateInput:
    """Decide what to remember, each distinct expression once."""
    stored: list[Expr] = list(groups)

    def remember(expr: Expr) -> Expr:
        if isinstance(expr, Literal):
            return expr
        if expr not in stored:
            stored.append(expr)
        return Column(expr.type, stored.index(expr))

    rewritten: list[AggregateCall] = []
    for call in calls:
        children = tuple(remember(child) for child in call.children())
        changed = call.replace_children(children)
        assert isinstance(changed, AggregateCall)
        rewritten.append(changed)
    key: list[int] = []
    for position in source.key:
        column = Column(source.types[position], position)
        if column not in stored:
            stored.append(column)
        key.append(stored.index(column))
    return AggregateInput(tuple(stored), tuple(rewritten), len(groups), tuple(key))
