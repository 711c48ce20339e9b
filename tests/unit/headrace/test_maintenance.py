"""The maintenance process shrinks tables beside whoever uses them, and says what it did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from core.clock import SystemClock
from core.settings import MaintenanceSettings, Settings
from headrace.maintenance import STATE_FILE, Loop, State, intervals_of
from headrace.ports import free_port
from iceberg.catalog import open_lake
from iceberg.holds import hold
from iceberg.maintenance import Maintenance
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

HOST = "127.0.0.1"
ROWS = pa.table({"tenant_id": ["a"], "n": pa.array([1], pa.int64())})
TABLE = "lake.rows"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, maintenance=MaintenanceSettings(max_snapshots=3, keep_last=1, grace_minutes=0))


@pytest.fixture
def append(settings: Settings) -> Callable[[int], None]:
    catalog = open_lake(settings)
    create_table_for_arrow(catalog, TABLE, ROWS.schema)
    sink = ExactlyOnceTable(catalog, TABLE, uuid.uuid4())

    def append_times(times: int) -> None:
        for _ in range(times):
            sink.append(sink.last_epoch() + 1, ROWS)

    return append_times


class Clock:
    """Some days later than now."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=3)


def counts(done: list[Any], table: str = TABLE) -> dict[str, int]:
    return next(dict(each.counts) for each in done if each.table == table)


def test_a_pass_compacts_then_expires_by_number_then_removes_what_is_left(
    settings: Settings, append: Callable[[int], None]
) -> None:
    append(8)
    lake = open_lake(settings)
    work = Maintenance(lake, settings.resolved_warehouse, settings.maintenance, Clock())
    assert counts(work.run("compact"))["files_saved"] == 7
    assert counts(work.run("expire"))["snapshots"] >= 6
    assert len(lake.load_table(TABLE).snapshots()) <= 3
    orphan = Path(lake.load_table(TABLE).location().removeprefix("file://")) / "data" / "left-behind.parquet"
    orphan.write_bytes(b"half a file")
    assert counts(work.run("orphans"))["files"] == 1
    assert not orphan.exists()
    assert lake.load_table(TABLE).scan().count() == 8


def test_a_table_in_trouble_does_not_keep_the_others_from_their_turn(settings: Settings, append: Callable[[int], None]) -> None:
    append(6)
    lake = open_lake(settings)
    broken = create_table_for_arrow(lake, "lake.broken", ROWS.schema)
    Path(broken.metadata_location.removeprefix("file://")).write_bytes(b"no metadata")
    done = Maintenance(open_lake(settings), settings.resolved_warehouse, settings.maintenance, SystemClock()).run("compact")
    assert {each.table for each in done if each.error} == {"lake.broken"}
    assert counts(done)["files_saved"] == 5


def test_a_held_table_is_no_failure(settings: Settings, append: Callable[[int], None]) -> None:
    append(6)
    lake = open_lake(settings)
    hold(lake, "table", TABLE, reason="case 7", actor="test")
    done = Maintenance(lake, settings.resolved_warehouse, settings.maintenance, Clock()).run("expire")
    held = next(each for each in done if each.table == TABLE)
    assert (held.held, dict(held.counts)) == (True, {})
    state = State(settings.data_dir / STATE_FILE)
    state.add("expire", datetime.now(UTC), 0.1, done)
    told = json.loads((settings.data_dir / STATE_FILE).read_text())
    assert told["last"]["expire"]["held"] == [TABLE]
    assert told["totals"]["expire"]["failures"] == 0
    assert 'headrace_maintenance_runs_total{task="expire"} 1' in state.metrics()


def test_an_interval_of_zero_switches_a_task_off() -> None:
    assert intervals_of(MaintenanceSettings(compact_seconds=0, orphans_seconds=0)) == {"expire": 1800.0}


def test_a_lake_that_cannot_be_opened_is_told_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "warehouse").write_text("not a folder")
    (tmp_path / "catalog.db").mkdir()
    state = State(tmp_path / STATE_FILE)
    Loop(Settings(data_dir=tmp_path), state, threading.Event()).do("compact")
    assert "all" in json.loads((tmp_path / STATE_FILE).read_text())["last"]["compact"]["failed"]


@pytest.mark.timeout(120)
def test_the_process_works_by_itself_and_stops_when_told(settings: Settings, append: Callable[[int], None]) -> None:
    append(8)
    port = free_port(HOST)
    environ = {**os.environ, "HEADRACE_MAINTENANCE__COMPACT_SECONDS": "0.5"}
    command = [
        sys.executable,
        "-m",
        "headrace",
        "serve",
        "maintenance",
        "--port",
        str(port),
        "--data-dir",
        str(settings.data_dir),
    ]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while len(open_lake(settings).load_table(TABLE).inspect.data_files()) > 1:
            assert process.poll() is None
            assert time.monotonic() < deadline, "nothing was compacted"
            time.sleep(0.1)
        saved = 0
        while saved == 0:
            assert time.monotonic() < deadline, "the state does not tell"
            with urllib.request.urlopen(f"http://{HOST}:{port}/state", timeout=5) as answer:
                saved = json.load(answer)["totals"].get("compact", {}).get("files_saved", 0)
            time.sleep(0.05)
        assert saved == 7
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
