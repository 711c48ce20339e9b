"""Epochs of thousands of changes over thousands of rows: more than one vector and more than one thread, which the small ones never are."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from core.settings import EngineSettings
from tests.property.engine.harness import EngineBox, Follower, Oracle, bag, difference
from tests.property.engine.streams import Change, Epoch, Model, Table
from tests.property.engine.text import Col

_TABLES = {
    "t": Table("t", (Col("id", "int"), Col("g", "int"), Col("v", "float"), Col("s", "text")), (0,)),
    "u": Table("u", (Col("k", "int"), Col("w", "text")), (0,)),
}
_VIEWS = {
    "sums": "SELECT g, count(*) AS n, sum(v) AS s, min(v) AS low, max(s) AS high FROM t GROUP BY g",
    "distinct_texts": "SELECT g % 10 AS d, count(DISTINCT s) AS n FROM t GROUP BY g % 10",
    "inner_join": "SELECT t.id, u.w FROM t JOIN u ON t.g = u.k",
    "left_join": "SELECT t.id, u.w FROM t LEFT JOIN u ON t.g = u.k AND t.s = u.w",
    "full_join": "SELECT t.id, u.k FROM t FULL JOIN u ON t.g = u.k",
    "absent": "SELECT k FROM u WHERE NOT EXISTS (SELECT 1 FROM t WHERE t.g = u.k)",
    "ranks": "SELECT id, rank() OVER (PARTITION BY g ORDER BY v DESC) AS r, lag(s) OVER (PARTITION BY g ORDER BY id) AS before FROM t",
    "firsts": "SELECT id, g FROM (SELECT *, row_number() OVER (PARTITION BY g ORDER BY s, id) AS rn FROM t) AS x WHERE rn <= 2",
    "top": "SELECT id, v FROM t ORDER BY id LIMIT 2500",
    "either": "SELECT id AS n FROM t UNION SELECT k FROM u",
    "above": "SELECT n, count(*) AS groups FROM sums GROUP BY n",
}
_ORACLE = {
    **{name: query.replace("ORDER BY v DESC", "ORDER BY v DESC NULLS FIRST") for name, query in _VIEWS.items()},
    "above": f"SELECT n, count(*) AS groups FROM ({_VIEWS['sums']}) AS sums GROUP BY n",
}


@pytest.fixture
def box() -> Iterator[EngineBox]:
    made = EngineBox(settings=EngineSettings(epoch_interval_ms=3_600_000, epoch_max_rows=1_000_000, threads=2))
    yield made
    made.close()


def _epoch(chance: random.Random, count: int) -> Epoch:
    changes = []
    for _ in range(count):
        row = (
            chance.randint(1, 6000),
            chance.choice([None, *range(700)]),
            chance.choice([0.5, 2.0, -1.25, None]),
            chance.choice("abcd"),
        )
        changes.append(Change("t", "delete" if chance.random() < 0.25 else "put", row))
    changes += [_other(chance) for _ in range(count // 10)]
    return Epoch(tuple(changes), buffered=True)


def _other(chance: random.Random) -> Change:
    return Change("u", "delete" if chance.random() < 0.25 else "put", (chance.randint(0, 800), chance.choice("abcd")))


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.nightly), pytest.param(3, marks=pytest.mark.nightly)])
def test_views_equal_the_batch_query_after_large_epochs(seed: int, box: EngineBox) -> None:
    chance, model, oracle = random.Random(seed), Model(_TABLES), Oracle()
    for table in _TABLES.values():
        box.run(table.ddl)
    names = list(_VIEWS)
    followers: dict[str, Follower] = {}
    for number, count in enumerate([9000, 20, 5000]):
        for name in names if number == 0 else []:
            box.run(f"CREATE MATERIALIZED VIEW {name} AS {_VIEWS[name]}")
            followers[name] = Follower(box, name)
        epoch = _epoch(chance, count)
        box.write(epoch, _TABLES)
        box.run("FLUSH")
        for change in epoch.changes:
            model.apply(change)
        oracle.load(model)
        for name in names:
            found = bag(box.rows(f"SELECT * FROM {name}"))
            problem = difference(found, bag(oracle.rows(_ORACLE[name])))
            assert problem is None, f"{name} after epoch {number}: {problem}"
            followers[name].follow()
            assert difference(followers[name].state, found) is None, f"the changelog of {name} does not add up"
    for name in names:
        box.run(f"CREATE MATERIALIZED VIEW again_{name} AS {_VIEWS[name]}")
        assert difference(bag(box.rows(f"SELECT * FROM again_{name}")), bag(oracle.rows(_ORACLE[name]))) is None, name
