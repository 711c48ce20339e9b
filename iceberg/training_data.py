"""What a model version says of the table that it was trained on, in the JSON object that is sealed with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Source(NamedTuple):
    """A table with its namespace, e.g. `lake.features_plant`, and the snapshot of it, where that was recorded."""

    table: str
    snapshot: int | None


def source_of(training_data: Mapping[str, Any]) -> Source | None:
    """From `table` and `snapshot`; a table without namespace is one of `lake`. None for data from elsewhere."""
    table, snapshot = (
        str(training_data.get("table") or ""),
        str(training_data.get("snapshot", training_data.get("snapshot_id"))),
    )
    if not table:
        return None
    return Source(table if "." in table else f"lake.{table}", int(snapshot) if snapshot.isdecimal() else None)
