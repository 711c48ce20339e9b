"""PyIceberg's SQL catalog on a SQLite file, made safe for several processes and cheap for many small commits.

The layout is that of Iceberg's JDBC catalog (two tables, schema V1), so other engines can open the same file. What is added:

- the file is set up in one transaction, in WAL mode with synchronous = FULL: readers never block the writer, a commit that
  was acknowledged survives a power cut, and a busy database is waited for;
- **metadata is immutable, so it is parsed once**: the newest metadata of each table is kept by its location. PyIceberg
  parses the file at each load, and copies the whole history some twenty times a commit: 134 ms a commit at 250 snapshots,
  growing by half a millisecond with every snapshot;
- a metadata file whose commit lost the race is removed at once.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.io import load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    TableRequirement,
    TableUpdate,
    _apply_table_update,
    _TableMetadataUpdateContext,
    _update_table_metadata_log,
)
from pyiceberg.typedef import Identifier
from sqlalchemy import URL, ColumnElement, select, text, update
from sqlalchemy.orm import Session

from core.errors import ConfigError

# Longer than any commit of ours holds the write lock (some milliseconds), shorter than a person waits.
BUSY_TIMEOUT_SECONDS = 20.0

# Iceberg's JDBC catalog, schema V1 (JdbcUtil.java); the same statements as SQLAlchemy would emit.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS iceberg_tables (
    catalog_name VARCHAR(255) NOT NULL,
    table_namespace VARCHAR(255) NOT NULL,
    table_name VARCHAR(255) NOT NULL,
    metadata_location VARCHAR(1000),
    previous_metadata_location VARCHAR(1000),
    iceberg_type VARCHAR(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name)
);
CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
    catalog_name VARCHAR(255) NOT NULL,
    namespace VARCHAR(255) NOT NULL,
    property_key VARCHAR(255) NOT NULL,
    property_value VARCHAR(1000),
    PRIMARY KEY (catalog_name, namespace, property_key)
);
"""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "iceberg_tables": (
        "catalog_name", "table_namespace", "table_name", "metadata_location", "previous_metadata_location", "iceberg_type",
    ),
    "iceberg_namespace_properties": ("catalog_name", "namespace", "property_key", "property_value"),
}  # fmt: skip
"""The columns of the catalog's two tables."""


