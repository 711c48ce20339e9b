"""What building an object anew reads, and how long that took the last time."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelines import sqltext
from pipelines.planning import BESIDE, INPUTS, ObjectPlan, Plan
from pipelines.snapshot import Snapshot

_ENOUGH_ROWS = 1000
"""A rate from fewer rows than this says more about the fixed costs of a statement than about rows."""


@dataclass(frozen=True)
class Cost:
    """Of one object.

    Attributes:
        reads: rows by the name of what is read directly; None where the database does not tell.
        topics: sources that are read again, with how far back.
        state_bytes: what the object that runs now takes on disk, as far as it is known.
        seconds: from the rate of the last building, None if it was never measured on enough rows.
        notes: what is expensive besides reading.
    """

    reads: dict[str, int | None]
    topics: dict[str, str]
    state_bytes: int | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows to be read from relations, as far as they are known."""
        return sum(count for count in self.reads.values() if count is not None)


def costs(plan: Plan, snapshot: Snapshot) -> dict[str, Cost]:
    """By name, of everything that is built beside a running one."""
    functions = [each.name for each in snapshot.objects.values() if each.kind == "FUNCTION"]
    return {
        each.name: _cost(each, snapshot, functions)
        for each in plan.rebuilt
        if each.kind in (*BESIDE, *INPUTS, "SINK") and each.old_id
    }


# -- below: called by the above


def _cost(each: ObjectPlan, snapshot: Snapshot, functions: list[str]) -> Cost:
    entry = snapshot.entries.get((each.name, each.kind))
    notes = [f"calls `{name}` for every row" for name in functions if each.kind in BESIDE and sqltext.calls(each.sql, name)]
    if re.search(r"FOR\s+SYSTEM_TIME\s+AS\s+OF\s+PROCTIME", each.sql, re.IGNORECASE):
        notes.append("joins old rows with what the other side has now, not with what it had then")
    size = snapshot.size_bytes.get(each.old_id)
    if each.kind in INPUTS:
        topic = {each.name: _startup(each.sql)} if "connector" in each.sql.lower() else {}
        return Cost({}, topic, size, notes=tuple(notes))
    if each.kind == "VIEW" or (each.kind == "SINK" and sqltext.query_of(each.sql) is None):
        return Cost({}, {}, size, 0.0, tuple(notes))
    reads: dict[str, int | None] = {}
    topics: dict[str, str] = {}
    _collect(each.sql, snapshot, reads, topics)
    seconds = None
    if entry is not None and entry.built_seconds is not None and (entry.built_rows or 0) >= _ENOUGH_ROWS:
        known = sum(count for count in reads.values() if count is not None)
        seconds = round(known * entry.built_seconds / (entry.built_rows or 1), 1)
    return Cost(reads, topics, size, seconds, tuple(notes))


def _collect(sql: str, snapshot: Snapshot, reads: dict[str, int | None], topics: dict[str, str]) -> None:
    """Views are read through: they hold no rows."""
    for reference in sqltext.references(sql) or ():
        found = snapshot.find(reference.name)
        if found is None or found.name in reads or found.name in topics:
            continue
        if found.kind == "SOURCE":
            topics[found.name] = _startup(snapshot.text(found))
        elif found.kind == "VIEW":
            _collect(snapshot.text(found), snapshot, reads, topics)
        else:
            reads[found.name] = snapshot.rows.get(found.id)


def _startup(sql: str) -> str:
    mode = re.search(r"scan\.startup\.mode\s*=\s*'([^']*)'", sql)
    return f"its topic is read again from `{mode[1] if mode else 'earliest'}`"
