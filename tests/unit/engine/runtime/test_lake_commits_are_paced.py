"""`commit_checkpoint_interval`: a sink into the lake commits that often, each row with the epoch that made it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.runtime.engine import Engine
from tests.unit.engine.runtime.inprocess import InProcess


class Lake:
    """Keeps deliveries."""

    def __init__(self) -> None:
        self.deliveries: list[list[tuple[int, int]]] = []
        self.arrived = threading.Event()

    def build(self, *_arguments: object) -> Lake:
        return self

    def open(self) -> int:
        return 0

    def deliver(self, epoch: int, rows: pa.Table) -> None:
        assert epoch == max(rows["_epoch"].to_pylist())
        self.deliveries.append(list(zip(rows.column(0).to_pylist(), rows["_epoch"].to_pylist(), strict=True)))
        self.arrived.set()

    def close(self) -> None: ...


@pytest.mark.parametrize(("interval", "least"), [(1, 2), (1000, 1)])
def test_epochs_between_two_commits_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: int, least: int
) -> None:
    lake = Lake()
    monkeypatch.setattr("engine.runtime.ddl.build_sink", lake.build)
    engine = Engine(tmp_path, EngineSettings(epoch_interval_ms=1, memory_limit="300MB"), SystemClock())
    engine.start()
    box = InProcess(engine)
    try:
        box.run("CREATE TABLE t (k BIGINT) APPEND ONLY")
        box.run(
            f"CREATE SINK s AS SELECT k FROM t WITH (connector = 'iceberg', type = 'append-only', commit_checkpoint_interval = {interval})"
        )
        box.run("INSERT INTO t VALUES (1)")
        box.run("FLUSH")
        assert lake.arrived.wait(30), "the first commit waits for nothing"
        for k in (2, 3, 4):
            box.run(f"INSERT INTO t VALUES ({k})")
            box.run("FLUSH")
        deadline = time.monotonic() + 30
        while sum(map(len, lake.deliveries)) < 4 and interval == 1:
            assert time.monotonic() < deadline, lake.deliveries
            time.sleep(0.02)
        assert len(lake.deliveries) >= least
        if interval > 1:
            assert lake.deliveries == [lake.deliveries[0]], "a thousand checkpoints are not over"
        else:
            epochs = [epoch for delivery in lake.deliveries for _, epoch in delivery]
            assert len(set(epochs)) == 4, "rows keep the epochs that made them, whatever they travelled with"
            assert epochs == sorted(epochs)
    finally:
        began = time.monotonic()
        box.close()
        engine.close()
    assert time.monotonic() - began < 20, "nobody waits for the next commit when the engine stops"
