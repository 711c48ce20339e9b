"""ASOF joins equal plain DuckDB; temporal joins take back what they gave; a changelog tells every change once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.sql.errors import SqlError
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import Pair, alike, comparable, follow


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


ASOF = alike(
    "SELECT a.k, b.k AS l, b.z FROM a ASOF JOIN b ON a.x = b.x AND a.y >= b.k",
    "SELECT a.k, b.k AS l, b.z FROM a ASOF LEFT JOIN b ON a.x = b.x AND a.y > b.k",
    "SELECT a.k, b.k AS l FROM a ASOF JOIN b ON b.k >= a.y AND a.s = b.s AND a.x = b.x",
)


def test_asof_joins_equal_duckdb_after_every_epoch(box: EngineBox) -> None:
    follow(box, ASOF, seed=19, epochs=6)


@pytest.mark.parametrize(
    "on", ["l.v = r.v", "l.v >= r.v", "l.v = r.v AND l.v >= r.v AND l.v <= r.v", "l.v = r.v AND l.v <> r.v"]
)
def test_an_asof_join_has_equalities_and_one_inequality(box: EngineBox, on: str) -> None:
    with pytest.raises(SqlError) as caught:
        box.run(f"SELECT 1 FROM (VALUES (1)) AS l (v) ASOF JOIN (VALUES (1)) AS r (v) ON {on}")
    assert caught.value.sqlstate == "0A000"


def test_a_temporal_join_takes_back_what_it_gave(box: EngineBox) -> None:
    box.run("CREATE TABLE fact (k INT PRIMARY KEY, d INT, v INT)")
    box.run("CREATE TABLE dim (d INT PRIMARY KEY, name VARCHAR)")
    for kind in ("", "LEFT "):
        box.run(
            f"CREATE MATERIALIZED VIEW seen{len(kind)} AS SELECT k, v, name FROM fact {kind}JOIN dim FOR SYSTEM_TIME AS OF PROCTIME()"
            " ON fact.d = dim.d"
        )

    def seen(kind: str) -> list[tuple[object, ...]]:
        return sorted(box.rows(f"SELECT * FROM seen{len(kind)}"))

    box.run("INSERT INTO dim VALUES (1, 'one'); FLUSH; INSERT INTO fact VALUES (10, 1, 0), (11, 1, 0), (12, 2, 0); FLUSH")
    assert seen("") == [(10, 0, "one"), (11, 0, "one")]
    box.run("UPDATE dim SET name = 'uno'; INSERT INTO dim VALUES (2, 'two'); FLUSH")
    assert seen("LEFT ") == [(10, 0, "one"), (11, 0, "one"), (12, 0, None)], "what was given is not revised"
    box.run("DELETE FROM fact WHERE k = 10; UPDATE fact SET v = 5 WHERE k = 11; UPDATE fact SET v = 6 WHERE k = 12; FLUSH")
    assert seen("") == [(11, 5, "uno"), (12, 6, "two")]
    assert seen("LEFT ") == [(11, 5, "uno"), (12, 6, "two")]
    box.run("DELETE FROM dim; FLUSH; DELETE FROM fact; FLUSH")
    assert (seen(""), seen("LEFT ")) == ([], [])


def test_a_temporal_join_without_an_equality_is_inner_over_append_only(box: EngineBox) -> None:
    box.run("CREATE TABLE facts2 (k INT PRIMARY KEY, d INT); CREATE TABLE dims2 (d INT PRIMARY KEY)")
    with pytest.raises(SqlError):
        box.run(
            "CREATE MATERIALIZED VIEW no AS SELECT k FROM facts2 JOIN dims2 FOR SYSTEM_TIME AS OF PROCTIME() ON facts2.d > dims2.d"
        )


def test_a_changelog_tells_every_change_once(box: EngineBox) -> None:
    """Adding up the changes of every row gives the table; the rows of the changelog are never taken back."""
    pair = Pair(box, {}, seed=23)
    box.run("CREATE MATERIALIZED VIEW raw AS WITH c AS CHANGELOG FROM a SELECT k, x, y, s, changelog_op FROM c")
    box.run(
        "CREATE MATERIALIZED VIEW folded AS WITH c AS CHANGELOG FROM a SELECT k, x, y, s FROM c GROUP BY k, x, y, s"
        " HAVING count(*) FILTER (WHERE changelog_op IN (1, 3)) > count(*) FILTER (WHERE changelog_op IN (2, 4))"
    )
    before = 0
    for _ in range(4):
        pair.epoch()
        assert comparable(box.rows("SELECT * FROM folded")) == comparable(box.rows("SELECT * FROM a"))
        ((count,),) = box.rows("SELECT count(*) FROM raw")
        assert count >= before
        before = count
    box.run("UPDATE a SET x = coalesce(x, 0) + 1; FLUSH; DELETE FROM a; FLUSH")
    ops = dict(box.rows("SELECT changelog_op, count(*) FROM raw GROUP BY changelog_op"))
    assert set(ops) == {1, 2, 3, 4}
    assert ops[3] == ops[4], "an update has two halves"
    assert next(j for j in box.engine.jobs.values() if j.object.name == "raw").root.append_only
    with pytest.raises(SqlError):
        box.run("WITH c AS CHANGELOG FROM a SELECT * FROM c")
    box.run("DROP MATERIALIZED VIEW folded; DROP MATERIALIZED VIEW raw")
    pair.close()
