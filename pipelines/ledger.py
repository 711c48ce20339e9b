"""What was applied: a plain table in the stream database itself, so that it goes wherever the objects are.

An entry is written as `applying` before its statement runs and as `applied` afterwards. An object that exists although
its entry still says `applying` was made by a run that was cut off in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    PRIMARY KEY (name, kind)
)"""


@dataclass(frozen=True)
class Entry:
    """One created object; `place` is the `file:line:column` of its statement."""

    name: str
    kind: str
    pipeline: str
    place: str
    fingerprint: str
    state: str = "applying"


def prepare(connection: psycopg.Connection) -> None:
    """Create the table if it is not there."""
    connection.execute(CREATE)


def read(connection: psycopg.Connection) -> dict[tuple[str, str], Entry]:
    """All entries by (name, kind)."""
    rows = connection.execute("SELECT name, kind, pipeline, place, fingerprint, state FROM deployed_objects").fetchall()
    return {(row[0], row[1]): Entry(*row) for row in rows}


def write(connection: psycopg.Connection, entries: Iterable[Entry]) -> None:
    """Insert or overwrite, and return when it is visible."""
    rows = [(e.name, e.kind, e.pipeline, e.place, e.fingerprint, e.state) for e in entries]
    if rows:
        insert_rows(connection, "deployed_objects", rows)
        connection.execute("FLUSH")


def forget(connection: psycopg.Connection, name: str, kind: str) -> None:
    """Remove the entry of an object that was dropped."""
    connection.execute("DELETE FROM deployed_objects WHERE name = %s AND kind = %s", (name, kind))


def insert_rows(connection: psycopg.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert all rows by one statement with parameters."""
    marks = psycopg.sql.SQL(", ").join(
        psycopg.sql.SQL("({})").format(psycopg.sql.SQL(", ").join([psycopg.sql.Placeholder()] * len(row))) for row in rows
    )
    query = psycopg.sql.SQL("INSERT INTO {} VALUES {}").format(psycopg.sql.Identifier(table), marks)
    connection.execute(query, [value for row in rows for value in row])
