"""A query that is prepared and executed later means what it means when it is executed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.engine.runtime.inprocess import InProcess, running


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    folder: Path = tmp_path_factory.mktemp("prepared")
    with running(folder) as made:
        made.run("CREATE DATABASE other; CREATE SCHEMA s; CREATE TABLE t (v VARCHAR); INSERT INTO t VALUES ('here'); FLUSH")
        made.run("CREATE TABLE s.t (v VARCHAR); INSERT INTO s.t VALUES ('in s'); FLUSH")
        made.run("USE other; CREATE TABLE t (v VARCHAR); INSERT INTO t VALUES ('there'); FLUSH; USE dev")
        yield made


@pytest.mark.parametrize(
    ("meanwhile", "expected", "back"),
    [
        ("SELECT 1", "here", "SELECT 1"),
        ("USE other", "there", "USE dev"),
        ("SET search_path = s", "in s", "SET search_path = public"),
        ("SET TIME ZONE 'Asia/Tokyo'", "here", "SET TIME ZONE 'UTC'"),
        ("CREATE TABLE u (v INT)", "here", "DROP TABLE u"),
    ],
)
def test_what_changes_between_the_two_counts(session: InProcess, meanwhile: str, expected: str, back: str) -> None:
    (statement,) = session.session.parse("SELECT v FROM t")
    prepared = session.call(session.session.prepare(statement))
    session.run(meanwhile)
    try:
        for _ in range(2):  # the first execution may take what was bound, the second never
            rows = session.call(session.session.execute(prepared)).rows
            assert rows is not None
            assert rows.column(0).to_pylist() == [expected]
    finally:
        session.run(back)
