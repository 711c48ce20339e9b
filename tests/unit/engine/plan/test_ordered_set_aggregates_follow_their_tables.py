"""Aggregates with WITHIN GROUP equal plain DuckDB after every epoch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.sql.errors import SqlError
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import alike, follow


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


QUERIES = {
    **alike(
        "SELECT s, percentile_cont(0.4) WITHIN GROUP (ORDER BY x) AS p FROM a GROUP BY s",
        "SELECT s, percentile_disc(0.5) WITHIN GROUP (ORDER BY x) AS p FROM a GROUP BY s",
        "SELECT s, percentile_cont(0.25) WITHIN GROUP (ORDER BY x DESC) AS p, percentile_disc(0.3) WITHIN GROUP (ORDER BY y DESC) AS q"
        " FROM a GROUP BY s",
        "SELECT percentile_disc(1) WITHIN GROUP (ORDER BY s) AS p FROM a",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FILTER (WHERE y > 0) AS p FROM a",
    ),
    "mode": (
        "SELECT s, mode() WITHIN GROUP (ORDER BY x) AS m FROM a GROUP BY s",
        "SELECT s, (SELECT x FROM a AS b WHERE b.s IS NOT DISTINCT FROM a.s AND x IS NOT NULL GROUP BY x ORDER BY count(*) DESC, x LIMIT 1)"
        " AS m FROM a GROUP BY s",
    ),
}


def test_ordered_set_aggregates_equal_duckdb_after_every_epoch(box: EngineBox) -> None:
    follow(box, QUERIES, seed=17)


@pytest.mark.parametrize(
    ("call", "state"),
    [
        ("percentile_cont(0.5, v)", "42809"),
        ("sum(v) WITHIN GROUP (ORDER BY v)", "42809"),
        ("percentile_cont(1.5) WITHIN GROUP (ORDER BY v)", "22003"),
        ("percentile_cont(v) WITHIN GROUP (ORDER BY v)", "42804"),
        ("mode() WITHIN GROUP (ORDER BY v, v)", "42883"),
    ],
)
def test_what_is_wrong_with_an_ordered_set_aggregate_is_said(box: EngineBox, call: str, state: str) -> None:
    with pytest.raises(SqlError) as caught:
        box.run(f"SELECT {call} FROM (VALUES (1)) AS t (v)")
    assert caught.value.sqlstate == state
