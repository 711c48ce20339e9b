"""The relational algebra between binder and operators: small, frozen, compared by value.

A node's `columns` are what the user sees, in order; operators add hidden key columns behind them later. Expressions refer
to input columns by position; a join's condition counts the left input's columns first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.sql.expressions import AggregateCall, Expr, OrderKey, WindowCall
from engine.sql.types import SqlType

JoinKind = Literal["inner", "left", "right", "full", "semi", "anti"]


@dataclass(frozen=True)
class OutputColumn:
    name: str
    type: SqlType


@dataclass(frozen=True)
class Node:
    columns: tuple[OutputColumn, ...]

    def inputs(self) -> tuple[Node, ...]:
        return ()


@dataclass(frozen=True)
class Scan(Node):
    """A table, source, materialized view or system relation, by its id in the catalog."""

    relation: int
    name: str
    unique: tuple[int, ...] = ()
    """Columns of the primary key, where all are visible."""


@dataclass(frozen=True)
class Values(Node):
    rows: tuple[tuple[Expr, ...], ...]


@dataclass(frozen=True)
class Filter(Node):
    input: Node
    predicate: Expr

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Project(Node):
    input: Node
    exprs: tuple[Expr, ...]

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Aggregate(Node):
    """Columns are the groups, then the aggregates. No groups: exactly one row, always."""

    input: Node
    groups: tuple[Expr, ...]
    aggregates: tuple[AggregateCall, ...]

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Join(Node):
    """Columns are left's, then right's (only left's for semi and anti). `temporal`: the right side as of now, never revised."""

    kind: JoinKind
    left: Node
    right: Node
    condition: Expr | None
    temporal: bool = False

    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)


@dataclass(frozen=True)
class Over(Node):
    """Adds one column a window call; all calls of a node share PARTITION BY."""

    input: Node
    calls: tuple[WindowCall, ...]

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class TopN(Node):
    """ORDER BY with LIMIT and OFFSET; without a limit a plain sort (for reading only)."""

    input: Node
    order_by: tuple[OrderKey, ...]
    limit: int | None
    offset: int
    with_ties: bool = False

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class GroupTopN(Node):
    """Rows whose `call` (row_number or rank) is at most `limit`. Columns: the input's, then the rank if `ranked`."""

    input: Node
    call: WindowCall
    limit: int
    ranked: bool = True

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class UnionAll(Node):
    branches: tuple[Node, ...]

    def inputs(self) -> tuple[Node, ...]:
        return self.branches


@dataclass(frozen=True)
class SetOperation(Node):
    """INTERSECT or EXCEPT, distinct."""

    kind: Literal["intersect", "except"]
    left: Node
    right: Node

    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)


@dataclass(frozen=True)
class Window(Node):
    """TUMBLE or HOP: the input's columns, then window_start and window_end. Sizes in microseconds (tumble: slide = size)."""

    input: Node
    time_column: int
    slide_us: int
    size_us: int
    offset_us: int = 0

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class ProjectSet(Node):
    """Each input row once for every element of its lists, side by side: NULL where a list is shorter.

    Columns: the input's, one a call (the element), then the ordinal from 1 if `ordinality`. `outer`: a row whose lists are all
    empty is kept once, with NULLs.
    """

    input: Node
    calls: tuple[Expr, ...]
    ordinality: bool = False
    outer: bool = False

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class MaxOneRow(Node):
    """The input, which may hold one row for each value of the columns `by`; more is the error 21000."""

    input: Node
    by: tuple[int, ...] = ()

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Changelog(Node):
    """The input's changes as rows: its columns, `changelog_op`, `_changelog_row_id`. For views only."""

    input: Node

    def inputs(self) -> tuple[Node, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Apply(Node):
    """LATERAL: the right side is computed for each left row; its `OuterColumn`s are `args`, over left's columns."""

    kind: Literal["inner", "left"]
    left: Node
    right: Node
    args: tuple[Expr, ...]
    condition: Expr | None = None

    def inputs(self) -> tuple[Node, ...]:
        return (self.left, self.right)


@dataclass(frozen=True)
class Subquery(Expr):
    """A query in an expression; only between the binder and the rule that unnests it.

    Attributes:
        kind: `scalar` (its one value, NULL without a row), `exists`, or `any` (whether `test` is true for a row, in three values).
        node: the query; `OuterColumn(i)` in it is `args[i]`.
        args: what it takes from the query around it, over that query's columns.
        test: for `any`, over the query's columns and outer columns.
    """

    kind: Literal["scalar", "exists", "any"]
    node: Node
    args: tuple[Expr, ...]
    test: Expr | None = None

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def replace_children(self, children: tuple[Expr, ...]) -> Expr:
        return Subquery(self.type, self.kind, self.node, children, self.test)
