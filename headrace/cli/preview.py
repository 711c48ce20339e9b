"""How the preview of an application is shown: as lines for people, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.columns import ColumnChanges
    from pipelines.cost import Cost
    from pipelines.deployer import Preview
    from pipelines.lineage import Node
    from pipelines.planning import ObjectPlan

_SIGNS = {"create": "+", "unchanged": " ", "replace": "~", "alter": "~", "recreate": "-/+", "refuse": "!", "left": "?"}
_WORDS = {"replace": "replace (swap)", "recreate": "drop and recreate"}


def as_json(preview: Preview) -> dict[str, object]:
    """Everything that is known, by object."""
    objects = []
    for each in preview.plan.objects:
        entry: dict[str, object] = asdict(each)
        del entry["old_id"], entry["fingerprint"]
        changes, cost = preview.columns.get(each.name), preview.costs.get(each.name)
        entry["columns"] = asdict(changes) if changes is not None else None
        entry["cost"] = {**asdict(cost), "rows": cost.rows} if cost is not None else None
        objects.append(entry)
    return {
        "objects": objects,
        "resumes": preview.resumes,
        "refused": [each.name for each in preview.plan.refused],
        "rows": sum(cost.rows for cost in preview.costs.values()),
    }


def lines(preview: Preview) -> Iterator[str]:
    """What changes, with reasons, columns and costs; what stays is only counted."""
    if preview.resumes:
        yield "An earlier application was cut off in an exchange; `apply` finishes it or takes it back first."
    for each in preview.plan.objects:
        if each.action == "unchanged":
            continue
        yield f"{_SIGNS[each.action]:>3} {each.kind.lower()} {each.name}: {_WORDS.get(each.action, each.action)}, {each.reason}"
        yield from (f"      {line}" for line in _details(each, preview))
    counts: dict[str, int] = {}
    for each in preview.plan.objects:
        counts[each.action] = counts.get(each.action, 0) + 1
    rows = sum(cost.rows for cost in preview.costs.values())
    yield f"{', '.join(f'{count} {action}' for action, count in sorted(counts.items()))}; {rows} rows to read again"


def tree(node: Node, indent: str = "") -> Iterator[str]:
    """One line an object, each below and to the right of what it hangs on."""
    yield f"{indent}{node.name} ({node.kind.lower()})"
    for each in node.next:
        yield from tree(each, indent + "  ")


def _details(each: ObjectPlan, preview: Preview) -> Iterator[str]:
    if each.place:
        yield f"at {each.place}"
    if each.dependents:
        yield f"dependents: {', '.join(each.dependents)}"
    changes = preview.columns.get(each.name)
    if changes is not None:
        yield from _columns(changes)
    yield from each.notes
    cost = preview.costs.get(each.name)
    if cost is not None:
        yield from _cost(cost)


def _columns(changes: ColumnChanges) -> Iterator[str]:
    if changes.breaks is not None:
        yield f"BREAKS: {changes.breaks}"
    if changes.unknown is not None:
        yield f"columns unknown: {changes.unknown}"
    for column in changes.added:
        yield f"column {column.name} added ({column.type})"
    for column in changes.dropped:
        yield f"column {column.name} dropped"
    for name, old, new in changes.retyped:
        yield f"column {name}: {old} becomes {new}"
    if changes.reordered:
        yield "columns are in another order"


def _cost(cost: Cost) -> Iterator[str]:
    if cost.reads:
        shown = ", ".join(f"{name} {'?' if count is None else count}" for name, count in cost.reads.items())
        seconds = f", about {cost.seconds} s at the rate of the last time" if cost.seconds is not None else ""
        yield f"reads again (rows): {shown}{seconds}"
    for name, how in cost.topics.items():
        yield f"source {name}: {how}"
    if cost.state_bytes:
        yield f"the one that runs now takes {cost.state_bytes} bytes"
    yield from cost.notes
