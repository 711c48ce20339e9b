"""The stages of model versions, as a history: who was where when, who asked, and what was checked.

A decision is one commit. It is made against the history that the asker looked at: if another decision about the same model
was committed meanwhile, it is refused, so of two promotions at once one wins and the other one's asker is told.

    sequence  version  from        to          granted
    1         1        none        staging     yes
    2         2        none        staging     no        its checks say why
    3         1        staging     production  yes
    4         2        none        staging     yes
    5         2        staging     production  yes       one commit
    6         1        production  archived    yes       with this
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from core.clock import Clock, SystemClock
from core.errors import ConflictError
from iceberg.loading import must_load
from iceberg.predicates import all_of, equals
from iceberg.row_appends import append_rows, scan_rows, type_row, type_rows
from iceberg.tables import DELIVERIES, PROMOTIONS, ensure_tables

NONE = "none"
DELETED = "deleted"


@dataclass(frozen=True)
class StageChange:
    """One row of `registry.promotions`; `sequence` and `at` are given when it is recorded."""

    name: str
    version: int
    from_stage: str
    to_stage: str
    granted: bool
    kind: str
    actor: str
    promotion_id: str
    checks: Sequence[Mapping[str, Any]] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    policy_sha256: str | None = None
    sequence: int = 0
    at: datetime | None = None


@dataclass(frozen=True)
class Delivery:
    """One row of `registry.deliveries`."""

    promotion_id: str
    step: str
    state: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None


class Stages:
    """The history of stages of one registry. Threads may share one.

    Args:
        catalog: from `open_catalog`; missing tables are created.
        clock: stamps rows.
    """

    def __init__(self, catalog: Catalog, *, clock: Clock | None = None) -> None:
        self._catalog = catalog
        self._clock = clock or SystemClock()
        # A decision reads the history some times, and each row is a small file: it is read once for each snapshot.
        self._read: tuple[int | None, type_rows] = (None, ())
        ensure_tables(catalog, (PROMOTIONS, DELIVERIES))

    def history(self, name: str | None = None) -> list[StageChange]:
        """All decisions, or those about one model, oldest first."""
        rows = self._rows(must_load(self._catalog, PROMOTIONS.identifier))
        return _changes([row for row in rows if name is None or row["name"] == name])

    def record(self, changes: Sequence[StageChange], *, expect: int | None) -> list[StageChange]:
        """Append the rows of one decision in one commit.

        Args:
            changes: all about one model.
            expect: the `sequence` of the model's newest granted row that the decision was made on, 0 for none; None: whatever
                is there (for refusals, which change nothing).

        Raises:
            ConflictError: another decision about the model was granted since.
            UnavailableError: not recorded; try again.
        """
        name = changes[0].name
        now = self._clock.now()

        def rows(head: Table) -> type_rows:
            known = self._rows(head)
            newest = newest_granted(_changes([row for row in known if row["name"] == name]))
            if expect is not None and newest != expect:
                raise ConflictError(
                    f"the stages of `{name}` were changed by somebody else while this was checked",
                    where=f"registry.promotions, sequence {newest}",
                    fix="Look at them with `headrace models show`, and decide anew.",
                )
            last = max((row["sequence"] for row in known), default=0)
            return [_row(change, last + position, now) for position, change in enumerate(changes, start=1)]

        table = must_load(self._catalog, PROMOTIONS.identifier)
        return _changes(append_rows(table, rows, clock=self._clock))

    def deliveries(self, promotion_id: str | None = None) -> list[Delivery]:
        """What became of decisions, or of one, oldest first."""
        scope = equals("promotion_id", promotion_id) if promotion_id is not None else all_of()
        rows = scan_rows(must_load(self._catalog, DELIVERIES.identifier), scope)
        return [
            Delivery(row["promotion_id"], row["step"], row["state"], json.loads(row["detail"] or "{}"), row["at"])
            for row in sorted(rows, key=lambda row: row["at"])
        ]

    def record_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Append what became of steps; the same step may be recorded twice, the first row counts."""
        now = self._clock.now()
        rows = [
            {
                "promotion_id": each.promotion_id,
                "step": each.step,
                "at": now,
                "state": each.state,
                "detail": _json(dict(each.detail)),
            }
            for each in deliveries
        ]
        if rows:
            append_rows(must_load(self._catalog, DELIVERIES.identifier), lambda _head: rows, clock=self._clock)

    def _rows(self, table: Table) -> type_rows:
        """All rows of the table as it was loaded."""
        snapshot = table.current_snapshot()
        if snapshot is None:
            return ()
        kept = self._read
        if kept[0] != snapshot.snapshot_id:
            kept = self._read = (snapshot.snapshot_id, scan_rows(table, all_of()))
        return kept[1]

    def revision(self) -> int | None:
        """A number that changes with every decision; cheap to poll. None while there is none."""
        snapshot = must_load(self._catalog, PROMOTIONS.identifier).current_snapshot()
        return snapshot.snapshot_id if snapshot else None


def stages_of(history: Sequence[StageChange], *, at: datetime | None = None) -> dict[int, str]:
    """The stage of each version of one model that ever left `none`, now or at a moment."""
    found: dict[int, str] = {}
    for change in history:
        if change.granted and (at is None or (change.at is not None and change.at <= at)):
            found[change.version] = change.to_stage
    return found


def entered_stage(history: Sequence[StageChange], version: int, stage: str) -> datetime | None:
    """When the version came into the stage in which it is now; None if it is in another one."""
    since: datetime | None = None
    current = NONE
    for change in history:
        if change.granted and change.version == version:
            since = change.at if change.to_stage != current else since
            current = change.to_stage
    return since if current == stage else None


def newest_granted(history: Sequence[StageChange]) -> int:
    """The sequence of the newest row that changed anything, 0 for none: what `Stages.record` expects."""
    return max((change.sequence for change in history if change.granted), default=0)


def _changes(rows: type_rows) -> list[StageChange]:
    return [_change(row) for row in sorted(rows, key=lambda row: row["sequence"])]


def _change(row: type_row) -> StageChange:
    return StageChange(
        name=row["name"],
        version=row["version"],
        from_stage=row["from_stage"],
        to_stage=row["to_stage"],
        granted=row["granted"] == "yes",
        kind=row["kind"],
        actor=row["actor"],
        promotion_id=row["promotion_id"],
        checks=json.loads(row["checks"]),
        detail=json.loads(row.get("detail") or "{}"),
        reason=row.get("reason"),
        policy_sha256=row.get("policy_sha256"),
        sequence=row["sequence"],
        at=row["at"],
    )


def _row(change: StageChange, sequence: int, now: datetime) -> type_row:
    return {
        "sequence": sequence,
        "promotion_id": change.promotion_id,
        "at": now,
        "kind": change.kind,
        "name": change.name,
        "version": change.version,
        "from_stage": change.from_stage,
        "to_stage": change.to_stage,
        "granted": "yes" if change.granted else "no",
        "checks": _json(list(change.checks)),
        "policy_sha256": change.policy_sha256,
        "detail": _json(dict(change.detail)),
        "reason": change.reason,
        "actor": change.actor,
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)
