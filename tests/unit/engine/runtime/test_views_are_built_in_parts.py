"""A view over tables that hold much takes them part by part while the rest of the engine goes on."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.runtime.backfill import Backfill
from engine.runtime.engine import Engine
from engine.runtime.epoch import Epoch
from engine.sql.errors import SqlError
from tests.unit.engine.runtime.building_child import ROWS, VIEW
from tests.unit.engine.runtime.inprocess import InProcess

VIEWS = {
    "totals": "SELECT g, count(*) AS n, sum(v) AS total, max(v) AS most FROM t GROUP BY g",
    "joined": "SELECT t.id, t.v, u.name FROM t LEFT JOIN u ON t.g = u.k",
    "top": "SELECT id, v FROM t ORDER BY v DESC, id LIMIT 5",
    "places": "SELECT id, row_number() OVER (PARTITION BY g ORDER BY v, id) AS place FROM t",
    "on_views": "SELECT n, count(*) AS many FROM counts GROUP BY n",
}


@contextmanager
def opened(folder: Path, rows: int = 100) -> Iterator[InProcess]:
    settings = EngineSettings(epoch_interval_ms=1, backfill_rows=rows, memory_limit="500MB", threads=1)
    engine = Engine(folder, settings, SystemClock())
    engine.start()
    session = InProcess(engine)
    try:
        yield session
    finally:
        session.close()
        engine.close()


def filled(session: InProcess, rows: int) -> None:
    session.run("CREATE TABLE t (id INT PRIMARY KEY, g INT, v INT); CREATE TABLE u (k INT, name VARCHAR)")
    session.run("CREATE MATERIALIZED VIEW counts AS SELECT g, count(*) AS n FROM t GROUP BY g")
    session.run(f"INSERT INTO t SELECT i, i % 150, i * 37 % 101 FROM generate_series(1, {rows}) AS s(i)")
    session.run(f"INSERT INTO u SELECT i % 200, 'name ' || i FROM generate_series(1, {rows // 2}) AS s(i); FLUSH")


def test_views_equal_their_queries_and_other_views_go_on_while_they_are_built(tmp_path: Path) -> None:
    chance = random.Random(3)
    with opened(tmp_path) as session:
        filled(session, 1000)
        session.run("SET background_ddl = true")
        for name, query in VIEWS.items():
            session.run(f"CREATE MATERIALIZED VIEW {name} AS {query}")
        jobs = session.rows("SHOW JOBS")
        assert len(jobs) > 1, "the views were there at once: this shows nothing"
        assert all(str(progress).endswith("%") for _, _, progress in jobs)
        fresh = 0
        while session.rows("SHOW JOBS"):
            key = chance.randint(1, 1100)
            session.run(f"INSERT INTO t VALUES ({key}, {chance.randint(0, 150)}, {chance.randint(0, 101)})")
            session.run(f"DELETE FROM t WHERE id = {chance.randint(1, 1100)}")
            session.run(f"UPDATE u SET name = 'new {key}' WHERE k = {key % 200}; FLUSH")
            known = Counter(session.rows("SELECT * FROM counts"))
            assert known == Counter(session.rows("SELECT g, count(*) AS n FROM t GROUP BY g"))
            fresh += bool(session.rows("SELECT ddl_id FROM rw_catalog.rw_ddl_progress"))
        assert fresh >= 2, "no other view was seen to go on"
        session.run("WAIT")
        for _ in range(2):
            for name, query in VIEWS.items():
                assert Counter(session.rows(f"SELECT * FROM {name}")) == Counter(session.rows(query)), name
            session.run("UPDATE t SET v = v + 1 WHERE id % 3 = 0; DELETE FROM u WHERE k < 20; FLUSH")


def test_a_statement_waits_for_its_view_and_the_view_survives_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as session:
        filled(session, 500)
        before = session.engine.epochs_run
        session.run(f"CREATE MATERIALIZED VIEW totals AS {VIEWS['totals']}")
        assert session.engine.epochs_run >= before + 5
        assert session.rows("SHOW JOBS") == []
    with opened(tmp_path) as session:
        session.run("UPDATE t SET v = 0 WHERE id < 50; FLUSH")
        assert Counter(session.rows("SELECT * FROM totals")) == Counter(session.rows(VIEWS["totals"]))


def _killed(folder: Path, background: str) -> None:
    command = [sys.executable, "-m", "tests.unit.engine.runtime.building_child", str(folder), background]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[4])
    assert process.stdout is not None
    line = process.stdout.readline()
    process.kill()
    process.stdout.close()
    process.wait(60)
    assert line == b"building\n"


def test_a_view_in_the_background_goes_on_after_a_kill(tmp_path: Path) -> None:
    _killed(tmp_path, "true")
    with opened(tmp_path) as session:
        assert session.engine.backfills or session.rows("SHOW MATERIALIZED VIEWS"), "the view is lost"
        session.run("INSERT INTO t VALUES (-1, 0, 5); WAIT")
        assert session.rows("SELECT count(*) FROM t") == [(ROWS + 1,)]
        assert Counter(session.rows("SELECT * FROM v")) == Counter(session.rows(VIEW))


def test_nothing_is_left_of_a_view_whose_client_was_killed_with_the_engine(tmp_path: Path) -> None:
    _killed(tmp_path, "false")
    with opened(tmp_path) as session:
        assert session.rows("SHOW JOBS") == session.rows("SHOW MATERIALIZED VIEWS") == []
        session.run(f"CREATE MATERIALIZED VIEW v AS {VIEW}")
        assert Counter(session.rows("SELECT * FROM v")) == Counter(session.rows(VIEW))


def test_a_cancelled_job_ends_its_statement_and_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, rows=1) as session:
        filled(session, 1500)
        other = InProcess(session.engine)
        errors: list[SqlError] = []

        def create() -> None:
            try:
                other.run(f"CREATE MATERIALIZED VIEW totals AS {VIEWS['totals']}")
            except SqlError as error:
                errors.append(error)

        thread = threading.Thread(target=create)
        thread.start()
        while not (jobs := session.rows("SHOW JOBS")):
            assert thread.is_alive(), "the view was there at once: this shows nothing"
        number = int(str(jobs[0][0]))
        for sql in (f"CREATE MATERIALIZED VIEW totals AS {VIEWS['totals']}", "DROP TABLE t", "ALTER TABLE t RENAME TO s"):
            with pytest.raises(SqlError) as caught:
                session.run(sql)
            assert caught.value.sqlstate in ("42P07", "2BP01"), sql
        assert session.rows(f"CANCEL JOBS {number}, 999999") == [(str(number),)]
        thread.join(60)
        other.close()
        assert [error.sqlstate for error in errors] == ["57014"]
        left = f"SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 's{number}%' OR table_name = 'r{number}'"
        assert session.engine.submit(lambda: session.engine.store.writer.execute(left).fetchall()).result(60) == [(0,)]
        session.run(f"CREATE VIEW totals AS {VIEWS['totals']}")


def test_dropping_what_it_reads_with_cascade_ends_the_job(tmp_path: Path) -> None:
    with opened(tmp_path, rows=1) as session:
        filled(session, 1500)
        session.run(f"SET background_ddl = true; CREATE MATERIALIZED VIEW joined AS {VIEWS['joined']}")
        assert session.rows("SHOW JOBS")
        session.run("DROP TABLE u CASCADE; WAIT")
        assert session.rows("SHOW JOBS") == []
        assert [name for (name,) in session.rows("SHOW MATERIALIZED VIEWS")] == ["public.counts"]


def test_a_view_that_cannot_be_computed_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Backfill.step

    def step(backfill: Backfill, epoch: Epoch) -> None:
        if backfill.share > 0.4:
            monkeypatch.setattr(backfill.job, "run", _fail)
        plain(backfill, epoch)

    monkeypatch.setattr(Backfill, "step", step)
    with opened(tmp_path) as session:
        filled(session, 500)
        with pytest.raises(SqlError, match="no room for this"):
            session.run(f"CREATE MATERIALIZED VIEW totals AS {VIEWS['totals']}")
        session.run("INSERT INTO t VALUES (-1, 0, 5); FLUSH")
        assert session.engine.problem is None
        assert Counter(session.rows("SELECT * FROM counts")) == Counter(session.rows("SELECT g, count(*) FROM t GROUP BY g"))
        assert session.rows("SHOW JOBS") == []


def _fail(_epoch: Epoch) -> None:
    raise SqlError("no room for this", sqlstate="53200", fix="Make room.")
