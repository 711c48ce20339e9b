"""A command on a data folder finds the platform's state, or that of the demo where nothing else ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.settings import Settings
from headrace.state_folder import at_state


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], "."),
        (["demo/engine/", "demo/catalog.db"], "demo"),
        (["demo/catalog.db"], "demo"),
        (["demo/engine/", "demo/catalog.db", "engine/"], "."),
        (["demo/engine/", "demo/catalog.db", "run.json"], "."),
        # A catalog that some command made beside a demo is nobody's.
        (["demo/engine/", "demo/catalog.db", "catalog.db"], "demo"),
        (["demo/catalog.db", "catalog.db"], "."),
    ],
)
def test_the_demo_is_meant_only_where_nothing_else_ran(tmp_path: Path, there: list[str], expected: str) -> None:
    for each in there:
        path = tmp_path / each
        path.parent.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True) if each.endswith("/") else path.touch()
    assert at_state(Settings(data_dir=tmp_path)).data_dir == tmp_path / expected


def test_settings_that_name_another_lake_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo" / "engine").mkdir(parents=True)
    assert at_state(Settings(data_dir=tmp_path, warehouse="s3://bucket/lake")).data_dir == tmp_path
