"""The page of tables is what the code says."""

from __future__ import annotations

from pathlib import Path

from iceberg.table_reference import render
from iceberg.tables import DEFINITIONS


def test_the_page_is_what_the_definitions_say(repository: Path) -> None:
    page = (repository / "docs/reference/tables.md").read_text(encoding="utf-8")
    assert page == render(), "run `python -m iceberg.table_reference`"


def test_every_column_says_what_it_means() -> None:
    for definition in DEFINITIONS:
        for column in definition.columns:
            assert column.doc.endswith("."), f"{definition.identifier}.{column.name}"
