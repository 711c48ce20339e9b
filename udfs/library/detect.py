"""`detect(payload)`: what a payload is, and the columns of what is a table.

    format   json, ndjson, csv, text, xml, a binary format by its magic bytes (png, parquet, avro ...), empty, or unknown
    schema   {"rows": n, "columns": [{"name", "type", "nullable", "confidence"}]} for json, ndjson and csv; SQL types

A column's confidence is the lower end of Wilson's 95 % interval of the share of its values that are of the type: it grows with
the share and with the number of values, so one row proves little. The first megabyte is looked at.

Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Magic bytes: puremagic.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import puremagic

from udfs.functions import udf

_LOOKED_AT = 1_000_000
_ROWS = 1_000
_SHARE = 0.9  # of the values must be of a type for the column to be of it

# Formats of the lakehouse: at the start and, where it has one, at the end of the file.
_OWN_MAGIC: tuple[tuple[str, bytes, bytes], ...] = (
    ("parquet", b"PAR1", b"PAR1"),
    ("arrow", b"ARROW1\x00\x00", b"ARROW1"),
    ("avro", b"Obj\x01", b""),
    ("orc", b"ORC", b""),
    ("puffin", b"PFA1", b"PFA1"),
)
_MIME = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "text": "text/plain",
    "xml": "application/xml",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
    "avro": "application/avro",
}
_XML = re.compile(r"\s*<(\?xml\s|!DOCTYPE\s|[A-Za-z_][\w.:-]*[\s/>])")


class Detected(NamedTuple):
    """What a payload seems to be; `confidence` is 0 to 1."""

    format: str
    mime: str | None
    confidence: float
    schema: dict[str, Any] | None


@udf
def detect(payload: bytes) -> Detected:
    """Look at the first bytes, then at the text."""
    if not payload:
        return Detected("empty", None, 1.0, None)
    for name, start, end in _OWN_MAGIC:
        if payload.startswith(start):
            return Detected(name, _MIME.get(name), 0.99 if end and payload.endswith(end) else 0.8, None)
    text = _text(payload[:_LOOKED_AT], whole=len(payload) <= _LOOKED_AT)
    return _binary(payload) if text is None else _textual(text, whole=len(payload) <= _LOOKED_AT)


def _text(head: bytes, *, whole: bool) -> str | None:
    """As text, unless it is none; a character that is cut in two at the end of a part does not matter."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        if whole or problem.start < len(head) - 3:
            return None
        text = head[: problem.start].decode("utf-8-sig")
    controls = sum(ch < " " and ch not in "\t\n\r\f" for ch in text)
    return None if controls else text


def _binary(payload: bytes) -> Detected:
    try:
        found = puremagic.magic_string(payload[:4096])
    except puremagic.PureError:
        return Detected("unknown", None, 0.0, None)
    best = found[0]
    rivals = {each.extension for each in found if each.confidence == best.confidence and each.extension}
    name = best.extension.lstrip(".") or best.name.lower()
    # Magic bytes that several formats share (a ZIP may be a .docx) tell as much less.
    return Detected(name, best.mime_type or None, best.confidence / max(1, len(rivals)), None)


def _textual(text: str, *, whole: bool) -> Detected:
    stripped = text.strip()
    if not stripped:
        return Detected("text", _MIME["text"], 0.9, None)
    if stripped[0] in "{[" and whole:
        try:
            return Detected("json", _MIME["json"], 0.99, _json_schema(json.loads(stripped)))
        except ValueError:
            pass
    lines = stripped.splitlines()
    parsed = _json_lines(lines if whole else lines[:-1])
    if parsed:
        good = [each for each in parsed if each is not None]
        if len(good) >= _SHARE * len(parsed):
            return Detected("ndjson", _MIME["ndjson"], wilson(len(good), len(parsed)), _records_schema(good))
    if _XML.match(text):
        return Detected("xml", _MIME["xml"], 0.9 if stripped.endswith(">") else 0.6, None)
    table = _table(text, whole=whole)
    if table is not None:
        return table
    return Detected("text", _MIME["text"], 0.8, None)


def _json_lines(lines: Sequence[str]) -> list[Mapping[str, Any] | None]:
    """Each line as an object, None where it is none; nothing if the first line is none."""
    found: list[Mapping[str, Any] | None] = []
    for line in [line for line in lines if line.strip()][:_ROWS]:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        found.append(value if isinstance(value, dict) else None)
        if found[0] is None:
            return []
    return found


def _json_schema(value: Any) -> dict[str, Any] | None:  # Any: parsed JSON
    if isinstance(value, dict):
        return _records_schema([value])
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return _records_schema(value[:_ROWS])
    return None


