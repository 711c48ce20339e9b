"""The statements of an exchange, in order, and which of them are done already.

Whether a step is done can always be seen in the catalog, because a swap moves names and leaves ids: so a run that was cut
off between any two statements is taken up by the next one, which looks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from pipelines import sqltext
from pipelines.ledger import Entry
from pipelines.planning import BESIDE, FOLLOWERS, INPUTS, ObjectPlan, Plan, versions
from pipelines.snapshot import Snapshot

Phase = Literal["build", "switch", "clean"]


@dataclass(frozen=True)
class Step:
    """One statement.

    Attributes:
        phase: what was built can be dropped again; from the first switch on there is only forward.
        verb: what it does to the object `name`.
        old_id: of the object that is swapped away or dropped; 0 when there is none.
        final: the name that a built object has in the end.
        place: of the statement, `file:line:column`.
        settings: session settings around the statement.
    """

    phase: Phase
    verb: Literal["create", "swap", "drop"]
    kind: str
    name: str
    sql: str
    old_id: int = 0
    final: str = ""
    place: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Journal:
    """An exchange that is under way: all its steps, and what the ledger is to say in the end."""

    steps: tuple[Step, ...]
    entries: tuple[Entry, ...]

    def dumps(self) -> str:
        return json.dumps({"steps": [asdict(s) for s in self.steps], "entries": [asdict(e) for e in self.entries]})

    @staticmethod
    def loads(text: str) -> Journal:
        found = json.loads(text)
        return Journal(tuple(Step(**each) for each in found["steps"]), tuple(Entry(**each) for each in found["entries"]))

    @property
    def temporary(self) -> list[str]:
        """Names of what was built; before the first swap they are as good as not there."""
        return [step.name for step in self.steps if step.phase == "build"]


def steps(plan: Plan, snapshot: Snapshot, settings: Mapping[str, Mapping[str, str]] | None = None) -> Journal:
    """The steps that a plan's exchange takes.

    Args:
        settings: by source, for the session that creates it.
    """
    given = settings or {}
    relations = {each.name: each.next_name for each in plan.rebuilt if each.kind in (*BESIDE, *INPUTS) and each.old_id}
    functions = {
        version.name: each.next_name
        for each in plan.rebuilt
        if each.kind == "FUNCTION"
        for version in versions(each.name, snapshot)
    }
    build: list[Step] = []
    for each in plan.rebuilt:
        build += _build(each, relations, functions, given.get(each.name, {}))
    swaps = [_swap(each) for each in plan.rebuilt if each.kind in (*BESIDE, *INPUTS) and each.old_id]
    follow = [step for each in plan.rebuilt if each.kind in FOLLOWERS for step in _follower(each, functions)]
    entries = tuple(
        Entry(each.name, each.kind, each.pipeline, each.place, each.fingerprint, "applied", each.sql) for each in plan.rebuilt
    )
    return Journal((*build, *swaps, *follow, *_clean(plan, snapshot)), entries)


def refreshed(journal: Journal, texts: Mapping[tuple[str, str], tuple[str, str]]) -> Journal:
    """The journal with sinks, subscriptions and indexes as the folders describe them now.

    They are made after the swaps, so one that the database refuses must not keep the exchange from ever being finished.

    Args:
        texts: (statement, fingerprint) by (name, kind).
    """

    def step_now(step: Step) -> Step:
        given = texts.get((step.final or step.name, step.kind))
        if given is None or step.verb != "create" or not (step.kind in FOLLOWERS or step.kind == "INDEX"):
            return step
        return replace(step, sql=_beside(given[0], step) if step.final else given[0])

    def entry_now(entry: Entry) -> Entry:
        given = texts.get((entry.name, entry.kind))
        if given is None or not (entry.kind in FOLLOWERS or entry.kind == "INDEX"):
            return entry
        return replace(entry, sql=given[0], fingerprint=given[1])

    return Journal(tuple(step_now(s) for s in journal.steps), tuple(entry_now(e) for e in journal.entries))


def done(step: Step, snapshot: Snapshot) -> bool:
    """Whether the catalog shows the effect of a step."""
    if step.verb == "drop":
        return step.old_id not in snapshot.objects
    names = {step.name, step.final or step.name} if step.verb == "create" else {step.name}
    found = [snapshot.find(name, step.kind) for name in names]
    return any(each is not None and each.id != step.old_id for each in found)


def switched(journal: Journal, snapshot: Snapshot) -> bool:
    """Whether a name means the new object already, so that there is no way back."""
    swaps = [step for step in journal.steps if step.phase != "build"]
    return bool(swaps) and done(swaps[0], snapshot)


def undo(journal: Journal, snapshot: Snapshot) -> list[str]:
    """Statements that drop what was built, last built first."""
    there = [step for step in journal.steps if step.phase == "build" and done(step, snapshot)]
    return [f"DROP {step.kind} {sqltext.quote(step.name)}" for step in reversed(there)]


# -- below: called by the above


def _build(
    each: ObjectPlan, relations: Mapping[str, str], functions: Mapping[str, str], settings: Mapping[str, str]
) -> list[Step]:
    if each.kind in FOLLOWERS or each.kind == "INDEX":  # they wait until the names mean what they are to mean
        return []
    text = sqltext.retarget(each.sql, relations, functions) if each.kind != "FUNCTION" else each.sql
    if not each.old_id:
        return [Step("build", "create", each.kind, each.name, text, place=each.place, settings=dict(settings))]
    if each.kind == "FUNCTION":
        text = sqltext.with_symbol(text, each.name, each.next_name)
    name, final = each.next_name, "" if each.kind == "FUNCTION" else each.name
    text = sqltext.with_name(text, name)
    return [Step("build", "create", each.kind, name, text, each.old_id, final, each.place, dict(settings))]


def _swap(each: ObjectPlan) -> Step:
    text = f"ALTER {each.kind} {sqltext.quote(each.name)} SWAP WITH {sqltext.quote(each.next_name)}"
    return Step("switch", "swap", each.kind, each.name, text, each.old_id)


def _follower(each: ObjectPlan, functions: Mapping[str, str]) -> list[Step]:
    """Sinks and subscriptions: the new one begins before the old one ends, so that no change is lost between them."""
    text = sqltext.retarget(each.sql, {}, functions)
    if not each.old_id:
        return [Step("switch", "create", each.kind, each.name, text, place=each.place)]
    first = Step("switch", "create", each.kind, each.next_name, "", each.old_id, each.name, each.place)
    return [
        replace(first, sql=_beside(text, first)),
        _swap(each),
        Step("switch", "drop", each.kind, each.next_name, _drop(each.kind, each.next_name), each.old_id),
    ]


def _beside(sql: str, step: Step) -> str:
    text = sqltext.with_name(sql, step.name)
    if step.kind == "SINK" and sqltext.query_of(sql) is None:
        return sqltext.with_option(text, "snapshot", "false")
    return text


def _clean(plan: Plan, snapshot: Snapshot) -> list[Step]:
    """Drop the old ones, last built first, then give the names of functions and indexes to the new ones."""
    result: list[Step] = []
    for each in reversed(plan.rebuilt):
        if not each.old_id or each.kind == "FUNCTION" or each.kind in FOLLOWERS:
            continue
        name = each.name if each.kind == "INDEX" else each.next_name
        result.append(Step("clean", "drop", each.kind, name, _drop(each.kind, name), each.old_id))
    for each in plan.rebuilt:
        if each.kind == "FUNCTION" and each.old_id:
            old = [version for version in versions(each.name, snapshot) if version.name != each.next_name]
            result += [Step("clean", "drop", each.kind, v.name, _drop(each.kind, v.name), v.id) for v in old]
            result.append(Step("clean", "create", each.kind, each.name, each.sql, each.old_id, place=each.place))
        elif each.kind == "INDEX":
            result.append(Step("clean", "create", each.kind, each.name, each.sql, each.old_id, place=each.place))
    return result


def _drop(kind: str, name: str) -> str:
    return f"DROP {kind} {sqltext.quote(name)}"


def with_times(journal: Journal, measured: Mapping[str, tuple[int, float]]) -> Journal:
    """The journal whose entries tell what building took: rows and seconds by name."""
    return replace(
        journal,
        entries=tuple(
            replace(each, built_rows=measured[each.name][0], built_seconds=measured[each.name][1])
            if each.name in measured
            else each
            for each in journal.entries
        ),
    )
