"""How many rows an epoch takes: bounded when the engine keeps up, more while it is behind."""

from __future__ import annotations

import time
from pathlib import Path

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.runtime.engine import Engine
from tests.unit.engine.runtime.inprocess import InProcess

BIDS = 18_400
SOURCE = (
    "CREATE SOURCE bid (auction BIGINT, price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'Bid',"
    " nexmark.event.num = '20000', nexmark.min.event.gap.in.ns = '0');"
    "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n, count(DISTINCT auction) AS auctions FROM bid"
)


def _read_all(session: InProcess) -> None:
    session.run(SOURCE)
    deadline = time.monotonic() + 60
    while session.rows("SELECT n FROM n") != [(BIDS,)]:
        assert time.monotonic() < deadline, session.rows("SELECT n FROM n")
        time.sleep(0.01)


def test_an_engine_that_is_behind_cuts_fewer_and_bigger_epochs_and_loses_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path, EngineSettings(epoch_interval_ms=1, epoch_max_rows=100), SystemClock())
    engine.start()
    session = InProcess(engine)
    try:
        _read_all(session)
        # 184 of 100 rows each; at most 16 times as many rows are taken when the source does not wait.
        assert BIDS / 1_600 < engine.epochs_run < 90
    finally:
        session.close()
        engine.close()


def test_the_rest_of_a_backlog_does_not_wait_for_the_interval(tmp_path: Path) -> None:
    engine = Engine(tmp_path, EngineSettings(epoch_interval_ms=3_600_000, epoch_max_rows=100), SystemClock())
    engine.start()
    session = InProcess(engine)
    try:
        _read_all(session)  # its last rows are fewer than an epoch may take
    finally:
        session.close()
        engine.close()