def _records_schema(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = [_column(name, [_json_type(record.get(name)) for record in records]) for name in names]
    return {"rows": len(records), "columns": columns}


def _json_type(value: Any) -> str | None:  # Any: as above
    if value is None:
        return None
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "BIGINT" if -(2**63) <= value < 2**63 else "NUMERIC"
    if isinstance(value, float):
        return "DOUBLE PRECISION"
    if isinstance(value, str):
        return _time_type(value) or "VARCHAR"
    if isinstance(value, list):
        inner = {_json_type(each) for each in value} - {None}
        one = _widest(inner)
        return f"{one}[]" if one not in (None, "JSONB", "VARCHAR") or inner == {"VARCHAR"} else "JSONB"
    return "JSONB"


def _table(text: str, *, whole: bool) -> Detected | None:
    """As CSV: every row has as many cells as the first, two at least, by one of four delimiters."""
    best: tuple[float, list[list[str]]] | None = None
    for delimiter in ",;\t|":
        try:
            rows = [row for row in csv.reader(text.splitlines()[: _ROWS + 2], delimiter=delimiter, strict=True) if row]
        except csv.Error:
            continue
        if not whole and len(rows) > 1:
            rows.pop()
        if len(rows) < 2 or len(rows[0]) < 2:
            continue
        same = sum(len(row) == len(rows[0]) for row in rows)
        sure = wilson(same, len(rows))
        if same >= _SHARE * len(rows) and (best is None or (sure, len(rows[0])) > (best[0], len(best[1][0]))):
            best = sure, rows
    if best is None:
        return None
    sure, rows = best
    header = _header(rows)
    names = rows[0] if header else [f"column_{i + 1}" for i in range(len(rows[0]))]
    body = [row for row in rows[header:] if len(row) == len(names)]
    columns = [_column(name, [_cell_type(row[i]) for row in body]) for i, name in enumerate(names)]
    return Detected("csv", _MIME["csv"], sure, {"rows": len(body), "header": bool(header), "columns": columns})


def _header(rows: Sequence[Sequence[str]]) -> int:
    """1 if the first row names the columns: distinct texts, over a column that is no text, or unlike any value below."""
    first = [cell.strip() for cell in rows[0]]
    if len(set(first)) < len(first) or any(_cell_type(cell) != "VARCHAR" for cell in first):
        return 0
    return int(any(_cell_type(cell) not in (None, "VARCHAR") for row in rows[1:] for cell in row) or len(rows) > 2)


def _cell_type(cell: str) -> str | None:
    text = cell.strip()
    if text in ("", "NULL", "null", "NA", "N/A"):
        return None
    if text.lower() in ("true", "false"):
        return "BOOLEAN"
    if re.fullmatch(r"[+-]?\d{1,18}", text) and not re.match(r"[+-]?0\d", text):  # 007 is a name, not a number
        return "BIGINT"
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", text) and not re.match(r"[+-]?0\d", text):
        return "DOUBLE PRECISION"
    return _time_type(text) or "VARCHAR"


def _time_type(text: str) -> str | None:
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        if len(text) == 10:
            date.fromisoformat(text)
            return "DATE"
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return "TIMESTAMP" if at.tzinfo is None else "TIMESTAMP WITH TIME ZONE"


def _column(name: str, types: Sequence[str | None]) -> dict[str, Any]:
    """The narrowest type that nearly all values are of."""
    told = [each for each in types if each is not None]
    nullable = len(told) < len(types)
    if not told:
        return {"name": name, "type": "VARCHAR", "nullable": True, "confidence": 0.0}
    for wanted in sorted(set(told), key=lambda each: (-told.count(each), each)):
        fitting = sum(_fits(each, wanted) for each in told)
        if fitting == len(told) or (fitting >= _SHARE * len(told) and wanted != "BIGINT"):
            return {"name": name, "type": wanted, "nullable": nullable, "confidence": wilson(fitting, len(told))}
    wide = _widest(set(told)) or "VARCHAR"
    fitting = sum(_fits(each, wide) for each in told)
    return {"name": name, "type": wide, "nullable": nullable, "confidence": wilson(fitting, len(told))}


def _fits(found: str, wanted: str) -> bool:
    numbers = ("BIGINT", "NUMERIC", "DOUBLE PRECISION")
    if found in numbers and wanted in numbers:
        return numbers.index(found) <= numbers.index(wanted)
    return found == wanted or wanted == "JSONB" or (wanted == "VARCHAR" and not found.endswith("[]") and found != "JSONB")


def _widest(types: set[str | None]) -> str | None:
    told = sorted(each for each in types if each is not None)
    if len(told) <= 1:
        return told[0] if told else None
    for wanted in ("NUMERIC", "DOUBLE PRECISION", "VARCHAR"):
        if all(_fits(each, wanted) for each in told):
            return wanted
    return "JSONB"


def wilson(good: int, n: int) -> float:
    """The lower end of the 95 % interval of a share, rounded to four places."""
    z = 1.959964
    share = good / n
    middle = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return round((middle - spread) / (1 + z * z / n), 4)


EXAMPLES = {
    "detect@1": [
        ((b"",), {"format": "empty", "mime": None, "confidence": 1.0, "schema": None}),
        (
            (b'{"id": 1, "at": "2026-01-01T00:00:00Z"}',),
            {
                "format": "json",
                "mime": "application/json",
                "confidence": 0.99,
                "schema": {
                    "rows": 1,
                    "columns": [
                        {"name": "id", "type": "BIGINT", "nullable": False, "confidence": 0.2065},
                        {"name": "at", "type": "TIMESTAMP WITH TIME ZONE", "nullable": False, "confidence": 0.2065},
                    ],
                },
            },
        ),
    ]
}
