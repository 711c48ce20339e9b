"""What a test file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

Cell = object
"""Text or None where it was written as CSV; any JSON value where it was written as JSON."""

DEFAULT_TOLERANCE = 1e-9
"""Of floating-point columns, relative and absolute: sums and averages differ in the last digits by the order of their input."""


@dataclass(frozen=True)
class Place:
    """Where something stands, for errors."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{shown(self.file)}:{self.line}"


@dataclass(frozen=True)
class Span:
    """The part of a file that holds rows, to be written anew by `--update`.

    Attributes:
        start, end: offsets of characters; the whole file when `end` is None.
        indent: of the key that the rows belong to.
    """

    file: Path
    start: int = 0
    end: int | None = None
    indent: int = 0


@dataclass(frozen=True)
class Rows:
    """Rows as they were written.

    Attributes:
        columns: None when nothing was written; a JSON line may leave columns out, which then are None.
        places: of each row.
        texts: each row as it was written, of JSON lines.
    """

    columns: tuple[str, ...] | None
    rows: tuple[tuple[Cell, ...], ...]
    form: Literal["csv", "json"]
    place: Place
    places: tuple[Place, ...]
    span: Span
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Script:
    """SQL of a file, or inline; `line` is that of its first line."""

    path: Path
    line: int
    text: str


@dataclass(frozen=True)
class Feed:
    """Rows for one relation; `raw` are bytes of a topic that may be anything."""

    relation: str
    place: Place
    rows: Rows | None = None
    raw: tuple[str, ...] = ()
    partition: int | None = None


@dataclass(frozen=True)
class ExpectedError:
    sqlstate: str | None
    message: str | None
    place: Place


@dataclass(frozen=True)
class Statement:
    """SQL that an epoch runs, and the error it must end with, if any."""

    script: Script
    place: Place
    error: ExpectedError | None = None


@dataclass(frozen=True)
class Expectation:
    """What must hold after the epoch.

    Attributes:
        label: the relation, or a title when there is a query.
        rows: of the relation or query; None when only changes are expected.
        changes: of the relation since the epoch before; the first column is `op`.
    """

    label: str
    place: Place
    query: str | None = None
    rows: Rows | None = None
    changes: Rows | None = None
    ordered: bool = False
    tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True)
class Epoch:
    number: int
    place: Place
    now: datetime | None = None
    feeds: tuple[Feed, ...] = ()
    statements: tuple[Statement, ...] = ()
    expectations: tuple[Expectation, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One answer of a stubbed function: the first rule whose `when` fits the arguments answers."""

    when: Mapping[str, object]
    returns: object


@dataclass(frozen=True)
class Stub:
    """A function that the test itself answers."""

    name: str
    rules: tuple[Rule, ...]
    place: Place


@dataclass(frozen=True)
class Case:
    name: str
    place: Place
    scripts: tuple[Script, ...]
    epochs: tuple[Epoch, ...]
    stubs: tuple[Stub, ...] = ()
    partitions: Mapping[str, int] = field(default_factory=dict)
    now: datetime | None = None

    @property
    def needs_clock(self) -> bool:
        return self.now is not None or any(epoch.now is not None for epoch in self.epochs)


@dataclass(frozen=True)
class SqlTestFile:
    path: Path
    cases: Sequence[Case]


def shown(file: Path) -> str:
    """The path as a person in the current folder would write it."""
    absolute, here = file.resolve(), Path.cwd().resolve()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(file)
