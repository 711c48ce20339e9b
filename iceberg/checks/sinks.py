"""Is each epoch of each sink in the table once, and none beyond what the sink has recorded?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from pyiceberg.table import Table

from iceberg.checks.findings import Finding

_PROPERTY = re.compile(r"headrace\.sink\.([0-9a-f-]{36})\.epoch")


def check_sinks(table: Table, name: str) -> Iterator[Finding]:
    """Compare the epochs of kept snapshots with each other and with the sinks' properties."""
    recorded: dict[str, int] = {}
    for key, value in table.metadata.properties.items():
        if match := _PROPERTY.fullmatch(key):
            if not value.isdigit() or int(value) < 1:
                yield Finding(
                    name, "sink-epoch", key, f"`{value}` is no epoch", "Set it to the last epoch that is in the table."
                )
            else:
                recorded[match.group(1)] = int(value)
    seen: dict[tuple[str, int], list[int]] = defaultdict(list)
    ancestors = set(_ancestors(table))
    for snapshot in table.metadata.snapshots:
        summary = snapshot.summary.additional_properties if snapshot.summary else {}
        if snapshot.snapshot_id in ancestors and "headrace.sink" in summary and "headrace.epoch" in summary:
            seen[summary["headrace.sink"], int(summary["headrace.epoch"])].append(snapshot.snapshot_id)
    for (sink, epoch), ids in sorted(seen.items()):
        if len(ids) > 1:
            yield Finding(
                name,
                "sink-epoch-twice",
                f"sink {sink}",
                f"epoch {epoch} was added by the snapshots {', '.join(map(str, ids))}",
                "Rows are there twice: set the table back to the snapshot before, and let the sink deliver again.",
            )
        if epoch > recorded.get(sink, 0):
            yield Finding(
                name,
                "sink-epoch-ahead",
                f"sink {sink}",
                f"epoch {epoch} is in the table, but the sink has recorded {recorded.get(sink, 0)}",
                f"It would be delivered again: set the property `headrace.sink.{sink}.epoch` to {epoch}.",
            )


def _ancestors(table: Table) -> Iterator[int]:
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot.snapshot_id
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None
