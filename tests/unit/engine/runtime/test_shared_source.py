"""Many views on one source read its topic once; a view that comes later reads what it missed, then shares the reader."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.engine.runtime.fake_log import FakeLog, Record
from tests.unit.engine.runtime.inprocess import InProcess, running

SOURCE = (
    "CREATE SOURCE log (k BIGINT) WITH (connector = 'kafka', topic = 'log', properties.bootstrap.server = 'nowhere:1',"
    " scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON"
)
ARRIVED = dt.datetime(2026, 1, 1)  # noqa: DTZ001  instants inside the engine are naive UTC


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    made = FakeLog({p: [Record(b'{"k": %d}' % (2 * i + p), ARRIVED) for i in range(3000)] for p in (0, 1)})
    monkeypatch.setattr("engine.runtime.ddl.build_source", made.reader)
    monkeypatch.setattr("engine.runtime.inputs.build_source", made.reader)
    return made


@pytest.fixture
def engine(log: FakeLog, tmp_path: Path) -> Iterator[InProcess]:
    with running(tmp_path) as session:
        session.run(SOURCE)
        yield session


def caught_up(engine: InProcess, sql: str, rows: int) -> None:
    """Until a count is reached; FLUSH waits for what clients wrote, not for all that a source has."""
    deadline = time.monotonic() + 30
    while engine.rows(sql)[0][0] != rows:
        assert time.monotonic() < deadline, (sql, engine.rows(sql), rows)
        time.sleep(0.01)


def test_five_views_fetch_each_record_once(engine: InProcess, log: FakeLog) -> None:
    for number in range(5):
        engine.run(f"CREATE MATERIALIZED VIEW v{number} AS SELECT k % {number + 2} AS g, count(*) AS n FROM log GROUP BY 1")
    log.serve({0: 1000, 1: 700})
    caught_up(engine, "SELECT sum(n)::int FROM v0", 1700)
    for number in range(5):
        assert engine.rows(f"SELECT sum(n)::int FROM v{number}") == [(1700,)]
    assert sum(reader.taken for reader in log.readers) == 1700
    assert [reader.taken for reader in log.readers if reader.taken] == [1700], "one reader fetched, for all of them"


def test_a_later_view_reads_what_it_missed_once_and_then_shares_the_reader(engine: InProcess, log: FakeLog) -> None:
    engine.run("CREATE MATERIALIZED VIEW early AS SELECT k FROM log")
    log.serve({0: 1000, 1: 700})
    caught_up(engine, "SELECT count(*)::int FROM early", 1700)
    engine.run("CREATE MATERIALIZED VIEW later AS SELECT k FROM log")
    assert sum(reader.taken for reader in log.readers) == 2 * 1700
    log.serve({0: 1500, 1: 1500})
    caught_up(engine, "SELECT count(*)::int FROM early", 3000)
    for view in ("early", "later"):
        assert engine.rows(f"SELECT count(*)::int, count(DISTINCT k)::int FROM {view}") == [(3000, 3000)]
    assert sum(reader.taken for reader in log.readers) == 1700 + 3000, "what came after was fetched by the shared reader alone"


def test_views_created_while_records_flow_have_every_record_once(engine: InProcess, log: FakeLog) -> None:
    engine.run("CREATE MATERIALIZED VIEW v0 AS SELECT k FROM log")
    stop = threading.Event()

    def flow() -> None:
        for count in range(0, 3000, 7):
            log.serve({0: count, 1: count})
            if stop.wait(0.002):
                return

    flowing = threading.Thread(target=flow)
    flowing.start()
    try:
        for number in range(1, 5):
            engine.run(f"CREATE MATERIALIZED VIEW v{number} AS SELECT k FROM log")
    finally:
        stop.set()
        flowing.join()
    log.serve_all()
    caught_up(engine, "SELECT count(*)::int FROM v0", 6000)
    for number in range(5):
        assert engine.rows(f"SELECT count(*)::int, count(DISTINCT k)::int FROM v{number}") == [(6000, 6000)]
