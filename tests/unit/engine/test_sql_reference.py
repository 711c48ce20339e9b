"""The reference page tells what the code has."""

from __future__ import annotations

from pathlib import Path

from engine.reference import render


def test_the_reference_page_is_as_the_code_writes_it(repository: Path) -> None:
    page = (repository / "docs" / "reference" / "sql.md").read_text()
    assert page == render(), "run `python -m engine.reference > docs/reference/sql.md`"
