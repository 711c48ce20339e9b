"""Users' Python runs beside the engine: what it does to its own process costs a row, never the engine or its neighbours."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.runtime.engine import Engine
from engine.sql.errors import SqlError
from tests.unit.engine.runtime.inprocess import InProcess

_TROUBLE = """
CREATE FUNCTION trouble(a int) RETURNS int LANGUAGE python AS $$
import os, sys

def trouble(a):
    print("not an answer")
    if a == 1:
        os.abort()
    if a == 2:
        while True:
            pass
    if a == 3:
        raise SystemExit(3)
    if a == 4:
        return "text"
    if a == 5:
        return open("/etc/hostname").read()
    if a == 6:
        import socket
        return socket.socket().fileno()
    if a == 7:
        return os.system("true")
    if a == 8:
        return len(bytearray(1 << 34))
    if a == 9:
        return 2 ** 40
    if a == 10:
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
    return a
$$
"""


def _engine(folder: Path, *, allowed: bool = True, row_seconds: float = 0.4) -> Engine:
    settings = EngineSettings(
        epoch_interval_ms=1, memory_limit="500MB", python_udfs=allowed, python_udf_row_seconds=row_seconds
    )
    return Engine(folder, settings, SystemClock())


@pytest.fixture
def session(tmp_path: Path) -> Iterator[InProcess]:
    engine = _engine(tmp_path)
    engine.start()
    found = InProcess(engine)
    try:
        yield found
    finally:
        found.close()
        engine.close()


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        (1, "its process ended"),
        (2, "ran longer than 0.4 s"),
        (3, "SystemExit"),
        (4, "not of the declared type"),
        (5, "may not open files"),
        (6, "may not use `socket"),
        (7, r"may not use `os\.system`"),
        (8, "MemoryError"),
        (9, "not of the declared type"),
        (10, "could not be interrupted"),
    ],
)
def test_what_a_function_does_wrong_is_the_error_of_the_query(session: InProcess, argument: int, reason: str) -> None:
    session.run(_TROUBLE)
    with pytest.raises(SqlError, match=reason) as refused:
        session.run(f"SELECT trouble({argument})")
    assert refused.value.sqlstate == "38000"
    assert refused.value.fix
    assert session.rows("SELECT trouble(0)") == [(0,)]


def test_in_a_view_only_the_rows_at_fault_are_null(session: InProcess) -> None:
    session.run(_TROUBLE)
    session.run("CREATE TABLE t (a INT PRIMARY KEY); CREATE MATERIALIZED VIEW m AS SELECT a, trouble(a) AS x FROM t")
    session.run("INSERT INTO t SELECT * FROM generate_series(0, 2000); FLUSH")
    wrong = session.rows("SELECT a FROM m WHERE x IS DISTINCT FROM a ORDER BY a")
    assert wrong == [(a,) for a in range(1, 11)]
    assert session.engine.udfs.failed_rows == 10
    assert session.engine.problem is None


def test_a_function_that_always_ends_its_process_does_not_stop_the_epochs(session: InProcess) -> None:
    session.run("CREATE FUNCTION f(a int) RETURNS int LANGUAGE python AS $$\nimport os\ndef f(a):\n    os.abort()\n$$")
    session.run("CREATE TABLE t (a INT); CREATE MATERIALIZED VIEW m AS SELECT a, f(a) AS x FROM t")
    session.run("INSERT INTO t SELECT * FROM generate_series(1, 300); FLUSH")
    assert session.rows("SELECT count(*), count(x) FROM m") == [(300, 0)]
    assert session.engine.udfs.workers.deaths <= 10


def test_a_function_sees_neither_the_engines_environment_nor_its_modules(
    session: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_SECRET", "of the engine")
    session.run(
        "CREATE FUNCTION seen() RETURNS varchar LANGUAGE python AS $$\nimport os, sys\ndef seen():\n"
        "    return f\"{os.environ.get('HEADRACE_SECRET')} {'duckdb' in sys.modules} {os.getppid() != os.getpid()}\"\n$$"
    )
    assert session.rows("SELECT seen()") == [("None False True",)]


def test_functions_are_refused_where_the_owner_does_not_want_them(tmp_path: Path) -> None:
    source = "CREATE FUNCTION f(a int) RETURNS int LANGUAGE python AS 'def f(a): return a'"
    allowed = _engine(tmp_path)
    allowed.start()
    first = InProcess(allowed)
    first.run(source)
    first.close()
    allowed.close()
    refusing = _engine(tmp_path, allowed=False)
    refusing.start()
    session = InProcess(refusing)
    try:
        for sql in (source.replace("f(a", "g(a"), "SELECT f(1)"):
            with pytest.raises(SqlError, match="switched off") as refused:
                session.run(sql)
            assert refused.value.sqlstate == "0A000"
        assert not refusing.udfs.workers.pids
    finally:
        session.close()
        refusing.close()


def test_functions_and_views_on_them_are_there_after_a_restart(tmp_path: Path) -> None:
    engine = _engine(tmp_path)
    engine.start()
    session = InProcess(engine)
    session.run("CREATE FUNCTION twice(a int) RETURNS int LANGUAGE python AS 'def twice(a): return 2 * a'")
    session.run(
        "CREATE TABLE t (a INT); CREATE MATERIALIZED VIEW m AS SELECT twice(a) AS x FROM t; INSERT INTO t VALUES (1); FLUSH"
    )
    session.close()
    engine.close()
    engine = _engine(tmp_path)
    engine.start()
    session = InProcess(engine)
    try:
        session.run("INSERT INTO t VALUES (2); FLUSH")
        assert session.rows("SELECT x FROM m ORDER BY x") == [(2,), (4,)]
        assert session.rows("SELECT twice(5)") == [(10,)]
    finally:
        session.close()
        engine.close()


def test_a_worker_that_somebody_kills_is_replaced(session: InProcess) -> None:
    session.run("CREATE FUNCTION twice(a int) RETURNS int LANGUAGE python AS 'def twice(a): return 2 * a'")
    assert session.rows("SELECT twice(1)") == [(2,)]
    (pid,) = session.engine.udfs.workers.pids
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        assert time.monotonic() < deadline
    session.run("CREATE TABLE t (a INT); CREATE MATERIALIZED VIEW m AS SELECT twice(a) AS x FROM t")
    session.run("INSERT INTO t VALUES (3), (4); FLUSH")
    assert session.rows("SELECT x FROM m ORDER BY x") == [(6,), (8,)]


def test_no_process_is_left_when_the_engine_stops(tmp_path: Path) -> None:
    engine = _engine(tmp_path)
    engine.start()
    session = InProcess(engine)
    session.run("CREATE FUNCTION f(a int) RETURNS int LANGUAGE python AS 'def f(a): return a'")
    session.run("SELECT f(1)")
    pids = engine.udfs.workers.pids
    assert pids
    session.close()
    engine.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
