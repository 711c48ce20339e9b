"""What was applied: a plain table in the stream database itself, so that it goes wherever the objects are.

An entry is written as `applying` before its statement runs and as `applied` afterwards. An object that exists although
its entry still says `applying` was made by a run that was cut off in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

import psycopg
import psycopg.sql

CREATE: LiteralString = """CREATE TABLE IF NOT EXISTS deployed_objects (
    name VARCHAR,
    kind VARCHAR,
    pipeline VARCHAR,
    place VARCHAR,
    fingerprint VARCHAR,
    state VARCHAR,
    sql VARCHAR,
    built_rows BIGINT,
    built_seconds DOUBLE PRECISION,
    PRIMARY KEY (name, kind)
)"""
TABLE = "deployed_objects"
HISTORY = "deployed_history"
CREATE_HISTORY: LiteralString = """CREATE TABLE IF NOT EXISTS deployed_history (
    name VARCHAR,
    kind VARCHAR,
    fingerprint VARCHAR,
    sql VARCHAR,
    applied_at TIMESTAMP WITH TIME ZONE AS proctime()
)"""
"""Every text that an object ever had, and from when: which SQL made a row of then."""
_LATER: tuple[tuple[LiteralString, LiteralString], ...] = (
    ("sql", "ALTER TABLE deployed_objects ADD COLUMN sql VARCHAR"),
    ("built_rows", "ALTER TABLE deployed_objects ADD COLUMN built_rows BIGINT"),
    ("built_seconds", "ALTER TABLE deployed_objects ADD COLUMN built_seconds DOUBLE PRECISION"),
)
"""Columns that a ledger of an older headrace does not have."""

_FIELDS = ("name", "kind", "pipeline", "place", "fingerprint", "state")


@dataclass(frozen=True)
class Entry:
    """One created object.

    Attributes:
        place: the `file:line:column` of its statement.
        sql: the statement as it was applied; None in entries of an older headrace.
        built_rows, built_seconds: what building it beside a running one read, and how long that took; the rate for the next time.
    """

    name: str
    kind: str
    pipeline: str
    place: str
    fingerprint: str
    state: str = "applying"
    sql: str | None = field(default=None, compare=False)
    built_rows: int | None = field(default=None, compare=False)
    built_seconds: float | None = field(default=None, compare=False)


def prepare(connection: psycopg.Connection) -> None:
    """Create the table if it is not there, and add columns that it does not have."""
    connection.execute(CREATE)
    connection.execute(CREATE_HISTORY)
    have = {row[0] for row in connection.execute("SHOW COLUMNS FROM deployed_objects").fetchall()}
    for name, statement in _LATER:
        if name not in have:
            connection.execute(statement)


def read(connection: psycopg.Connection) -> dict[tuple[str, str], Entry]:
    """All entries by (name, kind); whatever columns an older table lacks are None."""
    cursor = connection.execute("SELECT * FROM deployed_objects")
    names = [column.name for column in cursor.description or ()]
    known = {*_FIELDS, *(name for name, _ in _LATER)}
    rows = [{name: value for name, value in zip(names, row, strict=True) if name in known} for row in cursor.fetchall()]
    return {(row["name"], row["kind"]): Entry(**row) for row in rows}


def write(connection: psycopg.Connection, entries: Iterable[Entry]) -> None:
    """Insert or overwrite, and return when it is visible."""
    written = list(entries)
    rows = [
        (e.name, e.kind, e.pipeline, e.place, e.fingerprint, e.state, e.sql, e.built_rows, e.built_seconds) for e in written
    ]
    if rows:
        # First the history: what the ledger has as applied is not written again, so a run that is cut off here would leave a gap.
        _remember(connection, [entry for entry in written if entry.state == "applied" and entry.sql])
        insert_rows(connection, TABLE, rows, (*_FIELDS, *(name for name, _ in _LATER)))
        connection.execute("FLUSH")


def history(connection: psycopg.Connection, name: str) -> list[tuple[str, str, str, datetime]]:
    """The texts that an object had, oldest first: kind, fingerprint, SQL, and when it was applied."""
    found = connection.execute(
        "SELECT kind, fingerprint, sql, applied_at FROM deployed_history WHERE name = %s ORDER BY applied_at", (name,)
    ).fetchall()
    return [(kind, fingerprint, sql, applied_at) for kind, fingerprint, sql, applied_at in found]


def forget(connection: psycopg.Connection, name: str, kind: str) -> None:
    """Remove the entry of an object that was dropped."""
    connection.execute("DELETE FROM deployed_objects WHERE name = %s AND kind = %s", (name, kind))


def insert_rows(
    connection: psycopg.Connection, table: str, rows: Sequence[tuple[object, ...]], columns: Sequence[str] = ()
) -> None:
    """Insert all rows by one statement with parameters; without `columns` a row is as wide as the table."""
    marks = psycopg.sql.SQL(", ").join(
        psycopg.sql.SQL("({})").format(psycopg.sql.SQL(", ").join([psycopg.sql.Placeholder()] * len(row))) for row in rows
    )
    names = psycopg.sql.SQL(", ").join(psycopg.sql.Identifier(name) for name in columns)
    into = psycopg.sql.SQL("{} ({})").format(psycopg.sql.Identifier(table), names) if columns else psycopg.sql.Identifier(table)
    query = psycopg.sql.SQL("INSERT INTO {} VALUES {}").format(into, marks)
    connection.execute(query, [value for row in rows for value in row])


def _remember(connection: psycopg.Connection, entries: Sequence[Entry]) -> None:
    """Add texts to the history that are not the newest of their object there."""
    if not entries:
        return
    told = connection.execute("SELECT name, kind, fingerprint FROM deployed_history ORDER BY applied_at").fetchall()
    newest = {(name, kind): fingerprint for name, kind, fingerprint in told}
    rows = [(e.name, e.kind, e.fingerprint, e.sql) for e in entries if newest.get((e.name, e.kind)) != e.fingerprint]
    if rows:
        insert_rows(connection, HISTORY, rows, ("name", "kind", "fingerprint", "sql"))
        connection.execute("FLUSH")
