"""What a table could not use is shown in its own database only, also after the database got another name."""

from pathlib import Path

from tests.unit.engine.runtime.inprocess import InProcess, running

LATE = """
CREATE TABLE readings (ts TIMESTAMP, k INT, WATERMARK FOR ts AS ts) APPEND ONLY;
INSERT INTO readings VALUES ('2024-01-01 00:05:00', 1);
FLUSH;
INSERT INTO readings VALUES ('2024-01-01 00:00:00', 2);
FLUSH
"""


def test_rows_of_another_database_are_not_shown(tmp_path: Path) -> None:
    with running(tmp_path) as dev:
        dev.run("CREATE DATABASE other")
        other = InProcess(dev.engine, "other")
        other.run(LATE)
        assert dev.rows("SELECT stream FROM quarantine") == []
        assert other.rows("SELECT stream FROM quarantine") == [("readings",)]
        other.close()

        dev.run("ALTER DATABASE other RENAME TO renamed")
        renamed = InProcess(dev.engine, "renamed")
        assert renamed.rows("SELECT count(*) FROM quarantine") == [(1,)]
        assert dev.rows("SELECT count(*) FROM quarantine") == [(0,)]
        renamed.run("DROP TABLE readings")
        renamed.close()

        # A new database of an old name begins with nothing.
        dev.run("DROP DATABASE renamed; CREATE DATABASE renamed")
        renamed = InProcess(dev.engine, "renamed")
        assert renamed.rows("SELECT count(*) FROM quarantine") == [(0,)]
        renamed.close()
