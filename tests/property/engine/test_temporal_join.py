"""Temporal join: a left row meets the right side as it was when its epoch began, and keeps what it met until it goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.property.engine.harness import EXERCISED, EngineBox, Follower, bag, difference
from tests.property.engine.profiles import QUICK
from tests.property.engine.streams import Epoch, Model, Row, Table, epochs
from tests.property.engine.text import Col

pytestmark = [pytest.mark.xdist_group("oracle"), pytest.mark.timeout(600)]

_KEYED = Table("l", (Col("id", "int"), Col("k", "int"), Col("v", "float")), (0,))
_APPENDED = Table("l", (Col("id", "int"), Col("k", "int"), Col("v", "float")), (), append_only=True)
_RIGHT = Table("r", (Col("k", "int"), Col("w", "float"), Col("s", "text")), (0,))


@dataclass(frozen=True)
class TemporalCase:
    """`through_view`: the right side is a materialized view over the table. `extra`: a condition beside the equality."""

    left: Table
    outer: bool
    extra: bool
    through_view: bool
    created_at: int
    epochs: tuple[Epoch, ...]

    @property
    def statement(self) -> str:
        right = "rv" if self.through_view else "r"
        condition = "l.k = r.k" + (" AND l.v > r.w" if self.extra else "")
        kind = "LEFT JOIN" if self.outer else "JOIN"
        return (
            "CREATE MATERIALIZED VIEW met AS SELECT l.id, l.k, l.v, r.w, r.s FROM l"
            f" {kind} {right} FOR SYSTEM_TIME AS OF PROCTIME() AS r ON {condition}"
        )


@st.composite
def temporal_cases(draw: DrawFn) -> TemporalCase:
    left = draw(st.sampled_from([_APPENDED, _KEYED]))
    stream = draw(epochs([left, _RIGHT], draw(st.integers(2, 4))))
    flags = [draw(st.booleans()) for _ in range(3)]
    return TemporalCase(left, *flags, draw(st.sampled_from([0, 0, 1])), tuple(Epoch(e.changes, True) for e in stream))


class Reference:
    """Left rows with what they met."""

    def __init__(self, case: TemporalCase) -> None:
        self._case = case
        self._met: dict[tuple[object, ...], tuple[Row, list[Row]]] = {}
        self._log: list[Row] = []

    def step(self, left: list[Row], right: list[Row]) -> None:
        """Take the left rows of after the epoch and the right ones of before it."""
        if self._case.left.append_only:
            self._log += [met for row in left[len(self._seen) :] for met in self._meet(row, right)]
            self._seen = left
            return
        before = self._met
        self._met = {}
        for row in left:
            old = before.get(row[:1])
            self._met[row[:1]] = old if old is not None and old[0] == row else (row, self._meet(row, right))

    _seen: list[Row] = []  # noqa: RUF012  replaced, never changed in place

    def rows(self) -> list[Row]:
        return [*self._log, *(met for _, rows in self._met.values() for met in rows)]

    def _meet(self, row: Row, right: list[Row]) -> list[Row]:
        found = [(*row, w, s) for k, w, s in right if row[1] is not None and k == row[1] and self._agrees(row[2], w)]
        return found or ([(*row, None, None)] if self._case.outer else [])

    def _agrees(self, v: float | None, w: float | None) -> bool:
        return not self._case.extra or (v is not None and w is not None and v > w)


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def check_temporal(case: TemporalCase, box: EngineBox, reopen_at: int | None) -> None:
    tables = {"l": case.left, "r": _RIGHT}
    model, reference = Model(tables), Reference(case)
    for table in tables.values():
        box.run(table.ddl)
    box.run("CREATE MATERIALIZED VIEW rv AS SELECT k, w, s FROM r WHERE k > 0")
    follower: Follower | None = None
    for number, epoch in enumerate(case.epochs):
        if number == case.created_at:
            box.run(case.statement)
            follower = Follower(box, "met")
            reference.step(model.rows("l"), model.rows("r"))
        right = model.rows("r")
        box.write(epoch, tables)
        box.run("FLUSH")
        for change in epoch.changes:
            model.apply(change)
        if follower is None:
            continue
        reference.step(model.rows("l"), right)
        found = bag(box.rows("SELECT * FROM met"))
        problem = difference(found, bag(reference.rows()))
        assert problem is None, f"after epoch {number}: {case.statement}: {problem}"
        follower.follow()
        assert difference(follower.state, found) is None, f"the changelog does not add up after epoch {number}"
        if number == reopen_at:
            box.reopen()
            follower.declare("now()")
    assert follower is not None
    follower.close()
    box.note_operators()
    box.run("DROP TABLE l CASCADE; DROP TABLE r CASCADE")


@settings(QUICK, max_examples=30)
@given(case=temporal_cases(), reopen_at=st.sampled_from([None, None, 0, 1]))
def test_left_rows_keep_what_they_met(case: TemporalCase, reopen_at: int | None, box: EngineBox) -> None:
    try:
        check_temporal(case, box, reopen_at)
    except BaseException:
        box.start_over()
        raise


def test_temporal_join_was_exercised() -> None:
    assert "TemporalJoin" in EXERCISED
