"""What an application would do, as a pure function of the statements and of what is deployed.

```
changed ---> all that is built on it, transitively ---> in the order of building: NAME__next beside NAME
        ---> swap each pair of names ---> sinks and subscriptions anew ---> drop the old ones, last built first
```

Views are bound to what they were built on, not to its name: whoever reads a changed view has to be built anew as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import InvalidInputError
from pipelines import sqltext
from pipelines.ledger import Entry
from pipelines.snapshot import Deployed, Snapshot
from pipelines.statements import SqlStatement

Action = Literal["create", "unchanged", "replace", "alter", "recreate", "refuse", "left"]

BESIDE = ("MATERIALIZED VIEW", "VIEW")
"""Kinds that are built beside the old one without asking."""
INPUTS = ("TABLE", "SOURCE")
FOLLOWERS = ("SINK", "SUBSCRIPTION")
NEXT = "__next"
OUTSIDE = "(not in these folders)"
GENERATED = "(generated)"


@dataclass(frozen=True)
class Allowed:
    """What the user agreed to.

    Attributes:
        sink_rebuild: sinks are made anew and do not deliver again what they find.
        redelivery: sinks that can only be made anew by delivering everything again are.
        data_loss: tables and sources are made anew, tables without their rows.
    """

    sink_rebuild: bool = False
    redelivery: bool = False
    data_loss: bool = False


@dataclass(frozen=True)
class ObjectPlan:
    """What becomes of one object.

    Attributes:
        because: names of the changed objects that it is built on, when its own text did not change.
        old_id: of what is there now, 0 if nothing is.
        sql, old_sql: its statement afterwards and before, under its own name.
        added: definitions of the columns that an `alter` adds.
        notes: what else one should know.
    """

    name: str
    kind: str
    action: Action
    reason: str
    pipeline: str = OUTSIDE
    place: str = ""
    because: tuple[str, ...] = ()
    old_id: int = 0
    sql: str = ""
    old_sql: str = ""
    fingerprint: str = ""
    added: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def next_name(self) -> str:
        """What it is called while it is built beside the old one; a function keeps that name for those that call it."""
        if self.kind == "FUNCTION":
            return f"{self.name}__{self.fingerprint[:8]}"
        return f"{self.name}{NEXT}"


@dataclass(frozen=True)
class Plan:
    """All objects in the order in which they are made; `rebuilt` are those that are exchanged, in that order too."""

    objects: tuple[ObjectPlan, ...]
    rebuilt: tuple[ObjectPlan, ...] = ()

    @property
    def refused(self) -> tuple[ObjectPlan, ...]:
        return tuple(each for each in self.objects if each.action == "refuse")

    @property
    def changes(self) -> tuple[ObjectPlan, ...]:
        return tuple(each for each in self.objects if each.action not in ("unchanged", "left"))


@dataclass
class _Work:
    snapshot: Snapshot
    allowed: Allowed
    plans: dict[tuple[str, str], ObjectPlan] = field(default_factory=dict)


def plan(statements: Sequence[tuple[str, SqlStatement]], snapshot: Snapshot, allowed: Allowed | None = None) -> Plan:
    """Compare what the folders say with what is deployed.

    Args:
        statements: (pipeline, statement) in the order of application; those that create nothing are skipped.
        snapshot: what is deployed.

    Raises:
        InvalidInputError: an object is created twice.
    """
    work = _Work(snapshot, allowed or Allowed())
    for pipeline, statement in statements:
        if statement.kind is None:
            continue
        key = (statement.name, statement.kind)
        if key in work.plans:
            raise InvalidInputError(
                f"`{statement.name}` is created twice",
                where=statement.place(),
                fix=f"It is created at {work.plans[key].place} too.",
            )
        work.plans[key] = _compare(pipeline, statement, work)
    _follow(work)
    ordered = _ordered(work)
    moved = {each.name for each in ordered if each.action in ("replace", "recreate")}
    late = _reading(moved, ordered)
    rebuilt = tuple(each for each in ordered if each.name in moved or (each.action == "create" and each.name in late))
    known = {(each.name, each.kind) for each in ordered}
    pipelines = {pipeline for pipeline, _ in statements}
    left = tuple(
        ObjectPlan(entry.name, entry.kind, "left", "no longer in its folder; drop it by hand", entry.pipeline, entry.place)
        for key, entry in sorted(snapshot.entries.items())
        if key not in known and entry.pipeline in pipelines and not entry.pipeline.startswith("(")
    )
    return Plan((*(_with_dependents(each, work) for each in ordered), *left), rebuilt)


def dependents(snapshot: Snapshot, object_id: int) -> list[Deployed]:
    """All that is built on an object, directly or not, oldest first."""
    seen: dict[int, Deployed] = {}
    pending = [object_id]
    while pending:
        for found in snapshot.above(pending.pop()):
            if found.id not in seen:
                seen[found.id] = found
                pending.append(found.id)
    return [seen[number] for number in sorted(seen)]


# -- below: called by the above


def _compare(pipeline: str, statement: SqlStatement, work: _Work) -> ObjectPlan:
    kind = statement.kind or ""
    found = work.snapshot.find(statement.name, kind)
    entry = work.snapshot.entries.get((statement.name, kind))
    base = ObjectPlan(
        statement.name, kind, "unchanged", "as it was applied", pipeline, statement.place(),
        old_id=found.id if found is not None else 0, sql=statement.text, fingerprint=statement.fingerprint,
    )  # fmt: skip
    visible = kind in (*BESIDE, *INPUTS, *FOLLOWERS, "INDEX", "FUNCTION")
    if entry is None and pipeline == GENERATED and found is not None:
        return replace(base, reason="as an older headrace made it")
    other = found or (work.snapshot.find(statement.name) if kind != "FUNCTION" else None)
    if entry is None and other is not None:
        reason = f"a {other.kind.lower()} `{other.name}` is there that was not made by `headrace pipeline apply`: drop it, or rename yours"
        return replace(base, action="refuse", reason=reason)
    if entry is None:
        return replace(base, action="create", reason="new")
    if entry.state != "applied" and (found is None or entry.fingerprint == statement.fingerprint):
        return replace(base, action="create", reason="an application was cut off before it was noted")
    if found is None and visible:
        return replace(base, action="create", reason="it was applied and is not there any more")
    old = entry.sql or (work.snapshot.text(found) if found is not None else "")
    base = replace(base, old_sql=old)
    if entry.fingerprint == statement.fingerprint:
        return base
    if old and sqltext.same_meaning(old, statement.text):
        return replace(base, reason="only its layout changed")
    return _changed(base, work)


def _changed(base: ObjectPlan, work: _Work) -> ObjectPlan:
    if base.kind in BESIDE:
        return replace(base, action="replace", reason="its query changed")
    if base.kind == "FUNCTION":
        return replace(
            base,
            action="replace",
            reason="its definition changed",
            notes=(
                f"what calls it is built on `{base.next_name}`, which has the new definition and stays; then `{base.name}` is made anew",
            ),
        )
    if base.kind in INPUTS:
        return _changed_input(base, work)
    if base.kind == "SINK":
        return _sink(replace(base, reason="its definition changed"), work)
    if base.kind == "SUBSCRIPTION":
        return _subscription(replace(base, reason="its definition changed"))
    if base.kind == "INDEX":
        return replace(base, action="recreate", reason="its definition changed")
    return replace(base, action="refuse", reason=f"{base.kind.lower()}s cannot be changed; drop it and what uses it by hand")


def _changed_input(base: ObjectPlan, work: _Work) -> ObjectPlan:
    old, old_rest = sqltext.columns_and_rest(base.old_sql)
    new, new_rest = sqltext.columns_and_rest(base.sql)
    words = [sqltext.canonical(column.text) for column in old]
    appended = new[len(old) :]
    if old and old_rest == new_rest and words == [sqltext.canonical(column.text) for column in new[: len(old)]] and appended:
        names = ", ".join(f"`{column.name}`" for column in appended)
        return replace(
            base,
            action="alter",
            reason=f"columns are added at the end: {names}",
            added=tuple(column.text for column in appended),
        )
    what = _input_difference([c.name for c in old], [c.name for c in new], old_rest != new_rest)
    connector = "connector" in base.sql.lower()
    loss = "its topic is read again, as far back as the broker has it" if connector else "its rows are lost"
    if not work.allowed.data_loss:
        return replace(base, action="refuse", reason=f"{what}; {loss}: allow it by --allow-data-loss")
    return replace(base, action="recreate", reason=f"{what}; {loss}")


def _input_difference(old: list[str], new: list[str], rest: bool) -> str:
    gone, come = [n for n in old if n not in new], [n for n in new if n not in old]
    if gone:
        return f"columns are dropped: {', '.join(f'`{n}`' for n in gone)}"
    if come:
        return f"columns are not added at the end: {', '.join(f'`{n}`' for n in come)}"
    if rest:
        return "its options or constraints changed"
    return "its columns are in another order" if old != new else "the definition of a column changed"


def _sink(base: ObjectPlan, work: _Work) -> ObjectPlan:
    whole = sqltext.query_of(base.sql) is not None
    if whole and not work.allowed.redelivery:
        why = "a sink with a query of its own can only be made anew by delivering everything again: allow it by --allow-redelivery"
        return replace(base, action="refuse", reason=f"{base.reason}; {why}")
    if not whole and not (work.allowed.sink_rebuild or work.allowed.redelivery):
        why = "the sink would be made anew: allow it by --allow-sink-rebuild; what it delivered is not delivered again"
        return replace(base, action="refuse", reason=f"{base.reason}; {why}")
    note = (
        "delivers everything again"
        if whole
        else "delivers changes from then on (snapshot = 'false'); those between making the new one and dropping the old one twice"
    )
    return replace(base, action="recreate", notes=(note,))


def _subscription(base: ObjectPlan) -> ObjectPlan:
    note = "its log begins anew: cursors on it end with an error and have to be declared again"
    return replace(base, action="recreate", notes=(note,))


def _follow(work: _Work) -> None:
    """Take in all that is built on what is exchanged, also what no folder here describes."""
    snapshot = work.snapshot
    roots = [each for each in work.plans.values() if each.action in ("replace", "recreate") and each.old_id]
    above: dict[int, set[str]] = {}
    for root in roots:
        for start in _places(root, snapshot):
            for found in dependents(snapshot, start):
                above.setdefault(found.id, set()).add(root.name)
        if root.kind == "FUNCTION":
            for found in _callers(root, snapshot):
                for each in (found, *dependents(snapshot, found.id)):
                    above.setdefault(each.id, set()).add(root.name)
    for number in sorted(above):
        found = snapshot.objects[number]
        key = (found.name, found.kind)
        known = work.plans.get(key)
        if known is not None and known.action in ("replace", "recreate", "refuse"):
            continue
        text = known.sql if known is not None else snapshot.text(found)
        entry = snapshot.entries.get(key)
        base = known or ObjectPlan(
            found.name, found.kind, "replace", "", entry.pipeline if entry is not None else OUTSIDE,
            entry.place if entry is not None else "", old_id=number, sql=text, fingerprint=_fingerprint(entry, text),
        )  # fmt: skip
        names = tuple(sorted(above[number]))
        reason = f"it is built on {', '.join(f'`{n}`' for n in names)}"
        work.plans[key] = _dependent(replace(base, because=names, reason=reason, old_sql=text), work)


def _places(root: ObjectPlan, snapshot: Snapshot) -> list[int]:
    """Where the dependents of an object hang: on itself, or on the versions of a function."""
    if root.kind != "FUNCTION":
        return [root.old_id]
    return [each.id for each in versions(root.name, snapshot)]


def versions(function: str, snapshot: Snapshot) -> list[Deployed]:
    """The function and what earlier applications left of it under versioned names."""
    found = [each for each in snapshot.objects.values() if each.kind == "FUNCTION"]
    prefix = f"{function}__"
    return [
        each
        for each in found
        if each.name == function
        or (each.name.startswith(prefix) and len(each.name) == len(prefix) + 8 and _is_hex(each.name[len(prefix) :]))
    ]


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def _callers(root: ObjectPlan, snapshot: Snapshot) -> list[Deployed]:
    """Objects whose text calls a function; not every database notes that among the dependencies."""
    names = [each.name for each in versions(root.name, snapshot)]
    return [
        each
        for each in snapshot.objects.values()
        if each.kind in (*BESIDE, "SINK") and any(sqltext.calls(snapshot.text(each), name) for name in names)
    ]


def _fingerprint(entry: Entry | None, text: str) -> str:
    return entry.fingerprint if entry is not None else hashlib.sha256(text.encode()).hexdigest()[:16]


def _dependent(base: ObjectPlan, work: _Work) -> ObjectPlan:
    if base.kind in BESIDE or base.kind in FOLLOWERS or base.kind == "INDEX":
        if not base.sql or sqltext.references(base.sql) is None:
            return replace(base, action="refuse", reason=f"{base.reason}; its text cannot be read here: drop it by hand first")
        if base.kind in BESIDE:
            return replace(base, action="replace")
        if base.kind == "SINK":
            return _sink(base, work)
        return _subscription(base) if base.kind == "SUBSCRIPTION" else replace(base, action="recreate")
    return replace(
        base, action="refuse", reason=f"{base.reason}; a {base.kind.lower()} cannot be built anew: drop it by hand first"
    )


def _ordered(work: _Work) -> list[ObjectPlan]:
    """In the order of the folders, and each behind all that it reads; others behind what they are built on."""
    by_name = {each.name: key for key, each in work.plans.items() if each.kind != "FUNCTION"}
    order: dict[tuple[str, str], None] = {}

    def visit(key: tuple[str, str], on_the_way: frozenset[tuple[str, str]]) -> None:
        if key in order or key in on_the_way:
            return
        each = work.plans[key]
        for name in _reads(each, work.snapshot):
            if name in by_name:
                visit(by_name[name], on_the_way | {key})
        order[key] = None

    for key in list(work.plans):
        visit(key, frozenset())
    return [work.plans[key] for key in order]


def _reads(each: ObjectPlan, snapshot: Snapshot) -> list[str]:
    found = sqltext.references(each.sql) if each.sql else []
    if found is None:
        return [snapshot.objects[i].name for i in sorted(snapshot.below.get(each.old_id, ())) if i in snapshot.objects]
    return [reference.name for reference in found]


def _reading(moved: Iterable[str], ordered: Sequence[ObjectPlan]) -> set[str]:
    """Names of new objects that read what is exchanged, or each other."""
    names, result = set(moved), set[str]()
    for each in ordered:
        if each.action != "create" or not each.sql:
            continue
        found = {reference.name for reference in sqltext.references(each.sql) or ()}
        calls = any(
            sqltext.calls(each.sql, other.name) for other in ordered if other.kind == "FUNCTION" and other.name in names
        )
        if found & (names | result) or calls:
            result.add(each.name)
    return result


def _with_dependents(each: ObjectPlan, work: _Work) -> ObjectPlan:
    if not each.old_id or each.action in ("unchanged", "create"):
        return each
    found: Mapping[int, Deployed] = {
        other.id: other for start in _places(each, work.snapshot) for other in dependents(work.snapshot, start)
    }
    return replace(each, dependents=tuple(found[number].name for number in sorted(found)))
