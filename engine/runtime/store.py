"""The one DuckDB file that holds everything: catalog, tables, views, operator state, offsets, outboxes.

Layout, all in schema `hr` (docs/reference/engine-storage.md):

| table | holds |
|---|---|
| `meta(name, value)` | format version, last epoch, next row id |
| `catalog(...)` | one row an object: its SQL text and the facts that cannot be derived |
| `databases(name, schema)` | databases and their schemas |
| `users(...)` | users besides `root` |
| `comments(object, position, text)` | comments on relations (position 0) and their columns (from 1) |
| `positions(relation, partition, position, moment)` | by source and partition: next record to read, watermark |
| `jobs(...)` | views that are being built: what `catalog` will hold, and how far they are |
| `late(relation, partition, offset)` | records that were late by the other partitions' time |
| `r1` | the quarantine: rows that a source could not use, and the database of that source |
| `r<id>` | rows of a table or view |
| `s<id>_<n>_...` | state of operator n of view id |
| `outbox<id>`, `log<id>` | undelivered rows of a sink; changelog of a subscription |

A transaction is an epoch or one DDL statement; nothing else writes.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from core.errors import ConfigError, ConflictError, CorruptDataError, HeadraceError
from core.settings import EngineSettings
from engine.catalog.catalog import QUARANTINE_ID
from engine.functions.native import register_functions
from engine.runtime.disk import disk_error, has_room_for_checkpoint

logger = logging.getLogger(__name__)

FORMAT_VERSION = 3
_CHECKPOINT_LIMIT = "256MB"  # an automatic checkpoint in the middle of an epoch doubles its time; we checkpoint when idle

_SCHEMA = f"""
CREATE SCHEMA IF NOT EXISTS hr;
CREATE TABLE IF NOT EXISTS hr.meta (name VARCHAR, value BIGINT);
CREATE TABLE IF NOT EXISTS hr.catalog (
    id BIGINT, kind VARCHAR, database VARCHAR, schema VARCHAR, name VARCHAR, sql VARCHAR, facts VARCHAR
);
CREATE TABLE IF NOT EXISTS hr.jobs (
    id BIGINT, database VARCHAR, schema VARCHAR, name VARCHAR, sql VARCHAR, background BOOLEAN, progress VARCHAR, facts VARCHAR
);
CREATE TABLE IF NOT EXISTS hr.databases (name VARCHAR, schema VARCHAR);
CREATE TABLE IF NOT EXISTS hr.users (
    id BIGINT, name VARCHAR, superuser BOOLEAN, create_db BOOLEAN, create_user BOOLEAN, login BOOLEAN
);
CREATE TABLE IF NOT EXISTS hr.comments (object BIGINT, position INTEGER, text VARCHAR);
CREATE TABLE IF NOT EXISTS hr.late (relation BIGINT, partition INTEGER, "offset" BIGINT);
CREATE TABLE IF NOT EXISTS hr.positions (
    relation BIGINT, partition INTEGER, position BIGINT, moment TIMESTAMP, PRIMARY KEY (relation, partition)
);
CREATE TABLE IF NOT EXISTS hr.r{QUARANTINE_ID} (
    c0 VARCHAR, c1 INTEGER, c2 BIGINT, c3 VARCHAR, c4 TIMESTAMP, c5 BLOB
);
ALTER TABLE hr.r{QUARANTINE_ID} ADD COLUMN IF NOT EXISTS database VARCHAR;
"""


class Store:
    """Opens the file, or creates it, and hands out connections.

    Args:
        data_dir: the engine's folder; `engine.duckdb` in it is ours, and so is the lock.
        settings: memory and threads.

    Raises:
        ConflictError: another engine has the folder.
        CorruptDataError: the file is not ours, or of another version.
        ConfigError: DuckDB does not take a setting.
        HeadraceError: the folder cannot be written, or the disk is full.
    """

    def __init__(self, data_dir: Path, settings: EngineSettings) -> None:
        self.path = data_dir / "engine.duckdb"
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = (data_dir / "engine.lock").open("w")
        except OSError as error:
            raise HeadraceError(
                f"the data folder cannot be written: {error.strerror}",
                where=str(data_dir),
                fix="Check its permissions and the free space.",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                "another engine uses this data folder", where=str(data_dir), fix="Stop it, or choose another `--data-dir`."
            ) from error
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": settings.memory_limit,
            "threads": settings.threads,
            "checkpoint_threshold": _CHECKPOINT_LIMIT,
            "temp_directory": str(settings.temp_directory or data_dir / "spill"),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if settings.max_temp_directory_size is not None:
            config["max_temp_directory_size"] = settings.max_temp_directory_size
        try:
            self.writer = duckdb.connect(str(self.path), config=config)
            self.writer.execute("SET GLOBAL TimeZone = 'UTC'")
            register_functions(self.writer)
            self.writer.execute(_SCHEMA)
            self._check_version()
        except (duckdb.InvalidInputException, duckdb.ParserException) as error:
            self._lock.close()
            raise ConfigError(
                f"DuckDB refuses a setting: {str(error).splitlines()[0]}",
                where="settings engine.memory_limit, engine.max_temp_directory_size",
                fix="Write sizes like `4GB` or `512MB`.",
            ) from error
        except duckdb.Error as error:
            self._lock.close()
            refused = disk_error(error, data_dir)
            if refused is not None:
                raise refused from error
            raise CorruptDataError(
                f"the engine's file cannot be opened: {error}",
                where=str(self.path),
                fix="Restore the folder from a copy, or remove it to start anew.",
            ) from error

    def _check_version(self) -> None:
        rows = self.writer.execute("SELECT value FROM hr.meta WHERE name = 'format'").fetchall()
        if not rows:
            self.writer.execute("INSERT INTO hr.meta VALUES ('format', ?), ('epoch', 0), ('row_id', 0)", [FORMAT_VERSION])
        elif rows[0][0] != FORMAT_VERSION:
            raise CorruptDataError(
                f"the engine's file has format {rows[0][0]}, this program reads {FORMAT_VERSION}",
                where=str(self.path),
                fix="Use the program that wrote it.",
            )

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same file, for one thread."""
        return self.writer.cursor()

    def run_all(self, statements: Iterable[str]) -> None:
        """One transaction of these statements."""
        with self.transaction() as writer:
            for sql in statements:
                writer.execute(sql)

    def read_meta(self, name: str) -> int:
        ((value,),) = self.writer.execute("SELECT value FROM hr.meta WHERE name = ?", [name]).fetchall()
        return int(value)

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction of the writer: committed at the end, rolled back by whatever is raised."""
        self.writer.execute("BEGIN")
        try:
            yield self.writer
            self.writer.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise

    def rollback(self) -> None:
        """End the writer's transaction; a COMMIT that failed has ended it already."""
        with suppress(duckdb.TransactionException):
            self.writer.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file; called when idle.

        Raises:
            duckdb.FatalException: it could not be written; nothing is lost, but the file must be opened anew.
        """
        if not has_room_for_checkpoint(self.path):
            logger.warning("checkpoint postponed, the disk is nearly full", extra={"path": str(self.path)})
            return
        try:
            self.writer.execute("CHECKPOINT")
        except duckdb.TransactionException:
            logger.info("checkpoint postponed, a read is under way")

    def close(self) -> None:
        self.writer.close()
        self._lock.close()
