"""Planning as a pure function of statements and a snapshot of what is deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from pipelines import planning, steps
from pipelines.cost import costs
from pipelines.ledger import Entry
from pipelines.planning import Allowed, ObjectPlan, Plan
from pipelines.snapshot import Deployed, Snapshot
from pipelines.statements import SqlStatement, split
from pipelines.template import Rendered

TABLE = "CREATE TABLE t (x INT, g INT)"
A = "CREATE MATERIALIZED VIEW a AS SELECT g, sum(x) AS s FROM t GROUP BY g"
B = "CREATE MATERIALIZED VIEW b AS SELECT s FROM a"
C = "CREATE MATERIALIZED VIEW c AS SELECT count(*) AS n FROM t"
SINK = "CREATE SINK k FROM b WITH (connector = 'blackhole')"
QUERY_SINK = "CREATE SINK q AS SELECT s FROM b WITH (connector = 'blackhole')"
FUNCTION = "CREATE FUNCTION f(x INT) RETURNS INT LANGUAGE sql AS $$ SELECT x $$"
CALLS = "CREATE MATERIALIZED VIEW called AS SELECT f(x) AS y FROM t"


def statements(*texts: str) -> list[tuple[str, SqlStatement]]:
    text = ";\n".join(texts)
    return [("mine", each) for each in split(Rendered("a.sql", text, text))]


def deployed(*texts: str, below: Mapping[str, Sequence[str]] | None = None, alien: Sequence[str] = ()) -> Snapshot:
    """What an application of these texts leaves; `alien` texts are there without being in the ledger."""
    objects, entries = {}, {}
    for number, (_, each) in enumerate(statements(*texts, *alien), start=1001):
        kind = each.kind or ""
        objects[number] = Deployed(number, each.name, kind, each.text)
        if each.text not in alien:
            entries[(each.name, kind)] = Entry(each.name, kind, "mine", each.place(), each.fingerprint, "applied", each.text)
    numbers = {each.name: number for number, each in objects.items()}
    edges = {numbers[name]: frozenset(numbers[each] for each in names) for name, names in (below or {}).items()}
    return Snapshot(objects, edges, entries=entries)


EDGES = {"a": ["t"], "b": ["a"], "c": ["t"]}


def actions(plan: Plan) -> dict[str, str]:
    return {each.name: each.action for each in plan.objects}


def one(plan: Plan, name: str) -> ObjectPlan:
    return next(each for each in plan.objects if each.name == name)


def test_what_is_deployed_as_it_is_written_stays() -> None:
    snapshot = deployed(TABLE, A, B, below={"a": ["t"], "b": ["a"]})
    plan = planning.plan(statements(TABLE, A.lower().replace(" as s ", "  s /* sum */ "), B), snapshot)
    assert actions(plan) == {"t": "unchanged", "a": "unchanged", "b": "unchanged"}
    assert one(plan, "a").reason == "only its layout changed"
    assert not plan.rebuilt
    assert not plan.changes


def test_what_is_built_on_a_changed_view_is_exchanged_with_it_and_nothing_else() -> None:
    snapshot = deployed(TABLE, A, B, C, below=EDGES)
    plan = planning.plan(statements(TABLE, A.replace("sum", "max"), B, C), snapshot)
    assert actions(plan) == {"t": "unchanged", "a": "replace", "b": "replace", "c": "unchanged"}
    assert one(plan, "a").dependents == ("b",)
    assert one(plan, "b").because == ("a",)
    assert [each.name for each in plan.rebuilt] == ["a", "b"]


def test_objects_of_others_are_taken_along_behind_what_they_read() -> None:
    alien = "CREATE MATERIALIZED VIEW theirs AS SELECT * FROM b"
    snapshot = deployed(TABLE, A, B, below={**EDGES, "theirs": ["b"], "c": ["t"]}, alien=[C, alien])
    plan = planning.plan(statements(TABLE, A.replace("sum", "max"), B), snapshot)
    assert [each.name for each in plan.rebuilt] == ["a", "b", "theirs"]
    assert one(plan, "theirs").pipeline == planning.OUTSIDE
    assert "c" not in actions(plan)


def test_the_steps_build_all_then_swap_all_then_drop_last_built_first() -> None:
    snapshot = deployed(TABLE, A, B, below={"a": ["t"], "b": ["a"]})
    plan = planning.plan(statements(TABLE, A.replace("sum", "max"), B), snapshot)
    assert [step.sql for step in steps.steps(plan, snapshot).steps] == [
        "CREATE MATERIALIZED VIEW a__next AS SELECT g, max(x) AS s FROM t GROUP BY g",
        "CREATE MATERIALIZED VIEW b__next AS SELECT s FROM a__next AS a",
        "ALTER MATERIALIZED VIEW a SWAP WITH a__next",
        "ALTER MATERIALIZED VIEW b SWAP WITH b__next",
        "DROP MATERIALIZED VIEW b__next",
        "DROP MATERIALIZED VIEW a__next",
    ]


def test_each_step_is_seen_to_be_done_by_its_effect_on_the_catalog_alone() -> None:
    snapshot = deployed(TABLE, A, B, below={"a": ["t"], "b": ["a"]})
    plan = planning.plan(statements(TABLE, A.replace("sum", "max"), B), snapshot)
    journal = steps.Journal.loads(steps.steps(plan, snapshot).dumps())
    objects = dict(snapshot.objects)
    for number, step in enumerate(journal.steps):
        now = Snapshot(dict(objects), entries=snapshot.entries)
        assert [steps.done(each, now) for each in journal.steps] == [each < number for each in range(len(journal.steps))]
        assert steps.switched(journal, now) == (number > 2)
        if step.verb == "create":
            objects[2000 + number] = Deployed(2000 + number, step.name, step.kind)
        elif step.verb == "swap":
            (old,) = (o for o in objects.values() if o.name == step.name)
            (new,) = (o for o in objects.values() if o.name == f"{step.name}__next")
            objects |= {old.id: replace(old, name=new.name), new.id: replace(new, name=old.name)}
        else:
            del objects[step.old_id]
    assert all(steps.done(each, Snapshot(objects)) for each in journal.steps)


@pytest.mark.parametrize(
    ("new", "action", "reason"),
    [
        ("CREATE TABLE t (x INT, g INT, n INT DEFAULT 0)", "alter", "added at the end: `n`"),
        ("CREATE TABLE t (x INT, n INT, g INT)", "refuse", "not added at the end: `n`"),
        ("CREATE TABLE t (x INT)", "refuse", "dropped: `g`"),
        ("CREATE TABLE t (g INT, x INT)", "refuse", "another order"),
        ("CREATE TABLE t (x BIGINT, g INT)", "refuse", "definition of a column changed"),
        ("CREATE TABLE t (x INT, g INT, PRIMARY KEY (x))", "refuse", "options or constraints"),
        ("CREATE TABLE t (x INT, g INT, n INT) APPEND ONLY", "refuse", "not added at the end"),
    ],
)
def test_a_table_is_altered_only_by_columns_at_its_end(new: str, action: str, reason: str) -> None:
    snapshot = deployed(TABLE, A, below={"a": ["t"]})
    plan = planning.plan(statements(new, A), snapshot)
    assert one(plan, "t").action == action
    assert reason in one(plan, "t").reason
    assert one(plan, "a").action == "unchanged"
    allowed = planning.plan(statements(new, A), snapshot, Allowed(data_loss=True))
    assert [each.name for each in allowed.rebuilt] == ([] if action == "alter" else ["t", "a"])


def test_a_sink_is_refused_until_its_kind_of_repetition_is_allowed() -> None:
    snapshot = deployed(TABLE, A, B, SINK, QUERY_SINK, below={"a": ["t"], "b": ["a"], "k": ["b"], "q": ["b"]})
    changed = statements(TABLE, A, B.replace("SELECT s", "SELECT s + 1 AS s"), SINK, QUERY_SINK)
    assert {each.name for each in planning.plan(changed, snapshot).refused} == {"k", "q"}
    assert {each.name for each in planning.plan(changed, snapshot, Allowed(sink_rebuild=True)).refused} == {"q"}
    plan = planning.plan(changed, snapshot, Allowed(sink_rebuild=True, redelivery=True))
    assert not plan.refused
    sinks = [step.sql for step in steps.steps(plan, snapshot).steps if step.kind == "SINK"]
    assert sinks == [
        "CREATE SINK k__next FROM b WITH (snapshot = 'false', connector = 'blackhole')",
        "ALTER SINK k SWAP WITH k__next",
        "DROP SINK k__next",
        "CREATE SINK q__next AS SELECT s FROM b WITH (connector = 'blackhole')",
        "ALTER SINK q SWAP WITH q__next",
        "DROP SINK q__next",
    ]


def test_what_calls_a_changed_function_is_built_on_a_versioned_name_even_if_the_catalog_does_not_tell() -> None:
    snapshot = deployed(TABLE, FUNCTION, CALLS, below={"called": ["t"]})
    plan = planning.plan(statements(TABLE, FUNCTION.replace("SELECT x", "SELECT -x"), CALLS), snapshot)
    assert [each.name for each in plan.rebuilt] == ["f", "called"]
    version = one(plan, "f").next_name
    texts = [step.sql for step in steps.steps(plan, snapshot).steps]
    assert texts[0].startswith(f"CREATE FUNCTION {version}(x INT)")
    assert texts[1] == f"CREATE MATERIALIZED VIEW called__next AS SELECT {version}(x) AS y FROM t"
    assert texts[-2:] == ["DROP FUNCTION f", FUNCTION.replace("SELECT x", "SELECT -x")]


def test_a_new_object_that_reads_a_changed_one_waits_for_it() -> None:
    snapshot = deployed(TABLE, A, below={"a": ["t"]})
    plan = planning.plan(statements(TABLE, A.replace("sum", "max"), B, C), snapshot)
    assert [each.name for each in plan.rebuilt] == ["a", "b"]
    assert one(plan, "c").action == "create"


def test_objects_that_are_in_the_way_are_refused_and_those_that_are_gone_made_again() -> None:
    snapshot = deployed(TABLE, alien=[A])
    assert "not made by `headrace pipeline apply`" in one(planning.plan(statements(TABLE, A), snapshot), "a").reason
    gone = Snapshot(entries=snapshot.entries)
    assert actions(planning.plan(statements(TABLE), gone)) == {"t": "create"}


def test_what_left_its_folder_is_named_and_left_alone() -> None:
    snapshot = deployed(TABLE, A, below={"a": ["t"]})
    assert actions(planning.plan(statements(TABLE), snapshot)) == {"t": "unchanged", "a": "left"}


def test_the_cost_is_the_rows_below_and_the_rate_of_the_last_time() -> None:
    source = "CREATE SOURCE src (x INT) WITH (connector = 'kafka', scan.startup.mode = 'latest') FORMAT PLAIN ENCODE JSON"
    view = "CREATE VIEW v AS SELECT * FROM t"
    m = "CREATE MATERIALIZED VIEW m AS SELECT v.x FROM v JOIN src ON v.x = src.x"
    base = deployed(TABLE, source, view, m, below={"v": ["t"], "m": ["v", "src"]})
    entry = replace(base.entries[("m", "MATERIALIZED VIEW")], built_rows=10_000, built_seconds=5.0)
    snapshot = replace(base, rows={1001: 4_000}, entries={**base.entries, ("m", "MATERIALIZED VIEW"): entry})
    plan = planning.plan(statements(TABLE, source, view, m.replace("SELECT v.x", "SELECT src.x")), snapshot)
    cost = costs(plan, snapshot)["m"]
    assert (cost.reads, cost.seconds) == ({"t": 4_000}, 2.0)
    assert cost.topics == {"src": "its topic is read again from `latest`"}
