"""Random append-only tables with a watermark, and a plain model of which rows are late and which windows are closed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

START = dt.datetime(2026, 1, 1)  # noqa: DTZ001  a TIMESTAMP has no zone
Row = tuple[int | None, float | None, dt.datetime | None]


@dataclass(frozen=True)
class Events:
    """`CREATE TABLE name (k, v, ts, WATERMARK FOR ts AS ts - delay) APPEND ONLY`."""

    name: str
    delay_seconds: int

    @property
    def ddl(self) -> str:
        return (
            f"CREATE TABLE {self.name} (k INT, v DOUBLE PRECISION, ts TIMESTAMP,"
            f" WATERMARK FOR ts AS ts - INTERVAL '{self.delay_seconds} seconds') APPEND ONLY"
        )


@dataclass
class EventsModel:
    """Rows in order of arrival. A statement's rows are judged by the watermark before the statement."""

    events: Events
    watermark: dt.datetime | None = None
    accepted: list[Row] = field(default_factory=list)
    late: int = 0

    def insert(self, rows: Sequence[Row]) -> None:
        before = self.watermark
        for row in rows:
            if before is not None and (row[2] is None or row[2] < before):
                self.late += 1
            else:
                self.accepted.append(row)
        times = [row[2] - dt.timedelta(seconds=self.events.delay_seconds) for row in rows if row[2] is not None]
        if times:
            self.watermark = max([*times, *([before] if before is not None else [])])


def literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"TIMESTAMP '{value}'" if isinstance(value, dt.datetime) else str(value)


def values(rows: Sequence[Row]) -> str:
    typed = ("INTEGER", "DOUBLE", "TIMESTAMP")
    return ", ".join(
        "(" + ", ".join(f"CAST({literal(v)} AS {t})" for v, t in zip(row, typed, strict=True)) + ")" for row in rows
    )


@st.composite
def event_rows(draw: DrawFn, around_seconds: int) -> list[Row]:
    """One statement's rows; times go forward with the epochs, and some fall far behind."""
    result: list[Row] = []
    for _ in range(draw(st.integers(1, 4))):
        time = START + dt.timedelta(seconds=max(0, around_seconds + draw(st.integers(-90, 60))))
        result.append(
            (
                draw(st.sampled_from([1, 2, None])),
                draw(st.sampled_from([0.5, -1.25, 2.0, None])),
                draw(st.sampled_from([time, time, time, time, None])),
            )
        )
    return result


@dataclass(frozen=True)
class Statement:
    """One INSERT."""

    table: str
    rows: tuple[Row, ...]


@st.composite
def event_epochs(draw: DrawFn, tables: Sequence[Events], count: int) -> list[tuple[Statement, ...]]:
    result = []
    for number in range(count):
        statements = []
        for table in tables:
            inserts = draw(st.lists(event_rows(60 * number), max_size=2))
            statements += [Statement(table.name, tuple(rows)) for rows in inserts]
        result.append(tuple(statements))
    return result
