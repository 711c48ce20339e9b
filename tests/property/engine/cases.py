"""One example: tables, a few views over them, some there from the start and some created later, and a stream of epochs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from engine.sql.errors import SqlError
from tests.property.engine.harness import EngineBox, Follower, Oracle, bag, difference
from tests.property.engine.queries import RULES, Grammar, Names
from tests.property.engine.streams import Epoch, Model, Table, epochs, tables
from tests.property.engine.text import Col, Rel, Sql, same

SEEN: Counter[str] = Counter()
"""How many comparisons had rows, and how many were of nothing with nothing."""


@dataclass(frozen=True)
class ViewCase:
    """A view: what the engine is told, what the oracle runs, and before which epoch it is created."""

    name: str
    statement: str
    oracle: str
    materialized: bool
    created_at: int


@dataclass(frozen=True)
class Case:
    tables: tuple[Table, ...]
    views: tuple[ViewCase, ...]
    epochs: tuple[Epoch, ...]

    def __repr__(self) -> str:
        """As a script, so that a failure can be kept as a file."""
        lines = [table.ddl + ";" for table in self.tables]
        for number, epoch in enumerate(self.epochs):
            lines += [f"{v.statement};  -- oracle: {v.oracle}" for v in self.views if v.created_at == number]
            how = "in one buffer" if epoch.buffered else "by statements"
            lines += [f"  {c.op} {c.table} {c.row}" for c in epoch.changes] + [f"FLUSH;  -- epoch {number}, {how}"]
        return "\n" + "\n".join(lines)


@st.composite
def cases(draw: DrawFn, view_count: int = 4) -> Case:
    given = draw(tables())
    names = Names()
    values = Rel(same("(VALUES (1, 'a'), (2, NULL), (3, 'b'))"), (Col("column1", "int"), Col("column2", "text")), None)
    constants = Rel(
        Sql(f"(SELECT * FROM {values.item.engine} AS v(n, m))", f"(SELECT * FROM {values.item.oracle} AS v(n, m))"),
        (Col("n", "int"), Col("m", "text")),
        frozenset({"n"}),
    )
    sources = [table.rel for table in given]
    count = draw(st.integers(2, 4))
    views: list[ViewCase] = []
    rules = draw(st.permutations(sorted(set(RULES))))
    for number in range(view_count):
        pool = [*sources, *sources, constants] if number % 3 == 2 else sources
        query = Grammar(draw, pool, names).query(draw(st.integers(1, 3)), rules[number])
        name = f"v{number}"
        materialized = draw(st.integers(0, 4)) != 4
        created_at = draw(st.sampled_from([0, 0, 1]))
        created_at = max(created_at, max((v.created_at for v in views), default=0))
        body = query.item.engine[1:-1]
        kind = "MATERIALIZED VIEW" if materialized else "VIEW"
        views.append(ViewCase(name, f"CREATE {kind} {name} AS {body}", query.item.oracle[1:-1], materialized, created_at))
        # Later queries may read this one.
        sources.append(Rel(Sql(name, query.item.oracle), query.columns, query.unique, (), named=True))
    return Case(tuple(given), tuple(views), tuple(draw(epochs(given, count))))


def check(case: Case, box: EngineBox, oracle: Oracle, *, reopen: bool = False) -> None:
    """Run the case; every view must equal its query from scratch after every epoch, and its changelog must add up.

    Raises:
        AssertionError: it does not; the engine is started over, as its state cannot be trusted.
    """
    try:
        _run(case, box, oracle, reopen)
    except BaseException:
        box.start_over()
        raise


def _run(case: Case, box: EngineBox, oracle: Oracle, reopen: bool) -> None:
    model = Model({table.name: table for table in case.tables})
    for table in case.tables:
        box.run(table.ddl)
    followers: dict[str, Follower] = {}
    for number, epoch in enumerate(case.epochs):
        oracle.load(model)
        for view in case.views:
            if view.created_at == number:
                box.run(view.statement)
                if view.materialized:
                    followers[view.name] = Follower(box, view.name)
                _compare(box, oracle, view, f"when it was created, before epoch {number}")
        box.write(epoch, dict(model.tables))
        box.run("FLUSH")
        for change in epoch.changes:
            model.apply(change)
        oracle.load(model)
        for table in case.tables:
            _compare_rows(f"table {table.name}", box.rows(f"SELECT * FROM {table.name}"), oracle.rows(f"FROM {table.name}"))
        for view in case.views:
            if view.created_at > number:
                continue
            _compare(box, oracle, view, f"after epoch {number}")
            if view.materialized:
                follower = followers[view.name]
                follower.follow()
                problem = difference(follower.state, bag(box.rows(f"SELECT * FROM {view.name}")))
                assert problem is None, f"the changelog of {view.name} does not add up after epoch {number}: {problem}"
        if reopen:
            box.reopen()
            for follower in followers.values():
                follower.declare("now()")
    for follower in followers.values():
        follower.close()
    box.note_operators()
    box.run("; ".join(f"DROP TABLE {table.name} CASCADE" for table in case.tables))
    leftover = [o.name for o in box.engine.catalog.objects.values() if o.kind in ("view", "materialized view")]
    if leftover:  # over constants only
        box.run("; ".join(f"DROP {_kind(box, name)} IF EXISTS {name} CASCADE" for name in leftover))


def _kind(box: EngineBox, name: str) -> str:
    return next(o.kind for o in box.engine.catalog.objects.values() if o.name == name)


def _compare(box: EngineBox, oracle: Oracle, view: ViewCase, when: str) -> None:
    wanted = oracle.rows(view.oracle)
    SEEN["filled" if wanted else "empty"] += 1
    try:
        found = box.rows(f"SELECT * FROM {view.name}")
    except SqlError as error:
        # A plain view is a query: it is refused where a materialized view has NULL.
        if view.materialized or "TRY(" not in view.oracle or not error.sqlstate.startswith("22"):
            raise
        return
    _compare_rows(f"{view.name} {when}: {view.statement}", found, wanted)


def _compare_rows(what: str, found: list[tuple[object, ...]], wanted: list[tuple[object, ...]]) -> None:
    problem = difference(bag(found), bag(wanted))
    assert problem is None, f"{what}: {problem}"
