"""EMIT ON WINDOW CLOSE: after every epoch exactly the closed windows are there, computed from the rows that were not late."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.property.engine.harness import EXERCISED, EngineBox, Follower, Oracle, bag, difference
from tests.property.engine.profiles import QUICK
from tests.property.engine.watermarks import Events, EventsModel, Statement, event_epochs, literal, values

pytestmark = pytest.mark.xdist_group("oracle")

_CALLS = "count(*) AS n, sum(v) AS s, min(v) AS low, max(ts) AS last, count(DISTINCT v) AS d, stddev_pop(v) AS w"
# Window functions over rows in the order of time and arrival, and how many closed rows must follow before one is complete.
_OVER = {
    "row_number() OVER ({w}) AS a, lag(v) OVER ({w}) AS b": 0,
    "sum(v) OVER ({w} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS a, rank() OVER ({w}) AS b": 0,
    "lead(v) OVER ({w}) AS a, lag(v, 2) OVER ({w}) AS b": 1,
    "count(v) OVER ({w} ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING) AS a, row_number() OVER ({w}) AS b": 2,
}


@dataclass(frozen=True)
class ClosingView:
    """A view, and the oracle's query with `{accepted}` for the rows that count and `{watermark}` for how far time has come.

    `reads` are the tables whose watermarks decide.
    """

    name: str
    statement: str
    oracle: str
    reads: tuple[str, ...]
    created_at: int = 0


@dataclass(frozen=True)
class ClosingCase:
    tables: tuple[Events, ...]
    views: tuple[ClosingView, ...]
    epochs: tuple[tuple[Statement, ...], ...]


def _window(slide: int, size: int, rows: str) -> str:
    first = f"(epoch_us(ts) // {slide}000000 - i) * {slide}000000"
    return (
        f"(SELECT k, v, ts, make_timestamp({first}) AS window_start, make_timestamp({first} + {size}000000) AS window_end"
        f" FROM {rows} AS e(k, v, ts), range({size // slide}) AS w(i) WHERE ts IS NOT NULL)"
    )


def _over(draw: DrawFn, table: str) -> tuple[str, str]:
    """The body of a view with window functions, and the oracle's query."""
    calls = draw(st.sampled_from(sorted(_OVER)))
    part = draw(st.sampled_from(["PARTITION BY k ", ""]))
    body = f"SELECT ts, k, v, {calls.format(w=f'{part}ORDER BY ts')} FROM {table}"
    rows = f"(SELECT *, row_number() OVER () AS id FROM {{{table}}} AS e(k, v, ts))"
    # `rank` knows no ties but those of the time, so it is told the time alone.
    told = calls.replace("rank() OVER ({w})", f"rank() OVER ({part}ORDER BY ts)").format(w=f"{part}ORDER BY ts, id")
    ahead = f"row_number() OVER ({part}ORDER BY ts DESC, id DESC) - 1 AS ahead"
    inner = f"SELECT k, v, ts, {told}, {ahead} FROM {rows} AS r WHERE ts < {{watermark}}"
    return body, f"SELECT ts, k, v, a, b FROM ({inner}) AS c WHERE ahead >= {_OVER[calls]}"


