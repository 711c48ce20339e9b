"""Runs sqllogictest files over the PostgreSQL wire, with the verdicts of the public runners.

Records, separated by blank lines; `#` begins a comment line:

    statement ok | statement error [regular expression] | statement count N
    <SQL>

    query <TYPES> [nosort | rowsort | valuesort] [label] | query error [regular expression]
    <SQL>
    ----
    <rows, values separated by a space; NULL and (empty) by name>

`skipif NAME` and `onlyif NAME` guard the next record, `halt` ends the file, `hash-threshold` and `subtest` are read over.
`system` and `sleep` do not exist here: nothing is run but SQL, and nothing is waited for but FLUSH.

Source: https://sqlite.org/sqllogictest, and the documentation of the crate `sqllogictest`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

ENGINE_NAMES = ("headrace", "risingwave", "postgresql")


class SqlTestError(AssertionError):
    """A record did not come out as it says; the message begins with file and line."""


@dataclass
class Record:
    """One statement or query of a file."""

    line: int
    kind: str
    sql: str = ""
    expected_error: str | None = None
    count: int | None = None
    types: str = ""
    sort: str = "nosort"
    rows: list[str] = field(default_factory=list)


def parse_file(path: Path, engines: Sequence[str] = ENGINE_NAMES) -> list[Record]:
    """Read a file; guarded records that are not for us are left out.

    Raises:
        SqlTestError: a line is not understood.
    """
    return list(_records(path, path.read_text().splitlines(), engines))


def _records(path: Path, lines: Sequence[str], engines: Sequence[str]) -> Iterator[Record]:
    number = 0
    skip = False
    while number < len(lines):
        line = lines[number].strip()
        number += 1
        word, _, rest = line.partition(" ")
        if not line or line.startswith("#") or word in ("hash-threshold", "subtest"):
            continue
        if word == "halt":
            return
        if word in ("skipif", "onlyif"):
            skip = skip or (rest.strip() in engines) == (word == "skipif")
            continue
        if word not in ("statement", "query"):
            raise SqlTestError(f"{path.name}:{number}: `{word}` is not a sqllogictest record")
        record, number = _record(Record(number, word), rest, lines, number)
        if not skip:
            yield record
        skip = False


def _record(record: Record, rest: str, lines: Sequence[str], number: int) -> tuple[Record, int]:
    words = rest.split()
    if words[:1] == ["error"]:
        record.expected_error = rest.strip().removeprefix("error").strip()
    elif words[:1] == ["count"]:
        record.count = int(words[1])
    elif record.kind == "query":
        record.types = words[0] if words else ""
        record.sort = next((w for w in words[1:] if w in ("nosort", "rowsort", "valuesort")), "nosort")
    sql: list[str] = []
    while number < len(lines) and lines[number].strip() and lines[number].strip() != "----":
        sql.append(lines[number])
        number += 1
    record.sql = "\n".join(sql)
    if number < len(lines) and lines[number].strip() == "----":
        number += 1
        while number < len(lines) and lines[number].strip():
            record.rows.append(" ".join(lines[number].split()))
            number += 1
    return record, number


def run_file(path: Path, connection: psycopg.Connection, engines: Sequence[str] = ENGINE_NAMES) -> int:
    """Run a file on a connection in autocommit mode; returns the number of records.

    Raises:
        SqlTestError: the first record that did not come out as it says.
    """
    records = parse_file(path, engines)
    for record in records:
        problem = _run(record, connection)
        if problem is not None:
            raise SqlTestError(f"{path.name}:{record.line}: {problem}\n{record.sql}")
    return len(records)


def _run(record: Record, connection: psycopg.Connection) -> str | None:
    try:
        cursor = connection.execute(record.sql)
    except psycopg.Error as error:
        text = str(error)
        if record.expected_error is None:
            return f"failed: {text}"
        if record.expected_error and not re.search(record.expected_error, text):
            return f"failed with `{text}`, which does not match `{record.expected_error}`"
        return None
    if record.expected_error is not None:
        return "an error was expected, but it succeeded"
    if record.kind == "statement":
        return f"{cursor.rowcount} rows, {record.count} were expected" if record.count not in (None, cursor.rowcount) else None
    return _compare(record, cursor)


def _compare(record: Record, cursor: psycopg.Cursor) -> str | None:
    result = cursor.pgresult
    assert result is not None
    found = [[_show(result.get_value(row, column)) for column in range(result.nfields)] for row in range(result.ntuples)]
    if record.types and len(record.types) != result.nfields:
        return f"{result.nfields} columns, but the types say `{record.types}`"
    actual = [" ".join(" ".join(values).split()) for values in found]
    expected = list(record.rows)
    if record.sort == "rowsort":
        actual, expected = sorted(actual), sorted(expected)
    elif record.sort == "valuesort":
        actual = sorted(value for row in actual for value in row.split())
        expected = sorted(value for row in expected for value in row.split())
    if actual == expected:
        return None
    shown = "\n".join(["expected:", *expected, "found:", *actual])
    return f"the result differs\n{shown}"


def _show(value: bytes | None) -> str:
    if value is None:
        return "NULL"
    return value.decode() or "(empty)"
