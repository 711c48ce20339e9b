"""Compares rows as a multiset, or in order, and shows where they part.

        entity_id  readings  vibration_avg
        pump-1     10        1.045
      - pump-2     10        2.0
      + pump-2     9         2.0
                   ^
      - pump-3     4         0.5            (a row that is missing)

A missing and an unexpected row that agree in most cells are shown as one changed row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.sqltest.model import Cell, Rows
from headrace.sqltest.rows import cell_text
from headrace.sqltest.values import FLOATS, meaning, same

_CONTEXT = 5
"""Equal rows that are shown besides those that differ."""


@dataclass(frozen=True)
class Column:
    """Of what came from the database."""

    name: str
    oid: int


@dataclass(frozen=True)
class Found:
    """Rows of the database, in text form."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True)
class Line:
    """A row of the difference: ` ` agrees, `-` is missing, `+` is unexpected.

    Attributes:
        changed: indexes of the cells that differ from the line before; only of a `+` that belongs to a `-`, whose other cells
            are spelt as those of the `-`.
    """

    sign: Literal[" ", "-", "+"]
    cells: tuple[Cell, ...]
    changed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Difference:
    """What was compared; rows in the order of the expectation, unexpected ones at the end."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    order_only: bool = False

    @property
    def missing(self) -> int:
        return sum(line.sign == "-" for line in self.lines)

    @property
    def unexpected(self) -> int:
        return sum(line.sign == "+" for line in self.lines)

    def render(self) -> list[tuple[str, Line | None]]:
        """Aligned lines of text with what they show; the header and the marks below changed cells show nothing."""
        lines = [Line(" ", tuple(column.name for column in self.columns)), *_shortened(self.lines)]
        texts = [[_shown(cell) if number else str(cell) for cell in line.cells] for number, line in enumerate(lines)]
        widths = [max(len(row[i]) for row in texts if row) for i in range(len(self.columns))]
        rendered: list[tuple[str, Line | None]] = []
        for number, (line, row) in enumerate(zip(lines, texts, strict=True)):
            if not row and self.columns:
                rendered.append((f"    ({line.changed[0]} more rows that agree)", None))
                continue
            text = f"  {line.sign} " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            rendered.append((text.rstrip(), line if number else None))
            if line.changed:
                marks = ["^" * len(cell) if i in line.changed else "" for i, cell in enumerate(row)]
                under = "    " + "  ".join(mark.ljust(width) for mark, width in zip(marks, widths, strict=True))
                rendered.append((under.rstrip(), None))
        return rendered


def compare(expected: Rows, found: Found, *, ordered: bool, tolerance: float) -> Difference | None:
    """Where the rows part; None if they agree. The columns are those of `found`, in the order of the expectation."""
    oids = [column.oid for column in found.columns]
    wanted = [[meaning(cell, oid) for cell, oid in zip(row, oids, strict=True)] for row in expected.rows]
    came = [[meaning(cell, oid) for cell, oid in zip(row, oids, strict=True)] for row in found.rows]
    if ordered:
        partner = {i: i for i in range(min(len(wanted), len(came))) if _agree(wanted[i], came[i], tolerance)}
    else:
        partner = _partners(wanted, came, oids, tolerance)
    if len(partner) == len(wanted) == len(came):
        return None
    order_only = ordered and len(_partners(wanted, came, oids, tolerance)) == len(wanted) == len(came)
    unexpected = [j for j in range(len(came)) if j not in set(partner.values())]
    lines: list[Line] = []
    for i, row in enumerate(expected.rows):
        if i in partner:
            lines.append(Line(" ", row))
            continue
        lines.append(Line("-", row))
        j = i if ordered and i in unexpected else None if ordered else _nearest(wanted[i], came, unexpected, tolerance)
        if j is not None:
            unexpected.remove(j)
            changed = tuple(k for k, (w, c) in enumerate(zip(wanted[i], came[j], strict=True)) if not same(w, c, tolerance))
            # What agrees is shown as it was written, so that only what differs looks different.
            cells = tuple(c if k in changed else row[k] for k, c in enumerate(found.rows[j]))
            lines.append(Line("+", cells, changed))
    lines += [Line("+", found.rows[j]) for j in unexpected]
    return Difference(found.columns, tuple(lines), order_only)


def _partners(
    wanted: Sequence[Sequence[object]], came: Sequence[Sequence[object]], oids: Sequence[int], tolerance: float
) -> dict[int, int]:
    """Expected row to the row that agrees with it, one to one; rows meet by their exact cells first."""
    exact = [i for i, oid in enumerate(oids) if oid not in FLOATS and oid not in (1021, 1022)]
    buckets: dict[tuple[object, ...], list[int]] = {}
    for j, row in enumerate(came):
        buckets.setdefault(tuple(row[k] for k in exact), []).append(j)
    partner = {}
    for i, row in enumerate(wanted):
        bucket = buckets.get(tuple(row[k] for k in exact), [])
        fitting = next((j for j in bucket if _agree(row, came[j], tolerance)), None)
        if fitting is not None:
            bucket.remove(fitting)
            partner[i] = fitting
    return partner


def _agree(wanted: Sequence[object], came: Sequence[object], tolerance: float) -> bool:
    return all(same(w, c, tolerance) for w, c in zip(wanted, came, strict=True))


def _nearest(row: Sequence[object], came: Sequence[Sequence[object]], among: Sequence[int], tolerance: float) -> int | None:
    """The unexpected row that shares most cells with `row`; a row with nothing in common is another row."""
    shared = {j: sum(same(w, c, tolerance) for w, c in zip(row, came[j], strict=True)) for j in among}
    best = max(among, key=lambda j: shared[j], default=None)
    return best if best is not None and (2 * shared[best] >= len(row) or len(row) == 1) else None


def _shortened(lines: Sequence[Line]) -> list[Line]:
    """Leave out most rows that agree; a line without cells says how many."""
    agreeing = sum(line.sign == " " for line in lines)
    if agreeing <= _CONTEXT:
        return list(lines)
    kept, seen = [], 0
    for line in lines:
        seen += line.sign == " "
        if line.sign != " " or seen <= _CONTEXT:
            kept.append(line)
    return [*kept, Line(" ", (), (agreeing - _CONTEXT,))]


def _shown(cell: Cell) -> str:
    text = cell_text(cell)
    return "NULL" if text is None else '""' if text == "" else text.replace("\n", "\\n")
