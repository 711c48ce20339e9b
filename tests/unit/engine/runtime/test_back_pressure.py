"""Nobody runs ahead: a source waits for the commit of what it gave, an outbox is bounded, and all is seen and mended."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from core.clock import SystemClock
from core.errors import UnavailableError
from core.settings import EngineSettings
from engine.runtime.engine import Engine
from engine.sql.errors import SqlError
from tests.unit.engine.runtime.fake_log import FakeLog, Record
from tests.unit.engine.runtime.inprocess import InProcess

SOURCE = (
    "CREATE SOURCE log (k BIGINT) WITH (connector = 'kafka', topic = 'log', properties.bootstrap.server = 'nowhere:1',"
    " scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON"
)
SINK = "WITH (connector = 'blackhole')"
ARRIVED = dt.datetime(2026, 1, 1)  # noqa: DTZ001  instants inside the engine are naive UTC
LIMIT = 500
ROWS = 2_000


class Target:
    """Where a sink delivers to, down or up as the test wants it."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.rows: list[int] = []
        self.epoch = 0

    def build(self, *_arguments: object) -> Target:
        return self

    def open(self) -> int:
        if not self.up.is_set():
            raise UnavailableError("the target is down", where="here", fix="Start it.")
        return self.epoch

    def deliver(self, epoch: int, rows: pa.Table) -> None:
        if not self.up.is_set():
            raise UnavailableError("the target is down", where="here", fix="Start it.")
        self.rows += rows.column(0).to_pylist()
        self.epoch = epoch

    def close(self) -> None: ...


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    made = FakeLog({0: [Record(b'{"k": %d}' % i, ARRIVED) for i in range(ROWS)]})
    monkeypatch.setattr("engine.runtime.ddl.build_source", made.reader)
    monkeypatch.setattr("engine.runtime.inputs.build_source", made.reader)
    return made


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    made = Target()
    monkeypatch.setattr("engine.runtime.ddl.build_sink", made.build)
    return made


@pytest.fixture
def box(log: FakeLog, tmp_path: Path) -> Iterator[InProcess]:
    settings = EngineSettings(epoch_interval_ms=1, memory_limit="300MB", epoch_max_rows=100, sink_backlog_rows=LIMIT)
    engine = Engine(tmp_path, settings, SystemClock())
    engine.start()
    session = InProcess(engine)
    yield session
    session.close()
    engine.close()


def poll(what: str, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_source_is_not_polled_while_what_it_gave_is_not_committed(box: InProcess, log: FakeLog) -> None:
    box.run(SOURCE)
    box.run("CREATE MATERIALIZED VIEW v AS SELECT k FROM log")
    tries = []
    broken = threading.Event()
    broken.set()

    def fail(step: str) -> None:
        if step == "epoch: before commit" and broken.is_set():
            tries.append(step)
            raise OSError("no commit today")

    box.engine.failpoint = fail
    log.serve_all()
    poll("the epoch is tried again", lambda: len(tries) >= 4)
    assert log.readers[0].taken == 100, "more was taken than one epoch's rows"
    broken.clear()
    poll("all rows come", lambda: box.rows("SELECT count(*)::int, count(DISTINCT k)::int FROM v") == [(ROWS, ROWS)])


def test_a_sink_that_is_down_holds_back_its_source_and_recovers(box: InProcess, log: FakeLog, target: Target) -> None:
    box.run(SOURCE)
    box.run("CREATE MATERIALIZED VIEW v AS SELECT k FROM log")
    box.run(f"CREATE SINK s FROM v {SINK}")
    box.run("CREATE TABLE apart (k INT); CREATE MATERIALIZED VIEW other AS SELECT k FROM apart")
    log.serve({0: LIMIT + 100})  # the hold is looked at once a second; the rest comes when it is there

    def held() -> bool:
        ((problem,),) = box.rows("SELECT problem FROM rw_catalog.headrace_barriers")
        return problem is not None and "`s` holds back its inputs" in str(problem)

    poll("the state is told", held)
    log.serve_all()
    taken = log.readers[0].taken
    ((backlog, problem),) = box.rows("SELECT backlog_rows, problem FROM rw_catalog.headrace_sinks")
    assert isinstance(backlog, int)
    assert LIMIT <= backlog <= taken
    assert "the target is down" in str(problem)
    assert taken < ROWS, "the source is read although its rows cannot leave"
    box.run("INSERT INTO apart VALUES (1); FLUSH")
    assert box.rows("SELECT k FROM other") == [(1,)], "what has nothing to do with the sink goes on"
    assert log.readers[0].taken == taken, "a held source was polled"
    target.up.set()
    poll("all rows are delivered", lambda: len(target.rows) == ROWS)
    assert sorted(target.rows) == list(range(ROWS))
    poll("nobody is held any longer", lambda: not held())


def test_a_table_whose_sink_is_down_refuses_rows_beyond_the_limit(box: InProcess, target: Target) -> None:
    box.run("CREATE TABLE t (k INT PRIMARY KEY)")
    box.run(f"CREATE SINK s FROM t {SINK}")

    number = iter(range(1_000_000))
    refusals: list[SqlError] = []

    def refused() -> bool:
        try:
            box.run(f"INSERT INTO t VALUES ({next(number)}); FLUSH")
        except SqlError as error:
            refusals.append(error)
            return True
        return False

    box.run("INSERT INTO t SELECT -i FROM generate_series(1, 600) g(i); FLUSH")
    poll("an INSERT is refused", refused)
    assert refusals[0].sqlstate == "53400"
    assert "`s` holds back its inputs" in refusals[0].what
    target.up.set()
    poll("the backlog goes", lambda: box.rows("SELECT backlog_rows FROM rw_catalog.headrace_sinks") == [(0,)])
    poll("rows are taken again", lambda: not refused())


def test_dropping_a_dead_sink_ends_its_hold(box: InProcess, log: FakeLog, target: Target) -> None:
    box.run(SOURCE)
    box.run("CREATE MATERIALIZED VIEW v AS SELECT k FROM log")
    box.run(f"CREATE SINK s FROM v {SINK}")
    log.serve({0: LIMIT + 100})
    poll("it is held back", lambda: box.engine.back_pressure.problem is not None)
    log.serve_all()
    box.run("DROP SINK s")
    poll("all rows come", lambda: box.rows("SELECT count(*)::int FROM v") == [(ROWS,)])
    assert target.rows == []
