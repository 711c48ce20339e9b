"""A disk that is full or read-only: a clear error, nothing acknowledged is lost, and on it goes once there is room."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from headrace.ports import accepts_connections, free_port
from tests.chaos.engine.processes import HOST, Connection, query
from tests.services.kafka import ServiceUnavailableError, wait_until
from tests.services.namespace import SmallDisk

_SERVE = """
import logging, sys
from pathlib import Path
from core.errors import HeadraceError
from core.settings import EngineSettings
from engine.main import run
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
try:
    run(Path(sys.argv[1]), "127.0.0.1", int(sys.argv[2]), EngineSettings(epoch_interval_ms=20, metrics_port=None))
except HeadraceError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Served:
    """An engine whose data folder is on a small disk."""

    def __init__(self, disk: SmallDisk, log: Path) -> None:
        self.disk, self.log, self.port = disk, log, free_port(HOST)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = self.disk.command([sys.executable, "-c", _SERVE, str(self.disk.folder / "engine"), str(self.port)])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)
        wait_until(lambda: accepts_connections(HOST, self.port) or self.ended is not None, 60, "the engine")

    @property
    def ended(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(60)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.wait()

    def connect(self) -> Connection:
        assert self.ended is None, self.log.read_text()
        return psycopg.connect(f"postgresql://root@{HOST}:{self.port}/dev", autocommit=True)


@pytest.fixture
def disk(tmp_path: Path, services_required: bool) -> Iterator[SmallDisk]:
    try:
        made = SmallDisk(tmp_path / "disk", "48m")
    except ServiceUnavailableError as error:
        if services_required:
            raise
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def served(disk: SmallDisk, tmp_path: Path) -> Iterator[Served]:
    engine = Served(disk, tmp_path / "engine.log")
    engine.start()
    yield engine
    if engine.ended is None:
        engine.stop()


def fill_table(connection: Connection, first: int) -> tuple[int, psycopg.Error]:
    """Insert until FLUSH is refused; gives the number of acknowledged statements and the refusal."""
    for number in range(first, first + 400):
        try:
            connection.execute(
                f"INSERT INTO t SELECT i, repeat(md5(i::varchar), 20) FROM generate_series({number * 500}, {number * 500 + 499}) g(i)"  # type: ignore[call-overload]
            )
            connection.execute("FLUSH")
        except psycopg.Error as error:
            return number, error
    raise AssertionError("the disk does not fill up")


def create(connection: Connection) -> None:
    connection.execute("CREATE TABLE t (i BIGINT, filler VARCHAR)")
    connection.execute("CREATE MATERIALIZED VIEW v AS SELECT i % 10 AS k, count(*) AS n FROM t GROUP BY i % 10")


def total(connection: Connection) -> tuple[object, object]:
    return query(connection, "SELECT count(*) FROM t")[0][0], query(connection, "SELECT sum(n) FROM v")[0][0]


def test_a_full_disk_is_told_and_the_engine_goes_on_once_there_is_room(served: Served, disk: SmallDisk) -> None:
    with served.connect() as connection:
        create(connection)
        disk.fill(keep=3 << 20)
        acknowledged, refusal = fill_table(connection, 0)
        assert refusal.sqlstate == "53100", refusal
        assert "full" in str(refusal)
        assert str(disk.folder) in str(refusal)
        assert "Free some space" in str(refusal)
        rows, counted = total(connection)
        assert rows == counted == acknowledged * 500, "what is acknowledged can be read while the disk is full"
        disk.free()
        deadline = time.monotonic() + 30
        while True:  # the refused rows wait and are tried again
            try:
                connection.execute("FLUSH")
                break
            except psycopg.errors.DiskFull:
                assert time.monotonic() < deadline, "the engine does not go on"
        assert total(connection) == ((acknowledged + 1) * 500, (acknowledged + 1) * 500)
    assert served.stop() == 0


def test_rows_acknowledged_before_the_disk_was_full_survive_a_kill(served: Served, disk: SmallDisk) -> None:
    with served.connect() as connection:
        create(connection)
        disk.fill(keep=2 << 20)
        acknowledged, _ = fill_table(connection, 0)
    assert served.process is not None
    served.process.kill()
    served.wait()
    disk.free()
    served.start()
    with served.connect() as connection:
        rows, counted = total(connection)
        assert rows == counted
        assert rows in (acknowledged * 500, (acknowledged + 1) * 500)


def test_stopping_on_a_full_disk_loses_nothing(served: Served, disk: SmallDisk) -> None:
    with served.connect() as connection:
        create(connection)
        disk.fill(keep=2 << 20)
        acknowledged, _ = fill_table(connection, 0)
    served.stop()
    disk.free()
    served.start()
    with served.connect() as connection:
        rows, counted = total(connection)
        assert rows == counted
        assert int(str(rows)) >= acknowledged * 500


def test_starting_on_a_full_disk_says_so_or_serves_what_is_there(served: Served, disk: SmallDisk) -> None:
    with served.connect() as connection:
        create(connection)
        connection.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) g(i)")
        connection.execute("FLUSH")
    assert served.process is not None
    served.process.kill()
    served.wait()
    disk.fill()
    served.start()
    if served.ended is None:
        with served.connect() as connection:
            assert total(connection) == (1000, 1000)
        served.process.kill()
        served.wait()
    else:
        assert "full" in served.log.read_text()
        assert "Free some space" in served.log.read_text()
    disk.free()
    served.start()
    with served.connect() as connection:
        assert total(connection) == (1000, 1000)


def test_a_read_only_folder_is_told_and_nothing_is_lost(served: Served, disk: SmallDisk) -> None:
    with served.connect() as connection:
        create(connection)
        connection.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) g(i)")
        connection.execute("FLUSH")
    assert served.stop() == 0
    disk.set_read_only(True)
    served.start()
    assert served.wait() == 1
    told = served.log.read_text()
    assert "Read-only file system" in told
    assert str(disk.folder) in told
    disk.set_read_only(False)
    served.start()
    with served.connect() as connection:
        assert total(connection) == (1000, 1000)
