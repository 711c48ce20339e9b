"""Random tables and random epochs of changes, with a plain model of what each table holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.property.engine.scalars import DOMAINS, DUCKDB, literal
from tests.property.engine.text import Col, Rel, same

Row = tuple[Any, ...]
_ENGINE_TYPES = {**DUCKDB, "int": "INT", "float": "DOUBLE PRECISION"}


@dataclass(frozen=True)
class Table:
    """A table of the example.

    Attributes:
        key: positions of the primary key; empty for an append-only table without one.
        append_only: rows are only added.
        on_conflict: what a second row of a key does.
    """

    name: str
    columns: tuple[Col, ...]
    key: tuple[int, ...]
    append_only: bool = False
    on_conflict: Literal["overwrite", "ignore"] = "overwrite"

    @property
    def ddl(self) -> str:
        parts = [f"{c.name} {_ENGINE_TYPES[c.type]}" for c in self.columns]
        if self.key:
            parts.append(f"PRIMARY KEY ({', '.join(self.columns[p].name for p in self.key)})")
        tail = " APPEND ONLY" if self.append_only else ""
        if self.on_conflict == "ignore":
            tail += " ON CONFLICT DO NOTHING"
        return f"CREATE TABLE {self.name} ({', '.join(parts)}){tail}"

    @property
    def oracle_ddl(self) -> str:
        return f"CREATE OR REPLACE TABLE {self.name} ({', '.join(f'{c.name} {DUCKDB[c.type]}' for c in self.columns)})"

    @property
    def rel(self) -> Rel:
        names = tuple(self.columns[p].name for p in self.key)
        return Rel(same(self.name), self.columns, frozenset(names) if names else None, names, named=True)

    def values(self, rows: Sequence[Row]) -> str:
        return ", ".join(
            "(" + ", ".join(literal(v, c.type).engine for v, c in zip(row, self.columns, strict=True)) + ")" for row in rows
        )


@dataclass(frozen=True)
class Change:
    """One row put or taken. For `delete` only the key of `row` counts."""

    table: str
    op: Literal["put", "delete"]
    row: Row


@dataclass(frozen=True)
class Epoch:
    """What happens between two barriers.

    Attributes:
        changes: in the order of arrival.
        buffered: handed to the table's buffer at once, so that several changes of one key meet in one epoch; otherwise written
            as INSERT, UPDATE and DELETE statements.
    """

    changes: tuple[Change, ...]
    buffered: bool


@dataclass
class Model:
    """The tables' rows, kept by a dictionary."""

    tables: Mapping[str, Table]
    keyed: dict[str, dict[Row, Row]] = field(default_factory=dict)
    bags: dict[str, list[Row]] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        table = self.tables[change.table]
        if not table.key:
            self.bags.setdefault(table.name, []).append(change.row)
            return
        rows = self.keyed.setdefault(table.name, {})
        key = tuple(change.row[p] for p in table.key)
        if change.op == "delete":
            rows.pop(key, None)
        elif table.on_conflict == "overwrite" or key not in rows:
            rows[key] = change.row

    def rows(self, table: str) -> list[Row]:
        return [*self.keyed.get(table, {}).values(), *self.bags.get(table, [])]


@st.composite
def tables(draw: DrawFn) -> list[Table]:
    """Two or three tables: the first has a primary key and takes all changes."""
    result = []
    for number in range(draw(st.integers(2, 3))):
        name = f"t{number}"
        kinds = draw(st.lists(st.sampled_from(["int", "text", "time", "float", "bool", "big"]), min_size=2, max_size=4))
        if number == 0 and "time" not in kinds and draw(st.booleans()):
            kinds.append("time")
        columns = [Col(f"{name}_{i}", kind) for i, kind in enumerate(kinds)]
        shape = draw(st.sampled_from(["plain", "composite", "append", "ignore"])) if number else "plain"
        if shape == "append":
            result.append(Table(name, tuple(columns), (), append_only=True))
            continue
        keys = [Col(f"{name}_id", "int")]
        if shape == "composite":
            keys.append(Col(f"{name}_sub", "text"))
        # The key is not always in front.
        place = draw(st.integers(0, len(columns)))
        columns[place:place] = keys
        key = tuple(range(place, place + len(keys)))
        result.append(Table(name, tuple(columns), key, False, "ignore" if shape == "ignore" else "overwrite"))
    return result


def _row(draw: DrawFn, table: Table) -> Row:
    values: list[Any] = []
    for position, column in enumerate(table.columns):
        if position in table.key:
            values.append(draw(st.integers(1, 6)) if column.type == "int" else draw(st.sampled_from(["a", "b"])))
        else:
            values.append(draw(st.sampled_from([*DOMAINS[column.type], None])))
    return tuple(values)


@st.composite
def epochs(draw: DrawFn, given: Sequence[Table], count: int) -> list[Epoch]:
    """`count` epochs; keys come from six values, so that most changes hit a row that is there."""
    result = []
    for _ in range(count):
        changes: list[Change] = []
        for table in given:
            for _ in range(draw(st.integers(0, 8))):
                gone = not table.append_only and draw(st.integers(0, 3)) == 3
                changes.append(Change(table.name, "delete" if gone else "put", _row(draw, table)))
        result.append(Epoch(tuple(changes), draw(st.booleans())))
    return result
