"""The process that is killed while it builds a view: `python -m tests.unit.engine.runtime.building_child FOLDER true|false`.

It prints a line once some parts of the view are in and the rest is not.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.runtime.engine import Engine
from tests.unit.engine.runtime.inprocess import InProcess

ROWS = 300
VIEW = "SELECT g, count(*) AS n, sum(v) AS total FROM t GROUP BY g"


def main(folder: Path, background: str) -> None:
    engine = Engine(
        folder, EngineSettings(epoch_interval_ms=1, backfill_rows=1, memory_limit="500MB", threads=1), SystemClock()
    )
    engine.start()
    session = InProcess(engine)
    session.run("CREATE TABLE t (id INT PRIMARY KEY, g INT, v INT)")
    session.run(f"INSERT INTO t SELECT i, i % 7, i FROM generate_series(1, {ROWS}) AS s(i); FLUSH")
    session.run(f"SET background_ddl = {background}")
    threading.Thread(target=session.run, args=(f"CREATE MATERIALIZED VIEW v AS {VIEW}",), daemon=True).start()
    while not any(0.02 < backfill.share < 1 for backfill in list(engine.backfills.values())):
        time.sleep(0.001)
    print("building", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
