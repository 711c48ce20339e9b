"""The published table of parities is true: every kind, every count, every promise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from learning import models
from learning.parity import KINDS, Parity, measure

_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([\d,]+) \| (\d+) \| (\d+) \| (\S+) \| (\d+) \| (\S+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def measured() -> Sequence[Parity]:
    return list(measure())


def test_every_kind_keeps_its_promise(measured: Sequence[Parity]) -> None:
    assert {each.kind: each.largest_difference for each in measured if each.largest_difference > each.promise} == {}
    assert [each.kind for each in measured if each.other_labels] == [], "no row of these gets another label"


def test_every_module_of_a_kind_is_in_the_table() -> None:
    folder = Path(models.__file__).parent
    named = {
        match[1]
        for path in folder.glob("*.py")
        for match in re.finditer(r'^    kind: str = "(\w+)"|return Trees\("(\w+)"', path.read_text(), re.MULTILINE)
        if match[1]
    }
    trees = set(re.findall(r'return Trees\("(\w+)"', (folder / "trees.py").read_text()))
    assert named | trees | {"principal_residual"} == {kind.name for kind in KINDS} | {"torch"}


def test_the_page_says_what_is_measured(measured: Sequence[Parity], repository: Path) -> None:
    page = (repository / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    published = [
        (kind, source, int(rows.replace(",", "")), int(features), int(classes), int(other), float(promise))
        for kind, source, rows, features, classes, _, other, promise in _ROW.findall(page)
    ]
    again = [
        (each.kind, each.source, each.rows, each.features, each.classes, each.other_labels, each.promise) for each in measured
    ]
    assert published == again, "run `python -m learning.parity --page > docs/reference/models.md`"
    # The differences themselves are of one machine; none may have been published that breaks its promise.
    assert all(float(difference) <= float(promise) for *_, difference, _, promise in _ROW.findall(page))