@st.composite
def closing_cases(draw: DrawFn) -> ClosingCase:
    tables = [Events(f"e{i}", draw(st.sampled_from([0, 10, 45]))) for i in range(2)]
    views: list[ClosingView] = []
    for number in range(3):
        table = draw(st.sampled_from(tables)).name
        created_at = draw(st.sampled_from([0, 0, 2]))
        form = draw(st.sampled_from(["tumble", "hop", "sort", "raw", "union", "filtered", "end only", "over", "over"]))
        slide, size = (20, 60) if form == "hop" else (30, 30)
        call = (
            f"HOP({{}}, ts, INTERVAL '{slide} seconds', INTERVAL '{size} seconds')"
            if form == "hop"
            else "TUMBLE({}, ts, INTERVAL '30 seconds')"
        )
        groups = draw(st.sampled_from(["window_start, k", "window_start", "k, window_end", "window_start, window_end"]))
        where = "WHERE k IS NOT NULL" if form == "filtered" else ""
        reads: tuple[str, ...] = (table,)
        if form == "sort":
            body, oracle = (
                f"SELECT v, ts, k FROM {table}",
                f"SELECT v, ts, k FROM {{{table}}} AS e(k, v, ts) WHERE ts < {{watermark}}",
            )
        elif form == "over":
            body, oracle = _over(draw, table)
        elif form == "raw":
            body = f"SELECT ts, {_CALLS} FROM {table} GROUP BY ts"
            oracle = f"SELECT ts, {_CALLS} FROM {{{table}}} AS e(k, v, ts) WHERE ts < {{watermark}} GROUP BY ts"
        elif form == "union":
            reads = tuple(t.name for t in tables)
            both = " UNION ALL ".join(f"SELECT k, v, ts FROM {name}" for name in reads)
            body = f"WITH u AS ({both}) SELECT {groups}, {_CALLS} FROM TUMBLE(u, ts, INTERVAL '30 seconds') GROUP BY {groups}"
            rows = "(" + " UNION ALL ".join(f"SELECT * FROM {{{name}}} AS x(k, v, ts)" for name in reads) + ")"
            oracle = f"SELECT {groups}, {_CALLS} FROM {_window(slide, size, rows)} AS e WHERE window_end <= {{watermark}} GROUP BY {groups}"
        else:
            if form == "end only":
                groups = "window_end"
            body = f"SELECT {groups}, {_CALLS} FROM {call.format(table)} {where} GROUP BY {groups}"
            windowed = _window(slide, size, f"{{{table}}}")
            condition = f"{where} AND" if where else "WHERE"
            oracle = f"SELECT {groups}, {_CALLS} FROM {windowed} AS e {condition} window_end <= {{watermark}} GROUP BY {groups}"
        views.append(
            ClosingView(
                f"w{number}", f"CREATE MATERIALIZED VIEW w{number} AS {body} EMIT ON WINDOW CLOSE", oracle, reads, created_at
            )
        )
    counted = draw(st.sampled_from(views))
    total = ClosingView(
        "above", f"CREATE MATERIALIZED VIEW above AS SELECT count(*) AS n FROM {counted.name}", f"SELECT count(*) AS n FROM ({counted.oracle}) AS c", counted.reads, 2
    )  # fmt: skip
    return ClosingCase(tuple(tables), (*views, total), tuple(draw(event_epochs(tables, draw(st.integers(3, 5))))))


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def check_closing(case: ClosingCase, box: EngineBox, reopen_at: int | None) -> None:
    """Run the case and compare every view after every epoch."""
    oracle = Oracle()
    models = {table.name: EventsModel(table) for table in case.tables}
    for table in case.tables:
        box.run(table.ddl)
    quarantined = box.rows("SELECT count(*) FROM quarantine")[0][0]
    followers: dict[str, Follower] = {}
    for number, statements in enumerate(case.epochs):
        for view in case.views:
            if view.created_at == number:
                box.run(view.statement)
                followers[view.name] = Follower(box, view.name)
        for statement in statements:
            box.run(f"INSERT INTO {statement.table} VALUES {values(statement.rows)}")
            models[statement.table].insert(statement.rows)
        box.run("FLUSH")
        for view in case.views:
            if view.created_at > number:
                continue
            found = bag(box.rows(f"SELECT * FROM {view.name}"))
            wanted = bag(oracle.rows(_oracle_sql(view, models)))
            problem = difference(found, wanted)
            assert problem is None, f"{view.name} after epoch {number}: {view.statement}: {problem}"
            followers[view.name].follow()
            assert difference(followers[view.name].state, found) is None
        late = sum(model.late for model in models.values())
        assert box.rows("SELECT count(*) FROM quarantine")[0][0] - quarantined == late
        if number == reopen_at:
            box.reopen()
            for follower in followers.values():
                follower.declare("now()")
    for follower in followers.values():
        follower.close()
    box.note_operators()
    box.run("; ".join(f"DROP TABLE {table.name} CASCADE" for table in case.tables))


def _oracle_sql(view: ClosingView, models: dict[str, EventsModel]) -> str:
    nothing = "(SELECT CAST(NULL AS INTEGER), CAST(NULL AS DOUBLE), CAST(NULL AS TIMESTAMP) WHERE false)"
    texts = {name: f"(VALUES {values(m.accepted)})" if m.accepted else nothing for name, m in models.items()}
    marks = [models[name].watermark for name in view.reads]
    known = [mark for mark in marks if mark is not None]
    mark = min(known) if len(known) == len(marks) else dt.datetime(1, 1, 1)  # noqa: DTZ001  nothing is closed yet
    return view.oracle.format(watermark=literal(mark), **texts)


@settings(QUICK, max_examples=25)
@given(case=closing_cases(), reopen_at=st.sampled_from([None, None, 1]))
def test_exactly_the_closed_windows_are_there(case: ClosingCase, reopen_at: int | None, box: EngineBox) -> None:
    try:
        check_closing(case, box, reopen_at)
    except BaseException:
        box.start_over()
        raise


@settings(QUICK, max_examples=6)
@given(case=closing_cases())
def test_exactly_the_closed_windows_are_there_when_epochs_are_tried_twice(case: ClosingCase, box: EngineBox) -> None:
    try:
        with box.failing():
            check_closing(case, box, None)
    except BaseException:
        box.start_over()
        raise


def test_window_operators_were_exercised() -> None:
    assert {"WindowCloseAggregate", "WindowCloseSort", "WindowCloseOver", "UnionAll"} <= set(EXERCISED)
