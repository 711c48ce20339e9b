"""AS CHANGELOG: the changes of every epoch, and nothing else, for ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.property.engine.harness import EXERCISED, EngineBox, bag, difference
from tests.property.engine.profiles import QUICK
from tests.property.engine.streams import Epoch, Model, Row, Table, epochs
from tests.property.engine.text import Col

pytestmark = [pytest.mark.xdist_group("oracle"), pytest.mark.timeout(600)]

_TABLE = Table("t", (Col("id", "int"), Col("k", "int"), Col("s", "text")), (0,))
_INSERTED, _DELETED, _NEW, _OLD = 1, 2, 3, 4


@dataclass(frozen=True)
class ChangelogCase:
    """`through_view`: the changes are those of a materialized view over the table, of the rows with an odd `k`."""

    through_view: bool
    created_at: int
    epochs: tuple[Epoch, ...]

    @property
    def statement(self) -> str:
        return f"CREATE MATERIALIZED VIEW c AS WITH x AS CHANGELOG FROM {'v' if self.through_view else 't'} SELECT id, k, s, changelog_op FROM x"

    def visible(self, rows: list[Row]) -> dict[object, Row]:
        """What the changes are of, by key."""
        return {row[0]: row for row in rows if not self.through_view or (row[1] is not None and row[1] % 2)}


@st.composite
def changelog_cases(draw: DrawFn) -> ChangelogCase:
    stream = draw(epochs([_TABLE], draw(st.integers(2, 4))))
    created_at = draw(st.sampled_from([0, 0, 1]))
    return ChangelogCase(draw(st.booleans()), created_at, tuple(Epoch(e.changes, True) for e in stream))


def changes_between(before: dict[object, Row], after: dict[object, Row]) -> list[Row]:
    """Rows with their operation, from one epoch's end to the next one's."""
    found: list[Row] = []
    for key in {*before, *after}:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if old is not None:
            found.append((*old, _OLD if new is not None else _DELETED))
        if new is not None:
            found.append((*new, _NEW if old is not None else _INSERTED))
    return found


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def check_changelog(case: ChangelogCase, box: EngineBox, reopen_at: int | None) -> None:
    model = Model({"t": _TABLE})
    box.run(_TABLE.ddl)
    box.run("CREATE MATERIALIZED VIEW v AS SELECT * FROM t WHERE k % 2 <> 0")
    expected: list[Row] = []
    for number, epoch in enumerate(case.epochs):
        before = case.visible(model.rows("t"))
        if number == case.created_at:
            box.run(case.statement)
            expected += changes_between({}, before)
        box.write(epoch, {"t": _TABLE})
        box.run("FLUSH")
        for change in epoch.changes:
            model.apply(change)
        if number < case.created_at:
            continue
        expected += changes_between(before, case.visible(model.rows("t")))
        problem = difference(bag(box.rows("SELECT * FROM c")), bag(expected))
        assert problem is None, f"after epoch {number}: {case.statement}: {problem}"
        if number == reopen_at:
            box.reopen()
    box.note_operators()
    box.run("DROP TABLE t CASCADE")


@settings(QUICK, max_examples=30)
@given(case=changelog_cases(), reopen_at=st.sampled_from([None, None, 0, 1]))
def test_every_change_is_a_row_once(case: ChangelogCase, reopen_at: int | None, box: EngineBox) -> None:
    try:
        check_changelog(case, box, reopen_at)
    except BaseException:
        box.start_over()
        raise


def test_changelog_was_exercised() -> None:
    assert "Changelog" in EXERCISED
