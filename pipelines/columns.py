"""Which columns the changed objects will have: the database itself is asked, about queries that run nowhere.

Each view of the plan becomes a member of one WITH clause, the new text over the new texts below it, and the protocol's
Describe tells its columns, or what is wrong with it. Nothing is created or run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from pipelines import sqltext
from pipelines.planning import BESIDE, INPUTS, ObjectPlan, Plan
from pipelines.snapshot import Column

_WRONG = ("42703", "42P01", "42883", "42804", "42846", "42601")
"""States that tell of a wrong query; others tell that this way of asking is beyond the database."""


_PROCTIME = re.compile(r"\bFOR\s+SYSTEM_TIME\s+AS\s+OF\s+PROCTIME\s*\(\s*\)", re.IGNORECASE)
# Source: RisingWave documentation, "INCLUDE clause".
_INCLUDED = {"key": "BYTEA", "timestamp": "TIMESTAMPTZ", "payload": "JSONB"}


@dataclass(frozen=True)
class ColumnChanges:
    """Between the old and the new definition.

    Attributes:
        retyped: (name, old type, new type).
        breaks: what the database says about the new definition, if it refuses it.
        unknown: why nothing can be said.
    """

    added: tuple[Column, ...] = ()
    dropped: tuple[Column, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    reordered: bool = False
    breaks: str | None = None
    unknown: str | None = None

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped or self.retyped or self.reordered or self.breaks)


def compare(old: Sequence[Column], new: Sequence[Column]) -> ColumnChanges:
    """What a reader of the columns would notice."""
    before, after = {c.name: c for c in old}, {c.name: c for c in new}
    kept = [c.name for c in old if c.name in after]
    return ColumnChanges(
        tuple(c for c in new if c.name not in before),
        tuple(c for c in old if c.name not in after),
        tuple((n, before[n].type, after[n].type) for n in kept if before[n].type != after[n].type),
        reordered=kept != [c.name for c in new if c.name in before],
    )


def changes(connection: psycopg.Connection, plan: Plan) -> dict[str, ColumnChanges]:
    """By the name of each view, table and source that is exchanged or altered; for sinks with a query only what breaks."""
    members: list[str] = []
    functions = [each.name for each in plan.objects if each.kind == "FUNCTION" and each.action in ("create", "replace")]
    result: dict[str, ColumnChanges] = {}
    below_broken: dict[str, str] = {}
    for each in plan.objects:
        member = _member(each)
        if member is None:
            if each.kind in INPUTS and each.action in ("create", "recreate"):
                below_broken[each.name] = each.name  # its columns come from elsewhere, a schema registry for example
            continue
        names = {reference.name for reference in sqltext.references(each.sql) or ()}
        cause = next((below_broken[name] for name in sorted(names) if name in below_broken), None)
        if cause is not None:
            below_broken[each.name] = cause
            result[each.name] = ColumnChanges(unknown=f"`{cause}` below it is refused or unknown")
            continue
        new = _describe(connection, [*members, member], each.name)
        if isinstance(new, ColumnChanges):
            function = next((name for name in functions if sqltext.calls(each.sql, name)), None)
            if new.breaks is not None and function is not None:
                new = ColumnChanges(unknown=f"it calls `{function}`, which is new or changes")
            result[each.name] = new
            below_broken[each.name] = each.name
            continue
        if each.kind != "SINK":
            members.append(member)
        if each.old_id and each.kind != "SINK":
            old = _describe(connection, [], each.name)
            result[each.name] = old if isinstance(old, ColumnChanges) else compare(old, new)
        else:
            result[each.name] = ColumnChanges()
    return result


def _member(each: ObjectPlan) -> str | None:
    """The object as it will be, as a member of WITH; None if it stays as it is or has no columns."""
    name = sqltext.quote(each.name)
    if each.action in ("unchanged", "left", "refuse") and not (each.action == "refuse" and each.kind in BESIDE):
        return None
    if each.kind in BESIDE or each.kind == "SINK":
        query = _PROCTIME.sub("", sqltext.query_of(each.sql) or "") or None  # a member of WITH is no table to look up in
        given = ", ".join(sqltext.quote(column) for column in sqltext.column_names(each.sql))
        return f"{name}{f' ({given})' if given else ''} AS ({query})" if query is not None else None
    if each.kind in INPUTS:
        chosen = each.added if each.action == "alter" else tuple(c.text for c in sqltext.columns_and_rest(each.sql)[0])
        included = [] if each.action == "alter" else sqltext.included(each.sql)
        typed = [*map(_name_and_type, chosen), *((name, _INCLUDED.get(kind, "VARCHAR")) for kind, name in included)]
        columns = [f"CAST(NULL AS {type_}) AS {sqltext.quote(column)}" for column, type_ in typed]
        if each.action == "alter":
            return f"{name} AS (SELECT *, {', '.join(columns)} FROM {name})"
        return f"{name} AS (SELECT {', '.join(columns)})" if columns else None
    return None


def _name_and_type(definition: str) -> tuple[str, str]:
    """`x NUMERIC(5, 2) NOT NULL DEFAULT 1` to (`x`, `NUMERIC(5, 2)`)."""
    columns, _ = sqltext.columns_and_rest(f"CREATE TABLE t ({definition})")
    words = definition.split(None, 1)
    type_ = words[1] if len(words) > 1 else "VARCHAR"
    upper = type_.upper()
    stops = [upper.find(f" {word}") for word in ("NOT NULL", "NULL", "DEFAULT", "PRIMARY", "AS ", "GENERATED", "CHECK")]
    ends = [stop for stop in stops if stop > 0]
    return columns[0].name, type_[: min(ends)] if ends else type_


def _describe(connection: psycopg.Connection, members: Sequence[str], name: str) -> list[Column] | ColumnChanges:
    ahead = f"WITH {', '.join(members)} " if members else ""
    answer = connection.pgconn.prepare(b"", f"{ahead}SELECT * FROM {sqltext.quote(name)}".encode())
    if answer.status != ExecStatus.COMMAND_OK:
        state = (answer.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        said = (answer.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode().strip().splitlines()[0]
        return ColumnChanges(breaks=said) if state in _WRONG else ColumnChanges(unknown=said)
    described = connection.pgconn.describe_prepared(b"")
    found = []
    for number in range(described.nfields):
        oid = described.ftype(number)
        known = connection.adapters.types.get(oid)
        type_ = str(oid) if known is None else f"{known.name}[]" if known.array_oid == oid else known.name
        found.append(Column((described.fname(number) or b"").decode(), type_))
    return found
