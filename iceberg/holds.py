"""Legal holds: what is held is neither expired, dropped by retention, nor erased, until the hold is released.

A hold names a table, a tenant or a subject. Placing and releasing are rows of `lake.holds`, so who held what, when and why
can be told for ever (and by time travel). Who is about to destroy asks `refuse_if_held` right before the step that cannot be
taken back. A hold stops what it may concern, not only what it certainly concerns:

    hold on       stops
    table T       everything that destroys in T
    tenant X      everything that destroys in tables with a column `tenant_id`, and erasing subjects of X
    subject S     everything that destroys in namespace `lake`, and erasing S

Erasing another subject, and compaction, which keeps every row, go on under holds of tenants and subjects.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.table import Table

from core.clock import Clock, SystemClock
from core.errors import ConflictError, InvalidInputError, NotFoundError
from iceberg.loading import must_load
from iceberg.predicates import all_of, equals
from iceberg.row_appends import append_rows, scan_rows, type_row, type_rows
from iceberg.tables import HOLDS, ensure_tables

type_scope = Literal["table", "tenant", "subject"]


class HeldError(ConflictError):
    """A legal hold forbids what was asked."""

    def __init__(self, action: str, holds: Sequence[Hold], *, where: str | None = None) -> None:
        self.holds = tuple(holds)
        told = ", ".join(f"`{hold.hold_id}` on {hold.scope} `{hold.target}` ({hold.reason})" for hold in self.holds)
        super().__init__(
            f"{action} is forbidden by {'a legal hold' if len(self.holds) == 1 else 'legal holds'}: {told}",
            where=where,
            fix="Wait until it is released: `headrace tables release HOLD_ID --reason ...`.",
        )


@dataclass(frozen=True)
class Hold:
    """A hold as it was placed, and its release if there was one."""

    hold_id: str
    scope: str
    target: str
    reason: str
    actor: str
    placed_at: datetime
    released_at: datetime | None = None
    released_by: str | None = None
    release_reason: str | None = None

    @property
    def active(self) -> bool:
        return self.released_at is None


def hold(
    catalog: Catalog, scope: type_scope, target: str, *, reason: str, actor: str = "system", clock: Clock | None = None
) -> Hold:
    """Place a hold; one that is active on the same target already is returned as it is.

    Args:
        scope: `table`, `tenant` or `subject`.
        target: a table's name, a tenant's id, or a subject's id as it stands in `entity_id`.
        reason: why, e.g. the reference of the case; must not be empty.
        actor: who places it.

    Raises:
        InvalidInputError: an argument is malformed.
        NotFoundError: the table does not exist.
        UnavailableError: not placed; try again.
    """
    clock = clock or SystemClock()
    if scope not in get_args(type_scope):
        raise InvalidInputError(f"`{scope}` cannot be held", fix="Hold a table, a tenant or a subject.")
    if not target.strip() or not reason.strip():
        raise InvalidInputError("a hold needs a target and a reason", fix="Say why, e.g. `--reason 'case 2026-17'`.")
    if scope == "table":
        must_load(catalog, target)
    ensure_tables(catalog, (HOLDS,))
    made = Hold(str(uuid.uuid4()), scope, target, reason, actor, clock.now())
    found: list[Hold] = []

    def rows(head: Table) -> type_rows:
        found[:] = [
            other for other in _holds(scan_rows(head, _on(scope, target))) if other.active and other.hold_id != made.hold_id
        ]
        return [] if found else [_row(made.hold_id, made.placed_at, "placed", made, reason, actor)]

    append_rows(must_load(catalog, HOLDS.identifier), rows, clock=clock)
    return found[0] if found else made


def release(catalog: Catalog, hold_id: str, *, reason: str, actor: str = "system", clock: Clock | None = None) -> Hold:
    """Lift a hold; lifting it again changes nothing.

    Raises:
        InvalidInputError: no reason is given.
        NotFoundError: there is no such hold.
        UnavailableError: not lifted; try again.
    """
    clock = clock or SystemClock()
    if not reason.strip():
        raise InvalidInputError("releasing a hold needs a reason")

    def rows(head: Table) -> type_rows:
        held = next(iter(_holds(scan_rows(head, equals("hold_id", hold_id)))), None)
        if held is None:
            raise _unknown(hold_id)
        return [_row(hold_id, clock.now(), "released", held, reason, actor)] if held.active else []

    if not catalog.table_exists(HOLDS.identifier):
        raise _unknown(hold_id)
    table = must_load(catalog, HOLDS.identifier)
    append_rows(table, rows, clock=clock)
    return _holds(scan_rows(table, equals("hold_id", hold_id)))[0]


def list_holds(catalog: Catalog) -> Sequence[Hold]:
    """All holds there ever were, the oldest first."""
    if not catalog.table_exists(HOLDS.identifier):
        return []
    return _holds(scan_rows(must_load(catalog, HOLDS.identifier), all_of()))


def active_holds(
    catalog: Catalog, *, table: str | None = None, tenant_id: str | None = None, subject: str | None = None
) -> Sequence[Hold]:
    """The holds in force; with arguments, only those on exactly this table, this tenant or this subject."""
    wanted = {("table", table), ("tenant", tenant_id), ("subject", subject)}
    every = table is None and tenant_id is None and subject is None
    return [held for held in list_holds(catalog) if held.active and (every or (held.scope, held.target) in wanted)]


def refuse_if_held(catalog: Catalog, action: str, table: str) -> None:
    """Raise when a hold may concern what is destroyed in a table.

    Args:
        action: what is about to be done, as the subject of a sentence, e.g. `expiring snapshots`.
        table: e.g. `lake.predictions`.

    Raises:
        HeldError: says which holds.
    """
    if found := [held for held in active_holds(catalog) if _concerns(catalog, held, table)]:
        raise HeldError(action, found, where=table)


def holds_on_subject(catalog: Catalog, subject: str, *, tenant_id: str | None, tables: Collection[str] = ()) -> Sequence[Hold]:
    """The holds in force on a subject, on its tenant, or on a table that its rows would be taken from.

    Args:
        subject: the subject's id.
        tenant_id: whose subject it is; None when all tenants' rows are meant: then a hold on any tenant counts.
        tables: the tables that would be changed.
    """
    return [
        held
        for held in active_holds(catalog)
        if (held.scope == "subject" and held.target == subject)
        or (held.scope == "tenant" and tenant_id in (None, held.target))
        or (held.scope == "table" and held.target in tables)
    ]


def refuse_if_subject_held(
    catalog: Catalog, action: str, subject: str, *, tenant_id: str | None, tables: Collection[str] = ()
) -> None:
    """Raise when a hold is on a subject; see `holds_on_subject`.

    Args:
        action: e.g. `erasing the subject`.

    Raises:
        HeldError: says which holds.
    """
    if found := holds_on_subject(catalog, subject, tenant_id=tenant_id, tables=tables):
        raise HeldError(action, found, where=subject)


def _concerns(catalog: Catalog, held: Hold, table: str) -> bool:
    if held.scope == "table":
        return held.target == table
    if held.scope == "subject":
        return table.partition(".")[0] == "lake"
    return "tenant_id" in must_load(catalog, table).schema().column_names


def _on(scope: str, target: str) -> BooleanExpression:
    return all_of(equals("scope", scope), equals("target", target))


def _row(hold_id: str, at: datetime, action: str, held: Hold, reason: str, actor: str) -> type_row:
    return {
        "hold_id": hold_id,
        "at": at,
        "action": action,
        "scope": held.scope,
        "target": held.target,
        "reason": reason,
        "actor": actor,
    }


def _holds(rows: Sequence[type_row]) -> list[Hold]:
    """Pair the rows of each hold."""
    released = {row["hold_id"]: row for row in rows if row["action"] == "released"}
    made = []
    for row in sorted((row for row in rows if row["action"] == "placed"), key=lambda row: (row["at"], row["hold_id"])):
        end = released.get(row["hold_id"])
        made.append(
            Hold(
                row["hold_id"],
                row["scope"],
                row["target"],
                row["reason"],
                row["actor"],
                row["at"],
                end["at"] if end else None,
                end["actor"] if end else None,
                end["reason"] if end else None,
            )
        )
    return made


def _unknown(hold_id: str) -> NotFoundError:
    return NotFoundError(f"hold `{hold_id}` does not exist", where=HOLDS.identifier, fix="`headrace tables holds` lists them.")
