"""Statements put together at random: whatever comes out, a client gets an error of SQL, in words of SQL, with a remedy.

Two assertions, because one alone is weak: no text of DuckDB's, no name of a Python exception and no column name of ours
reaches the client; and DuckDB never refuses what we sent it for another reason than a value in it, whatever the client is told.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.runtime.engine import Engine
from engine.sql.errors import SqlError
from tests.unit.engine.front.statements import Statements
from tests.unit.engine.runtime.inprocess import InProcess

_TABLE = """
CREATE TABLE t9 (
    i INT PRIMARY KEY, j BIGINT, k VARCHAR, m NUMERIC, n DOUBLE PRECISION, ts TIMESTAMP, o JSONB, a INT, b VARCHAR, c INT[], d DATE
);
INSERT INTO t9 VALUES
    (1, 2, 'x', 1.5, 2.5, '2024-01-01', '{"a": 1}', 3, 'b', ARRAY[1], '2024-01-01'),
    (2, NULL, '', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL);
FLUSH
"""
# What DuckDB says of SQL that we should not have sent: a mistake of ours, whatever the client is told.
_OURS = (
    duckdb.ParserException,
    duckdb.CatalogException,
    duckdb.BinderException,
    duckdb.InternalException,
    duckdb.NotImplementedException,
)
_WORDS_OF_OURS = re.compile(
    r"duckdb|\bhr[._]\w|\bc\d+\b(?! does)|\b\w*(?:Exception|Error)\b: |Binder|Catalog Error|Parser|INT(?:8|16|32|64|128)\b|HUGEINT|UTINYINT"
    r"|struct_pack|NoneType|Traceback|\bLINE \d|Candidate functions|pyarrow|\bobject at 0x|KeyError|internal error",
    re.IGNORECASE,
)


class _Fuzz:
    """Runs statements of one seed on an engine of its own, and counts how they end."""

    def __init__(self, folder: Path, seed: int) -> None:
        settings = EngineSettings(epoch_interval_ms=1, memory_limit="500MB", statement_timeout_seconds=10)
        self.engine = Engine(folder, settings, SystemClock())
        self.engine.start()
        self.session = InProcess(self.engine)
        self.session.run(_TABLE)
        self._statements = Statements(seed)
        self.endings: Counter[str] = Counter()

    def run(self, count: int) -> None:
        for _ in range(count):
            sql = self._statements.statement()
            try:
                self.session.run(sql)
            except SqlError as refusal:
                self.endings[refusal.sqlstate] += 1
                _check(sql, refusal)
            else:
                self.endings["accepted"] += 1
            # Two may hold the same source of rows; one that cannot commit any more would hide what follows.
            assert self.engine.problem is None, f"{sql}: {self.engine.problem}"

    def close(self) -> None:
        self.session.close()
        self.engine.close()


def _check(sql: str, refusal: SqlError) -> None:
    assert refusal.sqlstate not in ("XX000", "58000"), f"{sql}: {refusal}"
    cause = refusal.__cause__
    assert not isinstance(cause, _OURS), f"{sql}: DuckDB was sent something wrong: {cause}"
    told = _WORDS_OF_OURS.search(_without_quotes(f"{refusal.what} {refusal.fix}", sql))
    assert told is None, f"{sql}: a client is told `{told[0]}`: {refusal.what}"
    assert refusal.fix, f"{sql}: no remedy: {refusal.what}"
    assert "\n" not in refusal.what
    assert "cannot run this statement" not in refusal.what, f"{sql}: {cause}"


def _without_quotes(told: str, sql: str) -> str:
    """The error without what it quotes from the statement: names and values there are the client's own."""
    return re.sub(r"`([^`]*)`", lambda found: "" if found[1] in sql else found[0], told)


def _run(folder: Path, seed: int, count: int) -> Counter[str]:
    fuzz = _Fuzz(folder, seed)
    try:
        fuzz.run(count)
        fuzz.session.run("FLUSH")
    finally:
        fuzz.close()
    return fuzz.endings


@pytest.mark.parametrize("seed", range(3))
def test_no_statement_ends_in_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    endings = _run(tmp_path, seed, 150)
    assert endings["accepted"] > 8, f"nearly everything was refused: the test tests nothing ({endings})"
    assert len(endings) > 6, endings


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1_000, 1_020))
def test_no_statement_of_thousands_ends_in_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}: {_run(tmp_path, seed, 400)}")


def test_the_words_that_are_looked_for_are_found() -> None:
    for text in (
        "Binder Error: no function matches", "KeyError: 1001", "column c3 must appear", "hr_numeric_add", "hr.r1001", "cast to INT32", "internal error",
    ):  # fmt: skip
        assert _WORDS_OF_OURS.search(text), text
    assert not _WORDS_OF_OURS.search("column `c1` does not exist in `t`".replace("`c1`", ""))
