"""Names are bound to ids and columns to positions: what was renamed, swapped or altered is the same after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.unit.engine.runtime.inprocess import running

_CHILD = """
import os, signal, sys
from pathlib import Path
from tests.unit.engine.runtime.inprocess import running

with running(Path(sys.argv[1])) as session:
    session.run(sys.argv[2])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _run_and_kill(folder: Path, sql: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), sql], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_swapped_tables_keep_feeding_the_views_that_were_built_on_them(tmp_path: Path) -> None:
    _run_and_kill(
        tmp_path,
        """
        CREATE TABLE a (k int, x int); CREATE TABLE b (k int, x int);
        CREATE MATERIALIZED VIEW from_a AS SELECT k, sum(x) AS s FROM a GROUP BY k;
        CREATE VIEW v AS SELECT * FROM b; CREATE MATERIALIZED VIEW from_v AS SELECT count(*) AS n FROM v;
        INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (9, 9); FLUSH;
        ALTER TABLE a SWAP WITH b; ALTER TABLE a RENAME TO c; ALTER MATERIALIZED VIEW from_a RENAME TO renamed;
        """,
    )
    with running(tmp_path) as session:
        session.run("INSERT INTO b VALUES (1, 10); INSERT INTO c VALUES (1, 100); FLUSH")
        assert session.rows("SELECT * FROM renamed") == [(1, 11)]
        assert session.rows("SELECT * FROM from_v") == [(2,)]
        assert session.rows("SELECT * FROM c ORDER BY x") == [(9, 9), (1, 100)]
        assert session.rows("SHOW CREATE TABLE c") == [("public.c", "CREATE TABLE c (k int, x int)")]


def test_altered_columns_are_the_same_after_a_kill(tmp_path: Path) -> None:
    _run_and_kill(
        tmp_path,
        """
        CREATE TABLE t (k int, gone int, x int);
        CREATE MATERIALIZED VIEW m AS SELECT k, sum(x) AS s FROM t GROUP BY k;
        CREATE VIEW v AS SELECT k, x FROM t;
        INSERT INTO t VALUES (1, 7, 2); FLUSH;
        ALTER TABLE t ADD COLUMN added varchar NOT NULL DEFAULT 'new'; ALTER TABLE t DROP COLUMN gone;
        ALTER TABLE t RENAME COLUMN x TO y;
        """,
    )
    with running(tmp_path) as session:
        session.run("INSERT INTO t (k, y) VALUES (1, 5); CREATE MATERIALIZED VIEW all_of_t AS SELECT * FROM t; FLUSH")
        assert session.rows("SELECT * FROM t ORDER BY y") == [(1, 2, "new"), (1, 5, "new")]
        assert session.rows("SELECT * FROM m") == [(1, 7)]
        assert session.rows("SELECT k, x FROM v ORDER BY x") == [(1, 2), (1, 5)]
        session.run("ALTER TABLE t ADD COLUMN later int; INSERT INTO t VALUES (2, 3, 'x', 4); FLUSH")
        assert session.rows("SELECT * FROM all_of_t ORDER BY y") == [(1, 2, "new"), (2, 3, "x"), (1, 5, "new")]


def test_search_path_of_the_creation_counts(tmp_path: Path) -> None:
    _run_and_kill(
        tmp_path,
        """
        CREATE SCHEMA s; CREATE TABLE s.t (k int); SET search_path TO s, public;
        CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t; CREATE TABLE public.t (k int);
        """,
    )
    with running(tmp_path) as session:
        session.run("INSERT INTO s.t VALUES (1); INSERT INTO public.t VALUES (1), (2); FLUSH")
        assert session.rows("SELECT n FROM s.m") == [(1,)]
