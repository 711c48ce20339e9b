"""What an operator is: it turns the changelogs of its inputs into its own, epoch by epoch, with a few DuckDB statements.

    input changelog(s) --> [ operator + its state tables ] --> output changelog

A changelog of an epoch is a FROM item with columns c0 .. cn and `d` (+1 insertion, -1 retraction); an update is a retraction
and an insertion. Visible columns come first, hidden ones (parts of the stream key that the user dropped) behind them. What
leaves an operator is consolidated: no row is in it twice, none both inserted and retracted.

Source: Budiu et al., "DBSP", PVLDB 16(7), 2023; Battiston et al., "OpenIVM", SIGMOD 2024.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from engine.sql.types import SqlType

Watermarks = Mapping[int, dt.datetime]
"""Column position to the watermark after this epoch: no later row will have a smaller value there."""


@dataclass(frozen=True)
class Delta:
    """One epoch's changelog of one operator.

    Attributes:
        source: a FROM item (a table's name or a SELECT in parentheses) with c0 .. and d.
        empty: known to hold no row; then `source` must not be read.
        watermarks: by column position.
        picked: `source` only picks columns (and rows) of a stored table, so that it may be read again.
        exact: consolidated to the last row although `source` is no table.
        grows: known to hold no retraction.
    """

    source: str
    empty: bool = False
    watermarks: Watermarks = field(default_factory=dict)
    picked: bool = False
    exact: bool = False
    grows: bool = False

    @property
    def stored(self) -> bool:
        """Whether `source` is a table: consolidated, and cheap to read more than once."""
        return not self.source.startswith("(")

    @property
    def cheap(self) -> bool:
        """Whether `source` may be read several times: a table, or only columns picked from one."""
        return self.stored or self.picked


CLEANING_EPOCHS = 16
"""State that a watermark has made unreachable is dropped once in so many epochs: a DELETE costs as much as any statement."""


def no_change(watermarks: Watermarks | None = None) -> Delta:
    return Delta("", True, watermarks or {})


class EpochContext(Protocol):
    """What an operator may do during an epoch; everything happens in the epoch's one transaction."""

    number: int
    now_ms: int

    def execute(self, sql: str) -> None:
        """Run one statement."""
        ...

    def temp(self, select: str) -> tuple[str, int]:
        """Store a SELECT in a temporary table; returns its name and row count."""
        ...

    def defer(self, sql: str) -> None:
        """Run one statement at the end, when every operator has read the state of the epoch's start."""
        ...

    def relation_delta(self, relation: int) -> Delta:
        """The changelog of a table, source or view that was computed earlier in this epoch."""
        ...

    def fetch(self, sql: str) -> pa.Table:
        """Read rows into memory."""
        ...

    def register(self, table: pa.Table) -> str:
        """Make an Arrow table readable under the returned name until the epoch ends."""
        ...

    def fetch_rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Read a few rows as Python values."""
        ...

    def call_udf(
        self, link: str, function: str, arguments: pa.Table, types: Sequence[SqlType], returns: SqlType
    ) -> pa.ChunkedArray:
        """Call a user's function on rows; raises UnavailableError to hold the epoch back."""
        ...


@dataclass(frozen=True)
class StateTable:
    """A table that an operator owns."""

    name: str
    types: tuple[SqlType, ...]
    extra: tuple[tuple[str, str], ...] = ()
    """Further (column, DuckDB type) pairs behind c0 .. cn."""

    @property
    def ddl(self) -> str:
        columns = [f"c{i} {type_.duckdb}" for i, type_ in enumerate(self.types)]
        columns += [f"{name} {type_}" for name, type_ in self.extra]
        return f"CREATE TABLE {self.name} ({', '.join(columns)})"


class Operator(ABC):
    """Base of all operators.

    Attributes:
        inputs: operators below.
        types: of all output columns.
        visible: how many of them the user sees; they come first.
        key: positions of the stream key.
        append_only: the output never retracts.
        watermarked: positions that carry a watermark.
        rising: positions, of an output of one row, whose value never falls.
        keeps: `kept` can be read.
        next_wake: unix milliseconds at which the output changes without input; None where it does not.
    """

    inputs: tuple[Operator, ...] = ()
    types: tuple[SqlType, ...] = ()
    visible: int = 0
    key: tuple[int, ...] = ()
    append_only: bool = False
    watermarked: frozenset[int] = frozenset()
    rising: frozenset[int] = frozenset()
    keeps: bool = False
    next_wake: int | None = None
    _cleaned: int | None = None

    def cleaning_due(self, number: int) -> bool:
        """Whether to look for unreachable state in this epoch, counted from the last time that it was said.

        An operator is not asked in epochs without rows for it, so a fixed multiple of the epoch's number might never come up.
        """
        if self._cleaned is None:
            self._cleaned = number
        if number - self._cleaned < CLEANING_EPOCHS:
            return False
        self._cleaned = number
        return True

    def state(self) -> tuple[StateTable, ...]:
        """Tables that it owns; named in `name_state`."""
        return ()

    def name_state(self, prefix: str) -> None:
        """Give the state tables their names; called once, before `state`. `prefix` is unique in the data folder."""
        del prefix

    def initialize(self, epoch: EpochContext) -> Delta:
        """What it emits when it is created, before any input."""
        del epoch
        return no_change()

    @abstractmethod
    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        """Turn the inputs' changelogs of an epoch into the output's."""

    def kept(self) -> str:
        """All rows of the output, as of after this epoch's `step`: a FROM item with c0 ..; so consumers need no copy of them."""
        raise NotImplementedError(f"`{self.name}` does not keep its output")

    @property
    def name(self) -> str:
        return type(self).__name__

    def details(self) -> str:
        """One line for EXPLAIN."""
        return ""


def columns(count: int, alias: str = "") -> list[str]:
    """`c0, c1 ...`, qualified by `alias` if given."""
    prefix = f"{alias}." if alias else ""
    return [f"{prefix}c{i}" for i in range(count)]


def column_list(count: int, alias: str = "") -> str:
    return ", ".join(columns(count, alias))


def same_key(left: str, right: str, positions: Iterable[int], right_positions: Iterable[int] | None = None) -> str:
    """Equality of state keys: NULL equals NULL."""
    pairs = list(zip(positions, right_positions, strict=True)) if right_positions is not None else [(p, p) for p in positions]
    if not pairs:
        return "true"
    return " AND ".join(f"{left}.c{a} IS NOT DISTINCT FROM {right}.c{b}" for a, b in pairs)


def consolidate(epoch: EpochContext, select: str, width: int) -> tuple[str, int]:
    """Sum the diffs of equal rows, drop what cancels out, and store the rest."""
    # The condition counts in floats on purpose: for an outer join whose condition DuckDB 2.0 proves false, it takes the join for
    # empty, a sum of integers of both signs for 0, and drops every row (tests/sql/regress/join_condition_never_true.slt).
    names = column_list(width)
    condition = "sum(CAST(d AS DOUBLE)) <> 0"
    return epoch.temp(
        f"SELECT {names}, CAST(sum(d) AS TINYINT) AS d FROM ({select}) AS x GROUP BY {names} HAVING {condition}"
        if width
        else f"SELECT CAST(sum(d) AS TINYINT) AS d FROM ({select}) AS x HAVING {condition}"
    )


def stored_input(epoch: EpochContext, delta: Delta, source: Operator, *, exact: bool = False) -> str | None:
    """An input's changelog as a FROM item that may be read more than once; None if it turns out to be empty.

    Args:
        exact: it must be consolidated to the last row (what is stored or sent); otherwise an update that changed nothing in the
            picked columns may still be in it, which no state keyed by the stream key minds.
    """
    if delta.empty:
        return None
    if delta.stored or (delta.picked and (source.append_only or delta.exact or not exact)):
        return delta.source
    width = len(source.types)
    select = f"SELECT {column_list(width)}, d FROM {delta.source} AS t"
    # Where nothing is taken back every row has a key of its own: there is nothing to sum up.
    name, count = epoch.temp(select) if source.append_only or delta.grows else consolidate(epoch, select, width)
    return name if count else None


def store(epoch: EpochContext, select: str) -> Delta:
    """Store a changelog that is consolidated already."""
    name, count = epoch.temp(select)
    return Delta(name, count == 0)


def apply_to_state(
    epoch: EpochContext, state: str, delta: str, width: int, key: Sequence[int], append_only: bool, *, defer: bool = False
) -> None:
    """Bring a state table, keyed by `key`, up to date with a consolidated changelog."""
    run = epoch.defer if defer else epoch.execute
    if not append_only:
        run(f"DELETE FROM {state} USING (SELECT * FROM {delta} WHERE d < 0) AS x WHERE {same_key(state, 'x', key)}")
    where = "" if append_only else " WHERE d > 0"
    run(f"INSERT INTO {state} SELECT {column_list(width)} FROM {delta}{where}")
