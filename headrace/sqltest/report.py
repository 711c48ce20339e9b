"""Tells what came out: to people, as JSON of a stable shape, and as JUnit XML for CI."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from headrace.sqltest.diff import Difference, Line
from headrace.sqltest.model import shown
from headrace.sqltest.rows import cell_text
from headrace.sqltest.run import Outcome, Problem

_STYLES = {"-": "red", "+": "green", " ": "dim"}


class Printer:
    """Writes to stdout as cases end."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._file: Path | None = None

    def outcome(self, outcome: Outcome) -> None:
        if outcome.case.place.file != self._file:
            self._file = outcome.case.place.file
            self._console.print(Text(shown(self._file), "bold"))
        word = Text("pass", "green") if outcome.passed else Text("FAIL", "bold red")
        self._console.print(Text("  ").append_text(word).append(f"  {outcome.case.name}  ({outcome.seconds:.2f} s)"))
        for problem in outcome.problems:
            self._console.print(Text(f"        {headline(problem)}"))
            if problem.difference is not None:
                for text, line in problem.difference.render():
                    self._console.print(Text("      ").append_text(_styled(text, line, problem.difference)))
            for note in problem.notes:
                self._console.print(Text(f"        {note}", "yellow"))

    def summary(self, outcomes: Sequence[Outcome], seconds: float, updated: Sequence[Path], left: Sequence[str]) -> None:
        for file in updated:
            self._console.print(f"updated {shown(file)}")
        for place in left:
            self._console.print(f"not updated: {place}: rows inside of `{{...}}`; write them as a block (`|`)", style="yellow")
        failed = sum(not outcome.passed for outcome in outcomes)
        passed = len(outcomes) - failed
        self._console.print(
            Text(f"{passed} passed, {failed} failed in {seconds:.2f} s", "bold red" if failed else "bold green")
        )


def headline(problem: Problem) -> str:
    """One line: where, when, what."""
    epoch = f"epoch {problem.epoch}: " if problem.epoch is not None else ""
    return f"{problem.place}: {epoch}{problem.what}"


def as_json(outcomes: Sequence[Outcome], seconds: float, updated: Sequence[Path], left: Sequence[str]) -> dict[str, object]:
    """The whole run; keys are only ever added."""
    failed = sum(not outcome.passed for outcome in outcomes)
    return {
        "ok": failed == 0,
        "passed": len(outcomes) - failed,
        "failed": failed,
        "seconds": round(seconds, 3),
        "updated": [shown(file) for file in updated],
        "not_updated": list(left),
        "cases": [
            {
                "file": shown(outcome.case.place.file),
                "line": outcome.case.place.line,
                "name": outcome.case.name,
                "ok": outcome.passed,
                "seconds": round(outcome.seconds, 3),
                "expectations": outcome.expectations,
                "problems": [_problem(problem) for problem in outcome.problems],
            }
            for outcome in outcomes
        ],
    }


def write_junit(file: Path, outcomes: Sequence[Outcome], seconds: float) -> None:
    """One suite a test file."""
    root = ElementTree.Element("testsuites", time=f"{seconds:.3f}")
    for path in dict.fromkeys(outcome.case.place.file for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.case.place.file == path]
        suite = ElementTree.SubElement(
            root, "testsuite", name=shown(path), tests=str(len(own)), failures=str(sum(not o.passed for o in own)), errors="0",
            time=f"{sum(o.seconds for o in own):.3f}",
        )  # fmt: skip
        for outcome in own:
            case = ElementTree.SubElement(
                suite, "testcase", classname=shown(path), name=outcome.case.name, file=shown(path),
                line=str(outcome.case.place.line), time=f"{outcome.seconds:.3f}",
            )  # fmt: skip
            for problem in outcome.problems:
                failure = ElementTree.SubElement(case, "failure", message=headline(problem), type=problem.kind)
                table = [text for text, _ in problem.difference.render()] if problem.difference else []
                failure.text = "\n".join([headline(problem), *table, *problem.notes])
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def _problem(problem: Problem) -> dict[str, object]:
    difference = problem.difference
    return {
        "place": problem.place,
        "epoch": problem.epoch,
        "kind": problem.kind,
        "what": problem.what,
        "notes": list(problem.notes),
        "columns": [column.name for column in difference.columns] if difference else [],
        "lines": [
            {"sign": line.sign, "cells": [cell_text(cell) for cell in line.cells], "changed": list(line.changed)}
            for line in (difference.lines if difference else ())
            if line.sign != " "
        ],
    }


def _styled(text: str, line: Line | None, difference: Difference) -> Text:
    """A line of the table; marks below changed cells stand out."""
    if line is None:
        return Text(text, "bold" if text.strip().startswith(difference.columns[0].name) else "yellow")
    return Text(text, _STYLES[line.sign])
