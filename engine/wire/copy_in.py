"""COPY ... FROM STDIN: the client's bytes, cut anywhere, to Arrow tables of typed columns.

Data is gathered until about a megabyte of whole records is there; pyarrow's reader cuts them into columns of text, and each
column is converted at once where a kernel reads what PostgreSQL reads, value by value otherwise.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from engine.session import Field
from engine.sql.errors import SqlError
from engine.sql.int256 import encode, parse
from engine.sql.numeric import from_decimal
from engine.sql.types import SqlType
from engine.wire.columns import arrow_type
from engine.wire.copy_format import CopyFormat
from engine.wire.copy_out import BINARY_SIGNATURE
from engine.wire.decode import decode_binary, decode_text, parse_interval
from engine.wire.messages import ProtocolViolation, Reader

_BATCH_BYTES = 1 << 20
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_NAMED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BY_KERNEL = frozenset({"int2", "int4", "int8", "serial", "float4", "float8"})


class CopyReader:
    """Feed it the bodies of CopyData messages; take tables from it when it says that there is enough.

    Args:
        fields: the columns of the data.
        format_: how it is written.
    """

    def __init__(self, fields: Sequence[Field], format_: CopyFormat) -> None:
        self._fields = fields
        self._format = format_
        self._pending = bytearray()
        self._records = 0
        self._ended = False
        self._started = False

    def feed(self, data: bytes) -> bool:
        """Keep data; true when there is enough for `take` to be worth its while."""
        if not self._ended:
            self._pending += data
        return len(self._pending) >= _BATCH_BYTES

    def take(self, *, last: bool) -> pa.Table | None:
        """The records that are whole by now, all of them when it is the `last` call; None when there are none.

        Raises:
            SqlError: a record is cut off, or a value is none of its column's type (22P04, 22P02 ...).
        """
        if self._ended:
            return None
        table = self._binary(last=last) if self._format.kind == "binary" else self._text(last=last)
        if table is None or not table.num_rows:
            return None
        self._records += table.num_rows
        return table

    # -- text and csv --------------------------------------------------------------------------------------------------

    def _text(self, *, last: bool) -> pa.Table | None:
        data = bytes(self._pending)
        end = len(data) if last else self._boundary(data)
        self._pending = bytearray(data[end:])
        data = self._until_marker(data[:end])
        if not self._started and data and self._format.header:
            first = self._first_record(data)
            data = data[first:]
        self._started = self._started or end > 0
        if not data:
            return None
        columns = self._columns(data)
        return pa.table(
            [self._convert(field, column) for field, column in zip(self._fields, columns, strict=True)], self._names()
        )

    def _names(self) -> list[str]:
        return [field.name for field in self._fields]

    def _boundary(self, data: bytes) -> int:
        """The end of the last whole record."""
        end = data.rfind(b"\n") + 1
        if self._format.kind == "text":
            # A backslash before the line end makes it part of the value.
            while end > 1 and _odd_backslashes(data, end - 1):
                end = data.rfind(b"\n", 0, end - 1) + 1
            return end
        quote = self._format.quote.encode()
        while end and data.count(quote, 0, end) % 2:
            end = data.rfind(b"\n", 0, end - 1) + 1
        return end

    def _first_record(self, data: bytes) -> int:
        quote, end = self._format.quote.encode(), data.find(b"\n") + 1
        while self._format.kind == "csv" and end and data.count(quote, 0, end) % 2:
            end = data.find(b"\n", end) + 1
        return end or len(data)

    def _until_marker(self, data: bytes) -> bytes:
        """A line `\\.` ends the data, for clients that send it."""
        found = re.search(rb"(?:\A|\n)(\\\.)(?:\r?\n|\Z)", data)
        if found is None or (self._format.kind == "csv" and data.count(self._format.quote.encode(), 0, found.start(1)) % 2):
            return data
        self._ended = True
        return data[: found.start(1)]

    def _columns(self, data: bytes) -> list[pa.Array]:
        """Columns of text, NULL where the data says so."""
        try:
            # Arrow cannot tell of a row with too many columns if its bytes are no text.
            data.decode()
        except UnicodeDecodeError as error:
            raise SqlError(
                "invalid byte sequence for encoding UTF8", sqlstate="22021", fix="Send the data in UTF-8."
            ) from error
        text_format = self._format.kind == "text"
        if text_format and re.search(rb"\\[\n\r" + re.escape(self._format.delimiter.encode()) + b"]", data):
            return self._escaped_columns(data)
        wrong: list[csv.InvalidRow] = []

        def refuse(row: csv.InvalidRow) -> str:
            wrong.append(row)
            return "error"

        try:
            table = csv.read_csv(
                pa.BufferReader(data),
                read_options=csv.ReadOptions(
                    use_threads=False, column_names=[str(at) for at in range(len(self._fields))], block_size=len(data) + 1
                ),
                parse_options=csv.ParseOptions(
                    delimiter=self._format.delimiter,
                    quote_char=False if text_format else self._format.quote,
                    double_quote=not text_format,
                    newlines_in_values=not text_format,
                    ignore_empty_lines=False,
                    invalid_row_handler=refuse,
                ),
                convert_options=csv.ConvertOptions(
                    column_types={str(at): pa.string() for at in range(len(self._fields))},
                    null_values=[self._format.null],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if wrong:
                raise self._count_error(wrong[0].actual_columns, wrong[0].number) from error
            raise SqlError(f"the data of COPY cannot be read: {error}", sqlstate="22P04") from error
        columns = [column.combine_chunks() for column in table.columns]
        return [_unescaped(column) for column in columns] if text_format else columns

    def _escaped_columns(self, data: bytes) -> list[pa.Array]:
        """The slow way for text in which a backslash stands before a delimiter or a line end."""
        delimiter = re.escape(self._format.delimiter)
        cell = re.compile(rf"((?:[^\\\n{delimiter}]|\\.)*)({delimiter}|\n|\Z)", re.DOTALL)
        text = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="").read().replace("\r\n", "\n")
        rows: list[list[str | None]] = [[]]
        at = 0
        while at < len(text):
            found = cell.match(text, at)
            if found is None:
                raise SqlError("the data of COPY ends with a backslash", sqlstate="22P04")
            raw = found[1]
            rows[-1].append(None if raw == self._format.null else _ESCAPE.sub(_meaning, raw))
            at = found.end()
            if found[2] == "\n" and at < len(text):
                rows.append([])
        for number, row in enumerate(rows, 1):
            if len(row) != len(self._fields):
                raise self._count_error(len(row), number)
        return [pa.array([row[position] for row in rows], pa.string()) for position in range(len(self._fields))]

    def _count_error(self, count: int, number: int | None) -> SqlError:
        line = "" if number is None else f" in record {self._records + number}"
        if count > len(self._fields):
            return SqlError(f"extra data after last expected column{line}", sqlstate="22P04")
        return SqlError(f"missing data for column `{self._fields[count].name}`{line}", sqlstate="22P04")

    def _convert(self, field: Field, column: pa.Array) -> pa.Array:
        wanted = arrow_type(field.type)
        if wanted == column.type:
            return column
        if field.type.name in _BY_KERNEL:
            try:
                return pc.cast(column, wanted)
            except pa.ArrowInvalid:
                pass  # the value is wrong, or only unusual; the slow way knows
        values = []
        for number, text in enumerate(column.to_pylist(), self._records + 1):
            try:
                values.append(None if text is None else arrow_value(field.type, decode_text(field.type, text)))
            except SqlError as error:
                raise SqlError(
                    error.what, where=f"COPY, record {number}, column {field.name}", fix=error.fix, sqlstate=error.sqlstate
                ) from error
        return _array(values, field)

    # -- binary --------------------------------------------------------------------------------------------------------

    def _binary(self, *, last: bool) -> pa.Table | None:
        data = bytes(self._pending)
        reader, at = Reader(data), 0
        rows: list[list[object]] = []
        try:
            if not self._started:
                if reader.take(len(BINARY_SIGNATURE)) != BINARY_SIGNATURE:
                    raise SqlError("COPY file signature not recognized", sqlstate="22P04")
                reader.int32()
                reader.take(reader.int32())
                self._started = True
                at = reader.position
            while True:
                count = reader.int16()
                if count == -1:
                    self._ended = True
                    at = len(data)
                    break
                if count != len(self._fields):
                    raise self._count_error(count, len(rows) + 1)
                cells = [reader.value() for _ in self._fields]
                rows.append(
                    [
                        None if cell is None else arrow_value(field.type, decode_binary(field.type, 0, cell))
                        for field, cell in zip(self._fields, cells, strict=True)
                    ]
                )
                at = reader.position
        except ProtocolViolation as error:
            # The record goes on in the next message; at the end it is cut off, but an end at a record's border is forgiven.
            if last and at != len(data):
                raise SqlError("unexpected end of the data of COPY", sqlstate="22P04") from error
        self._pending = bytearray(data[at:])
        if not rows:
            return None
        return pa.table(
            [_array([row[position] for row in rows], field) for position, field in enumerate(self._fields)], self._names()
        )


def arrow_value(type_: SqlType, value: object) -> object:
    """A decoded value as Arrow takes it: intervals as months, days and nanoseconds, numerics as keys."""
    if value is None:
        return None
    if type_.name == "list" and type_.element is not None and isinstance(value, list):
        return [arrow_value(type_.element, item) for item in value]
    if type_.name == "struct" and isinstance(value, dict):
        return {name: arrow_value(field, value[name]) for name, field in type_.fields}
    if type_.name == "int256":
        return encode(parse(str(value)))
    if type_.name == "interval":
        months, days, microseconds = parse_interval(str(value))
        return pa.MonthDayNano([months, days, microseconds * 1000])
    if isinstance(value, Decimal):
        return Decimal(from_decimal(value))
    return value


def _array(values: list[object], field: Field) -> pa.Array:
    try:
        return pa.array(values, arrow_type(field.type))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise SqlError(f"a value of column `{field.name}` does not fit type {field.type.sql}", sqlstate="22003") from error


def _unescaped(column: pa.Array) -> pa.Array:
    if not pc.any(pc.match_substring(column, "\\")).as_py():
        return column
    return pa.array([None if text is None else _ESCAPE.sub(_meaning, text) for text in column.to_pylist()], pa.string())


def _meaning(found: re.Match[str]) -> str:
    hexadecimal, octal, character = found.groups()
    if hexadecimal is not None:
        return chr(int(hexadecimal, 16))
    if octal is not None:
        return chr(int(octal, 8) & 0xFF)
    return _NAMED.get(character, character)


def _odd_backslashes(data: bytes, end: int) -> bool:
    start = end
    while start and data[start - 1] == 0x5C:
        start -= 1
    return (end - start) % 2 == 1
