"""Rows of a test as what goes in: records of a topic, or INSERT statements."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.errors import InvalidInputError
from engine.sql.types import SqlType
from headrace.sqltest.model import Cell, Feed, Rows
from headrace.sqltest.plan import Fed
from headrace.sqltest.rows import cell_text

_INSERT_ROWS = 500  # a statement of this many literals is parsed in well under a second


@dataclass(frozen=True)
class Record:
    """One record of a topic; without a partition the only one."""

    topic: str
    partition: int
    value: bytes


def records(feed: Feed, fed: Fed) -> Iterator[Record]:
    """The records of a relation that reads a topic. JSON lines go as they were written, CSV becomes JSON by the columns' types.

    Raises:
        InvalidInputError: a column is not the relation's, or rows are given for another encoding than JSON.
    """
    partition = feed.partition or 0
    for text in feed.raw:
        yield Record(fed.topic, partition, text.encode())
    if feed.rows is None or feed.rows.columns is None:
        return
    if fed.encode != "json":
        raise InvalidInputError(
            f"`{fed.name}` is encoded as {fed.encode.upper()}, and rows are written as JSON",
            where=str(feed.place),
            fix="Give its records as text under `raw:`.",
        )
    if feed.rows.form == "json":
        yield from (Record(fed.topic, partition, text.encode()) for text in feed.rows.texts)
        return
    for column in feed.rows.columns:
        if column not in fed.columns:
            near = difflib.get_close_matches(column, fed.columns, n=1)
            raise InvalidInputError(
                f"`{fed.name}` has no column `{column}`",
                where=str(feed.rows.place),
                fix=f"Did you mean `{near[0]}`?" if near else f"It has {', '.join(f'`{c}`' for c in fed.columns)}.",
            )
    for row in feed.rows.rows:
        value = {n: _json_value(cell, fed.columns[n]) for n, cell in zip(feed.rows.columns, row, strict=True)}
        yield Record(fed.topic, partition, json.dumps(value, ensure_ascii=False).encode())


def insert_statements(relation: str, rows: Rows) -> Iterator[str]:
    """INSERT statements for a table. Text is left for the database to read as the column's type."""
    if rows.columns is None:
        return
    columns = ", ".join(_name(column) for column in rows.columns)
    for start in range(0, len(rows.rows), _INSERT_ROWS):
        values = ", ".join(f"({', '.join(_literal(cell) for cell in row)})" for row in rows.rows[start : start + _INSERT_ROWS])
        yield f"INSERT INTO {relation} ({columns}) VALUES {values}"


def column_list(columns: Sequence[str] | None) -> str:
    """What to select for an expectation that names these columns."""
    return ", ".join(_name(column) for column in columns) if columns else "*"


def _json_value(cell: Cell, type_: SqlType) -> Cell:
    text = cell_text(cell)
    if text is None:
        return None
    if type_.name == "bool" and text.lower() in ("t", "true", "f", "false"):
        return text.lower() in ("t", "true")
    if type_.is_numeric or type_.name in ("jsonb", "list", "struct"):
        try:
            value: Cell = json.loads(text)
        except ValueError:
            return text  # the source judges it
        return text if isinstance(value, float) and not math.isfinite(value) else value
    return text


def _literal(cell: Cell) -> str:
    if isinstance(cell, list) and not any(isinstance(item, (dict, list)) for item in cell):
        return f"ARRAY[{', '.join(_literal(item) for item in cell)}]" if cell else "'{}'"
    text = cell_text(cell)
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
