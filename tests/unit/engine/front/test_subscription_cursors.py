"""Cursors over a subscription: what they give, when they end, what is kept for them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from core.fakes.clock import ManualClock
from engine.catalog.objects import Subscription
from engine.sql.errors import UndefinedCursor
from tests.unit.engine.runtime.inprocess import InProcess, running


def _log_rows(session: InProcess) -> int:
    (found,) = (o for o in session.engine.catalog.objects.values() if isinstance(o, Subscription))
    return int(session.engine.reads.submit(f"SELECT count(*) AS n FROM {found.log}").result().column("n")[0].as_py())


def test_changes_come_with_their_operation(tmp_path: Path) -> None:
    with running(tmp_path) as session:
        session.run("CREATE TABLE t (a int PRIMARY KEY, b int); CREATE SUBSCRIPTION s FROM t WITH (retention = '1 day')")
        session.run("INSERT INTO t VALUES (1, 1); FLUSH; DECLARE c SUBSCRIPTION CURSOR FOR s FULL")
        session.run("UPDATE t SET b = 2 WHERE a = 1; FLUSH; DELETE FROM t; FLUSH")
        assert [row[:3] for row in session.rows("FETCH 10 FROM c")] == [(1, 1, "Insert")]
        changes = [row[:3] for row in session.rows("FETCH 10 FROM c")]
        assert changes == [(1, 1, "UpdateDelete"), (1, 2, "UpdateInsert"), (1, 2, "Delete")]
        assert session.rows("FETCH NEXT FROM c WITH (timeout = '0s')") == []
        assert [row[4:6] for row in session.rows("SHOW SUBSCRIPTION CURSORS")] == [("c", "s")]
        session.run("DECLARE q CURSOR FOR SELECT 1")
        assert [row[4] for row in session.rows("SHOW CURSORS")] == ["q"]


def test_a_cursor_sees_the_columns_that_its_subscription_was_made_with(tmp_path: Path) -> None:
    with running(tmp_path) as session:
        session.run("CREATE TABLE t (a int); CREATE SUBSCRIPTION s FROM t WITH (retention = '1 day')")
        session.run("ALTER TABLE t ADD COLUMN b int; INSERT INTO t VALUES (1, 2); FLUSH")
        session.run("DECLARE c SUBSCRIPTION CURSOR FOR s SINCE begin()")
        assert [row[:2] for row in session.rows("FETCH 10 FROM c")] == [(1, "Insert")]
        session.run("DECLARE f SUBSCRIPTION CURSOR FOR s FULL")
        assert [row[:2] for row in session.rows("FETCH 10 FROM f")] == [(1, "Insert")]


def test_a_cursor_ends_when_the_retention_has_passed_without_a_fetch(tmp_path: Path) -> None:
    clock = ManualClock()
    with running(tmp_path, clock) as session:
        session.run("CREATE TABLE t (a int); CREATE SUBSCRIPTION s FROM t WITH (retention = '10 seconds')")
        session.run("DECLARE c SUBSCRIPTION CURSOR FOR s")
        clock.advance(timedelta(seconds=9))
        assert session.rows("FETCH NEXT FROM c") == []
        clock.advance(timedelta(seconds=9))
        assert session.rows("FETCH NEXT FROM c") == []
        clock.advance(timedelta(seconds=11))
        with pytest.raises(UndefinedCursor, match="outlived the retention"):
            session.run("FETCH NEXT FROM c")


def test_the_log_is_kept_as_long_as_the_retention_and_not_longer(tmp_path: Path) -> None:
    clock = ManualClock()
    with running(tmp_path, clock) as session:
        session.run("CREATE TABLE t (a int); CREATE SUBSCRIPTION s FROM t WITH (retention = '10 seconds')")
        session.run("INSERT INTO t VALUES (1); FLUSH")
        clock.advance(timedelta(seconds=8))
        session.run("INSERT INTO t VALUES (2); FLUSH")
        assert _log_rows(session) == 2
        clock.advance(timedelta(seconds=4))
        session.run("INSERT INTO t VALUES (3); FLUSH")
        assert _log_rows(session) == 2


def test_a_cursor_over_a_dropped_subscription_says_so(tmp_path: Path) -> None:
    with running(tmp_path) as session:
        session.run("CREATE TABLE t (a int); CREATE SUBSCRIPTION s FROM t WITH (retention = '1 day')")
        session.run("DECLARE c SUBSCRIPTION CURSOR FOR s; DROP SUBSCRIPTION s")
        with pytest.raises(UndefinedCursor, match="was dropped"):
            session.run("FETCH NEXT FROM c")
