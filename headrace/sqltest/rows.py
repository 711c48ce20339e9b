"""Rows as people write them: CSV that may be aligned with spaces, or one JSON object a line.

In CSV an empty cell is NULL and `""` is the empty text; spaces around a cell do not count unless it is quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from core.errors import InvalidInputError
from headrace.sqltest.model import Cell, Place, Rows, Span

_CELL = re.compile(r"""\s*(?:"((?:[^"]|"")*)"|([^,"]*?))\s*(,|$)""")
_NEEDS_QUOTES = re.compile(r'^$|^[\s#{]|\s$|[,"\n]')


def parse_rows(text: str, place: Place, span: Span) -> Rows:
    """Read rows; which form they have shows in the first character.

    Args:
        place: of the first line of `text`.

    Raises:
        InvalidInputError: a line cannot be read.
    """
    lines = [
        (Place(place.file, place.line + number), line.strip())
        for number, line in enumerate(text.splitlines())
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        return Rows(None, (), "csv", place, (), span)
    if lines[0][1].startswith("{"):
        return _json_rows(lines, place, span)
    (header_place, header), *rest = lines
    columns = tuple(str(cell) for cell in split_csv(header, header_place))
    if len(set(columns)) < len(columns) or "None" in columns:
        raise InvalidInputError("a column has no name, or two have the same", where=str(header_place))
    rows = []
    for where, line in rest:
        cells = split_csv(line, where)
        if len(cells) != len(columns):
            raise InvalidInputError(
                f"this row has {len(cells)} cells, the header above names {len(columns)} columns",
                where=str(where),
                fix='Leave a cell empty for NULL; put a text with a comma in double quotes, e.g. `"a, b"`.',
            )
        rows.append(cells)
    return Rows(columns, tuple(rows), "csv", place, tuple(where for where, _ in rest), span)


def split_csv(line: str, place: Place) -> tuple[str | None, ...]:
    """The cells of a line.

    Raises:
        InvalidInputError: a quote does not end, or text follows it.
    """
    cells: list[str | None] = []
    position = 0
    while True:
        match = _CELL.match(line, position)
        if match is None:
            raise InvalidInputError(
                f"the cell that begins at character {position + 1} cannot be read",
                where=str(place),
                fix='Quote the whole cell and double the quotes inside: `"{""a"": 1}"`; or write JSON lines.',
            )
        quoted, plain, end = match.groups()
        cells.append(quoted.replace('""', '"') if quoted is not None else plain or None)
        if not end:
            return tuple(cells)
        position = match.end()


def _json_rows(lines: Sequence[tuple[Place, str]], place: Place, span: Span) -> Rows:
    objects: list[Mapping[str, Cell]] = []
    for where, line in lines:
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidInputError(
                f"this line is no JSON: {error.msg} at character {error.pos + 1}",
                where=str(where),
                fix="Write one object a line; a record that is meant to be broken stands under `raw:`.",
            ) from error
        if not isinstance(value, dict):
            raise InvalidInputError("this line is no JSON object", where=str(where))
        objects.append(value)
    columns = tuple(dict.fromkeys(name for each in objects for name in each))
    rows = tuple(tuple(each.get(name) for name in columns) for each in objects)
    places, texts = zip(*lines, strict=True)
    return Rows(columns, rows, "json", place, places, span, texts)


def write_csv(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Aligned lines, the header first."""
    table = [[_csv_cell(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    lines = []
    for row in table:
        *first, last = row
        lines.append(" ".join([*(f"{cell},".ljust(width + 1) for cell, width in zip(first, widths, strict=False)), last]))
    return lines


def write_json(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """One object a line."""
    return [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, default=str) for row in rows]


def cell_text(cell: Cell) -> str | None:
    """A cell as text, NULL as None."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "t" if cell else "f"
    return json.dumps(cell, ensure_ascii=False)


def _csv_cell(cell: Cell) -> str:
    text = cell_text(cell)
    if text is None:
        return ""
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
