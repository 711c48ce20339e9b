"""A view whose state is larger than the memory limit spills to disk and is right, or is refused; the process goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from core.errors import HeadraceError
from core.settings import EngineSettings
from engine.runtime.store import Store
from tests.chaos.engine.processes import Connection, EngineProcess, query

ROWS = 300_000  # times 1 KB: three times the limit
LIMIT = "100MB"


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere"


@pytest.fixture
def engine(tmp_path: Path, spill: Path, request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    size = getattr(request, "param", None)
    settings = EngineSettings(
        memory_limit=LIMIT, temp_directory=spill, max_temp_directory_size=size, epoch_interval_ms=20, metrics_port=None
    )
    made = EngineProcess(tmp_path / "engine", settings=settings)
    made.start()
    assert made.await_port()
    yield made
    if made.running:
        made.kill()


def load(connection: Connection) -> None:
    connection.execute("CREATE TABLE wide (id BIGINT, filler VARCHAR)")
    for first in range(0, ROWS, 20_000):
        connection.execute(
            f"INSERT INTO wide SELECT i, repeat(md5(i::varchar), 32) FROM generate_series({first}, {first + 19_999}) g(i)"  # type: ignore[call-overload]
        )
        connection.execute("FLUSH")


# Every row of 1 KB is a group: the whole of the table is the state, and is sorted on the way.
WIDE_VIEW = "CREATE MATERIALIZED VIEW grouped AS SELECT filler, count(*) AS n, max(id) AS last FROM wide GROUP BY filler"

# One value of 300 MB: building in parts does not help.
ONE_VALUE = "CREATE MATERIALIZED VIEW whole AS SELECT array_agg(filler ORDER BY filler) AS all_of_it FROM wide"


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_view_larger_than_the_memory_limit_spills_and_is_right(engine: EngineProcess, spill: Path) -> None:
    with engine.connect() as connection:
        load(connection)
        connection.execute(WIDE_VIEW)
        assert query(connection, "SELECT count(*), sum(n)::int FROM grouped") == [(ROWS, ROWS)]
        connection.execute("INSERT INTO wide VALUES (-1, 'new')")
        connection.execute("FLUSH")
        assert query(connection, "SELECT n FROM grouped WHERE filler = 'new'") == [(1,)]
    assert spill.is_dir(), "nothing was spilled: the test is too small"
    assert engine.running
    if sys.platform.startswith("linux"):
        assert engine.process is not None
        status = Path(f"/proc/{engine.process.pid}/status").read_text()
        (peak_kb,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        assert peak_kb < 700 * 1024, "Python, Arrow and DuckDB's limit together take less than half of this"


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["1MB"], indirect=True)
def test_a_view_that_may_not_spill_is_refused_and_the_engine_goes_on(engine: EngineProcess) -> None:
    with engine.connect() as connection:
        load(connection)
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(ONE_VALUE)
        assert refused.value.sqlstate in ("53100", "53200"), refused.value
        assert query(connection, "SHOW MATERIALIZED VIEWS") == []
        connection.execute("CREATE MATERIALIZED VIEW small AS SELECT count(*) AS n FROM wide")
        assert query(connection, "SELECT n FROM small") == [(ROWS,)]
    assert engine.running


@pytest.mark.parametrize("setting", [{"memory_limit": "a lot"}, {"max_temp_directory_size": "big"}])
def test_a_size_that_is_none_is_refused_with_the_name_of_the_setting(tmp_path: Path, setting: dict[str, str]) -> None:
    with pytest.raises(HeadraceError, match=next(iter(setting))):
        Store(tmp_path, EngineSettings.model_validate(setting))
