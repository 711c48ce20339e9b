"""What `headrace features template` prints is what the pipelines have committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.errors import InvalidInputError
from features.templates.windows import WindowFeatures
from headrace.cli import app

INTERACTIONS = Path(__file__).parents[3] / "pipelines" / "interactions"
COMMITTED = {
    "20_features.sql": "windows --source interactions --view features_interactions --action event_type"
    " --clock interactions_events",
    "25_local_time.sql": "local-time --source interactions --view interactions_local_time --columns tenant_id,event_id,entity_id"
    " --zone-table interactions_zones",
}
PROMISED = [f"{aggregate}_{window}" for window in ("1h", "24h", "7d", "30d") for aggregate in ("count", "sum_value", "avg_value", "unique_actions")]  # fmt: skip


@pytest.mark.parametrize("file", COMMITTED)
def test_the_committed_sql_is_what_the_command_prints(file: str) -> None:
    done = CliRunner().invoke(app, ["features", "template", *COMMITTED[file].split()])
    assert done.exit_code == 0, done.output
    assert done.stdout == (INTERACTIONS / file).read_text(encoding="utf-8"), "print it again, and look at the difference"


def test_the_features_have_exactly_the_sixteen_names() -> None:
    done = CliRunner().invoke(app, ["features", "template", "windows", "--source", "e", "--view", "v", "--json"])
    told = json.loads(done.stdout)
    assert told["features"] == PROMISED
    assert all(f" AS {name}" in told["sql"] for name in PROMISED)


def test_tiles_and_names_are_checked() -> None:
    wrong = CliRunner().invoke(app, ["features", "template", "windows", "--source", "e", "--view", "v", "--tile", "30d=7h"])
    assert wrong.exit_code == 2
    with pytest.raises(InvalidInputError, match="no window `2d`"):
        WindowFeatures("v", "e", tiles={"2d": WindowFeatures("v", "e").longest})
    with pytest.raises(InvalidInputError, match="no name of SQL"):
        WindowFeatures("v", "e; DROP TABLE x")
    with pytest.raises(InvalidInputError, match="columns of their own"):
        WindowFeatures("v", "e", keys=("value",))