class SqliteCatalog(SqlCatalog):
    """A catalog in one SQLite file. Threads may share an instance.

    Args:
        name: the catalog's name inside the file.
        path: the file; its folder exists.
        location: the warehouse, as `warehouse_location` gives it.
        properties: further properties of PyIceberg.
    """

    def __init__(self, name: str, path: Path, location: str, properties: Mapping[str, str]) -> None:
        absolute = path.absolute()
        _set_up(absolute)
        self._newest: dict[Identifier, tuple[str, TableMetadata]] = {}
        self._newest_lock = threading.Lock()
        self._turnstiles = absolute.with_name(absolute.name + ".turnstiles")
        io_class = {"py-io-impl": "iceberg.durable_io.DurableFileIO"} if location.startswith("file://") else {}
        url = URL.create("sqlite", database=str(absolute), query={"timeout": str(BUSY_TIMEOUT_SECONDS)})
        uri = url.render_as_string(hide_password=False)
        super().__init__(name, **{**io_class, **properties, "uri": uri, "warehouse": location})

    def turnstile_path(self, table_uuid: uuid.UUID) -> Path:
        """The lock file through which the writers of a table on this machine pass, see `iceberg.turnstile`."""
        return self._turnstiles / str(table_uuid)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Apply updates to the current metadata if it meets the requirements, and point the catalog to the result.

        Raises:
            CommitFailedException: a requirement is not met, or somebody else committed in between; nothing has changed.
        """
        identifier = table.name()
        try:
            current = self.load_table(identifier)
        except NoSuchTableError:
            return super().commit_table(table, requirements, updates)
        for requirement in requirements:
            requirement.validate(current.metadata)
        metadata = _updated(current.metadata, updates, current.metadata_location)
        if metadata is current.metadata:
            return CommitTableResponse(metadata=metadata, metadata_location=current.metadata_location)
        version = self._parse_metadata_version(current.metadata_location) + 1
        provider = load_location_provider(metadata.location, metadata.properties)
        location = provider.new_table_metadata_file_location(version)
        io = self._load_file_io(metadata.properties, location)
        self._write_metadata(metadata, io, location)
        if not self._swap(identifier, current.metadata_location, location):
            with contextlib.suppress(OSError):
                io.delete(location)
            raise CommitFailedException(f"Table has been updated by another process: {'.'.join(identifier)}")
        self._remember(identifier, location, metadata)
        # Not validated again: the parts were, and validating walks the whole history.
        return CommitTableResponse.model_construct(metadata=metadata, metadata_location=location)

    def set_namespace_property_once(self, namespace: str, key: str, value: str) -> str:
        """Set a property of a namespace unless it has one, and return the one it has; of several who try, one wins."""
        statement = text(
            "INSERT OR IGNORE INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value) "
            "VALUES (:catalog, :namespace, :key, :value)"
        )
        with Session(self.engine) as session:
            session.execute(statement, {"catalog": self.name, "namespace": namespace, "key": key, "value": value})
            session.commit()
        return str(self.load_namespace_properties(namespace)[key])

    def pointer(self, identifier: Identifier) -> tuple[str | None, str | None]:
        """Where a table's metadata lies by the catalog, and where it lay before; nothing is read but the catalog's file."""
        statement = select(IcebergTables.metadata_location, IcebergTables.previous_metadata_location).where(
            *self._row(identifier)
        )
        with Session(self.engine) as session:
            found = session.execute(statement).one_or_none()
        return (found[0], found[1]) if found else (None, None)

    def set_pointer(self, identifier: Identifier, expected: str | None, location: str) -> None:
        """Let the catalog point to another metadata file of a table that it knows.

        Raises:
            CommitFailedException: somebody else committed in between; nothing has changed.
        """
        if not self._swap(identifier, expected, location):
            raise CommitFailedException(f"Table has been updated by another process: {'.'.join(identifier)}")
        with self._newest_lock:
            self._newest.pop(identifier, None)

    def _row(self, identifier: Identifier) -> tuple[ColumnElement[bool], ...]:
        return (
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == Catalog.namespace_to_string(Catalog.namespace_from(identifier)),
            IcebergTables.table_name == Catalog.table_name_from(identifier),
        )

    def _swap(self, identifier: Identifier, expected: str | None, location: str) -> bool:
        """Compare and swap the pointer; False when it was not `expected`."""
        statement = (
            update(IcebergTables)
            .where(*self._row(identifier), IcebergTables.metadata_location == expected)
            .values(metadata_location=location, previous_metadata_location=expected)
        )
        with Session(self.engine) as session:
            changed = session.connection().execute(statement).rowcount
            session.commit()
        return changed == 1

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        location = orm_table.metadata_location
        if not location:
            raise NoSuchTableError(f"Table has no metadata: {orm_table.table_namespace}.{orm_table.table_name}")
        identifier = (*Catalog.identifier_to_tuple(orm_table.table_namespace), orm_table.table_name)
        with self._newest_lock:
            known = self._newest.get(identifier)
        if known is not None and known[0] == location:
            metadata = known[1]
        else:
            metadata = FromInputFile.table_metadata(load_file_io(self.properties, location).new_input(location))
            self._remember(identifier, location, metadata)
        io = self._load_file_io(metadata.properties, location)
        return Table(identifier=identifier, metadata=metadata, metadata_location=location, io=io, catalog=self)

    def _remember(self, identifier: Identifier, location: str, metadata: TableMetadata) -> None:
        with self._newest_lock:
            self._newest[identifier] = (location, metadata)


def _updated(base: TableMetadata, updates: tuple[TableUpdate, ...], location: str) -> TableMetadata:
    """`pyiceberg.table.update.update_table_metadata` without the final deep copy; each step there copies what it changes."""
    context = _TableMetadataUpdateContext()
    metadata = base
    for change in updates:
        metadata = _apply_table_update(change, metadata, context)
    if not context.has_changes():
        return base
    metadata = _update_table_metadata_log(metadata, location, base.last_updated_ms)
    if metadata.last_updated_ms == base.last_updated_ms:
        metadata = metadata.model_copy(update={"last_updated_ms": time.time_ns() // 1_000_000})
    metadata.spec().check_compatible(metadata.schema())
    metadata.sort_order().check_compatible(metadata.schema())
    return metadata


def _set_up(path: Path) -> None:
    """Create the catalog's two tables and switch to WAL; safe to be run by several processes at once."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    try:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        _bring_up_to_date(connection, path)
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        connection.close()


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Add the column that Iceberg's schema V0 lacks, as Iceberg's own upgrade does; refuse what is no Iceberg catalog."""
    for table, columns in COLUMNS.items():
        present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        missing = set(columns) - present
        if present and missing == {"iceberg_type"}:
            connection.execute("ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)")
        elif present and missing:
            raise ConfigError(
                f"`{path}` has a table `{table}` without the columns {', '.join(sorted(missing))}",
                where="catalog.uri",
                fix="It is no Iceberg catalog: point at another file.",
            )
