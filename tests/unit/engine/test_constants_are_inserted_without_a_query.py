"""INSERT of constants gives what DuckDB would compute, and leaves to it what it alone can judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.sql.errors import SqlError
from tests.unit.engine.runtime.inprocess import InProcess, running

TABLE = "CREATE TABLE t (a SMALLINT, b INT, c BIGINT, d DOUBLE PRECISION, e VARCHAR, f BOOLEAN DEFAULT true, g NUMERIC)"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[InProcess]:
    with running(tmp_path) as made:
        yield made


def _queries(session: InProcess, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the reads that follow."""
    seen: list[str] = []
    plain = session.engine.reads.run

    def run(sql: str, *rest: object) -> object:
        seen.append(sql)
        return plain(sql, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(session.engine.reads, "run", run)
    return seen


@pytest.mark.parametrize(
    "values",
    ["(1, 2, 3, 4.5, 'x', false)", "(-1, -2, NULL, 7, '', NULL), (0, 2147483647, 9223372036854775807, 1e300, 'ä\u4e2d', true)"],
)
def test_constants_are_what_a_query_of_them_gives(session: InProcess, values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session.run(TABLE)
    seen = _queries(session, monkeypatch)
    session.run(f"INSERT INTO t (a, b, c, d, e, f) VALUES {values}")
    assert seen == [], "a query was run for constants"
    session.run("FLUSH")
    constants = session.rows("SELECT * FROM t")
    session.run(f"DELETE FROM t; INSERT INTO t (a, b, c, d, e, f) SELECT * FROM (VALUES {values}) AS v; FLUSH")
    assert len(seen) > 1
    assert session.rows("SELECT * FROM t") == constants


def test_defaults_stand_for_what_is_not_given(session: InProcess) -> None:
    session.run(f"{TABLE}; INSERT INTO t (b) VALUES (1), (2); INSERT INTO t (b, f) VALUES (3, DEFAULT); FLUSH")
    assert sorted(session.rows("SELECT b, e, f FROM t")) == [(1, None, True), (2, None, True), (3, None, True)]


def test_other_values_are_computed(session: InProcess) -> None:
    session.run(f"{TABLE}; INSERT INTO t (a, b, g) VALUES (1 + 1, abs(-3), 1.50); FLUSH")
    assert session.rows("SELECT a, b, g::varchar FROM t") == [(2, 3, "1.50")]


def test_a_constant_that_does_not_fit_is_refused(session: InProcess) -> None:
    session.run(TABLE)
    with pytest.raises(SqlError) as caught:
        session.run("INSERT INTO t (a) VALUES (40000)")
    assert caught.value.sqlstate == "22003"


def test_a_statement_that_is_run_after_the_table_was_made_anew_fits_the_new_one(session: InProcess) -> None:
    session.run("CREATE TABLE t (a INT, b INT)")
    (statement,) = session.session.parse("INSERT INTO t VALUES (1, 2)")
    prepared = session.call(session.session.prepare(statement))
    other = InProcess(session.engine)
    other.run("DROP TABLE t; CREATE TABLE t (a VARCHAR, b INT, c INT)")
    session.call(session.session.execute(prepared))
    other.run("FLUSH")
    assert other.rows("SELECT * FROM t") == [("1", 2, None)]
    other.close()
