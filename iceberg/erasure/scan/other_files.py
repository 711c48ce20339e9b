"""Looks into what is neither Parquet nor Avro: JSON metadata (also gzipped), puffin statistics, SQLite, broker segments, the rest.

Everything is searched as raw bytes, then every compressed frame in it is unpacked and searched in turn, three deep.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from iceberg.erasure.needles import Needles
from iceberg.erasure.scan.frames import frames, unsnap
from iceberg.erasure.scan.traces import Findings

PUFFIN = b"PFA1"
SQLITE = b"SQLite format 3\0"

_DEPTH = 3
_SNAPPY = 2  # Kafka's number of the codec; the others are frames that are found by their magic
_BATCH_HEADER = 61


def look_raw(data: bytes, needles: Needles) -> Findings:
    """Look into bytes of any kind."""
    found = Findings()
    if len(data) > 1 and data[:1] in b"{[":
        _json(data, needles, found)
    found.found("raw bytes", sum(1 for _ in needles.in_raw(data)))
    _frames(data, "", needles, found, _DEPTH)
    return found


def look_puffin(data: bytes, needles: Needles) -> Findings:
    """Look into a puffin file: footer and blobs; blobs are zstd or lz4 frames, or plain.

    Source: Iceberg puffin specification 1.
    """
    found = look_raw(data, needles)
    found.layers.add("puffin")
    return found


def look_sqlite(path: Path, needles: Needles) -> Findings:
    """Look into an SQLite database: its rows through SQLite, and all bytes of the file, its log and journal, free pages too."""
    found = Findings()
    found.layers.add("sqlite")
    try:
        # immutable would hide the log; mode=ro sees what another process commits meanwhile
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=20.0)) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                quoted = table.replace('"', '""')
                for row in connection.execute(f'SELECT * FROM "{quoted}"'):
                    text = "\0".join(str(value) for value in row if value is not None).encode()
                    found.found(f"rows of `{table}`", sum(1 for _ in needles.in_text(text)))
    except sqlite3.Error as error:
        found.unread["rows"] = str(error)
    for suffix in ("", "-wal", "-journal"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            part = {"": "file, free pages included", "-wal": "write-ahead log", "-journal": "journal"}[suffix]
            found.found(part, sum(1 for _ in needles.in_raw(file.read_bytes())))
    return found


def look_segment(data: bytes, needles: Needles) -> Findings:
    """Look into a segment of a broker's log: record batches of any codec, and what stands between them.

    Source: Kafka protocol, "Record Batch" (magic 2): base offset 8, length 4, leader epoch 4, magic 1, crc 4, attributes 2 ...
    """
    found = look_raw(data, needles)
    found.layers.add("record batches")
    for records in _snappy_batches(data):
        content = unsnap(records)
        if content is not None:
            found.found("record batch (snappy)", sum(1 for _ in needles.in_raw(content)))
    return found


def _snappy_batches(data: bytes) -> Iterator[bytes]:
    """The records of the batches that are packed as raw snappy, which has no magic to be found by."""
    at = 0
    while at + _BATCH_HEADER <= len(data):
        length = int.from_bytes(data[at + 8 : at + 12], "big")
        if length < _BATCH_HEADER - 12 or data[at + 16] != 2:
            return
        if int.from_bytes(data[at + 21 : at + 23], "big") & 7 == _SNAPPY:
            yield data[at + _BATCH_HEADER : at + 12 + length]
        at += 12 + length


def _json(data: bytes, needles: Needles, found: Findings) -> None:
    """Text that JSON writes with escapes, so that the raw bytes do not show it."""
    try:
        document = json.loads(data)
    except ValueError:
        return
    found.layers.add("json")
    if b"\\u" not in data and b"\\/" not in data:
        return
    found.found("json text", sum(1 for text in _strings(document) for _ in needles.in_text(text)))


def _strings(value: object) -> Iterator[bytes]:
    if isinstance(value, str):
        yield value.encode("utf-8", "surrogatepass")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _strings(key)
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _frames(data: bytes, path: str, needles: Needles, found: Findings, depth: int) -> None:
    for frame in frames(data):
        part = f"{path}{frame.codec}"
        found.layers.add(part)
        if not frame.whole and frame.offset == 0:
            found.unread[f"{part} frame"] = "broken, or larger than what is unpacked at once"
        found.found(f"{part} frame", sum(1 for _ in needles.in_raw(frame.content)))
        if depth > 1:
            _frames(frame.content, f"{part} > ", needles, found, depth - 1)


def look_sqlite_bytes(data: bytes, needles: Needles) -> Findings:
    """Look into an SQLite database of which only the file is at hand, e.g. in an object store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.db"
        path.write_bytes(data)
        return look_sqlite(path, needles)
