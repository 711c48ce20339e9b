"""Writes what came in the place of what was expected: `--update`. Read the difference before you commit it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from headrace.sqltest.diff import Difference
from headrace.sqltest.model import Cell, Rows
from headrace.sqltest.rows import write_csv, write_json
from headrace.sqltest.run import Problem
from headrace.sqltest.values import as_json


def update(problems: Iterable[Problem]) -> tuple[list[Path], list[str]]:
    """Rewrite the rows of all differences. Rows that agree stay as they were written.

    Returns:
        the files that changed, and the places that could not be rewritten.
    """
    left: list[str] = []
    by_file: dict[Path, list[tuple[Rows, list[str]]]] = {}
    for problem in problems:
        if problem.rows is not None and problem.difference is not None:
            lines = _lines(problem.rows, problem.difference)
            by_file.setdefault(problem.rows.span.file, []).append((problem.rows, lines))
    changed: list[Path] = []
    for file, edits in by_file.items():
        text = before = file.read_text(encoding="utf-8")
        for rows, lines in sorted(edits, key=lambda edit: -edit[0].span.start):
            if _is_inside_a_line(text, rows):
                left.append(str(rows.place))
            else:
                text = _replaced(text, rows, lines)
        if text != before:
            file.write_text(text, encoding="utf-8")
            changed.append(file)
    return sorted(changed), sorted(left)


def _lines(rows: Rows, difference: Difference) -> list[str]:
    kept = [line for line in difference.lines if line.sign != "-"]
    names = [column.name for column in difference.columns]
    if not kept:
        return []
    # A row of one NULL is an empty line in CSV, which is none.
    as_csv = rows.form == "csv" and not (len(names) == 1 and any(line.cells[0] is None for line in kept))
    cells: list[tuple[Cell, ...]] = [
        line.cells
        if line.sign == " " or as_csv
        else tuple(
            as_json(None if cell is None else str(cell), column.oid)
            for cell, column in zip(line.cells, difference.columns, strict=True)
        )
        for line in kept
    ]
    return write_csv(names, cells) if as_csv else write_json(names, cells)


def _replaced(text: str, rows: Rows, lines: list[str]) -> str:
    span = rows.span
    if span.end is None:
        return "".join(f"{line}\n" for line in lines)
    old = text[span.start : span.end]
    margin = " " * (span.indent + 2)
    block = "".join(f"\n{margin}{line}" for line in lines)
    if old.startswith("|"):
        after = old[len(old.rstrip()) :]  # the empty lines that follow a block stay
        return text[: span.start] + (f"|{block}" if lines else "[]") + after + text[span.end :]
    gap = "" if text[span.start - 1] == " " else " "
    line_end = text.find("\n", span.end)
    line_end = len(text) if line_end < 0 else line_end
    comment = text[span.end : line_end].rstrip()
    return text[: span.start] + gap + (f"|{comment}{block}" if lines else f"[]{comment}") + text[line_end:]


def _is_inside_a_line(text: str, rows: Rows) -> bool:
    """Whether something else than a comment follows in the line: rows within `{...}` cannot become a block."""
    if rows.span.end is None or text.startswith("|", rows.span.start):
        return False
    rest = text[rows.span.end :].partition("\n")[0].strip()
    return bool(rest) and not rest.startswith("#")
