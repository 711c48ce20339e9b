"""Set-returning functions in FROM, LATERAL and the SELECT list, in views and ad hoc, equal plain DuckDB after every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from engine.sql.errors import SqlError
from tests.property.engine.harness import EngineBox
from tests.unit.engine.plan.comparison import follow


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


_DUCK_SERIES = "(SELECT k, x, unnest(generate_series(1, x)) AS i FROM a)"
QUERIES = {
    "select_list": ("SELECT k, unnest(ARRAY[x, y]) AS u FROM a", "SELECT k, unnest([x, y]) AS u FROM a"),
    "select_twice": (
        "SELECT k, unnest(ARRAY[x, y]) AS u, generate_series(1, 3) AS i FROM a",
        "SELECT k, unnest([x, y, NULL]) AS u, unnest([1, 2, 3]) AS i FROM a",
    ),
    "expression": ("SELECT k, unnest(ARRAY[x, y]) + 1 AS u FROM a", "SELECT k, unnest([x, y]) + 1 AS u FROM a"),
    "from_comma": ("SELECT a.k, i FROM a, generate_series(1, a.x) AS i", f"SELECT k, i FROM {_DUCK_SERIES}"),
    "from_ordinality": (
        "SELECT a.k, u.v, u.n FROM a CROSS JOIN unnest(ARRAY[x, y, 7]) WITH ORDINALITY AS u (v, n)",
        "SELECT k, unnest([x, y, 7]) AS v, unnest([1, 2, 3]) AS n FROM a",
    ),
    "left_lateral": (
        "SELECT a.k, g.i FROM a LEFT JOIN LATERAL generate_series(1, a.x) AS g (i) ON true",
        f"SELECT a.k, i FROM a LEFT JOIN {_DUCK_SERIES} AS t ON t.k = a.k",
    ),
    "left_lateral_condition": (
        "SELECT a.k, g.i FROM a LEFT JOIN LATERAL generate_series(1, a.x) AS g (i) ON g.i > a.y",
        f"SELECT a.k, i FROM a LEFT JOIN {_DUCK_SERIES} AS t ON t.k = a.k AND i > a.y",
    ),
    "several": (
        "SELECT a.k, u.p, u.q FROM a, unnest(ARRAY[x, y], ARRAY['m', s, 'n']) AS u (p, q)",
        "SELECT k, unnest([x, y, NULL]) AS p, unnest(['m', s, 'n']) AS q FROM a",
    ),
    "aggregated": (
        "SELECT i, count(*) AS n, sum(a.y) AS s FROM a, generate_series(1, a.x) AS g (i) GROUP BY i",
        "SELECT i, count(*) AS n, sum(y) AS s FROM (SELECT y, unnest(generate_series(1, x)) AS i FROM a) GROUP BY i",
    ),
    "array_aggregate": (
        "SELECT s, unnest(array_agg(k ORDER BY k)) AS u FROM a GROUP BY s",
        "SELECT s, unnest(u) AS u FROM (SELECT s, list(k ORDER BY k) AS u FROM a GROUP BY s)",
    ),
    "in_subquery": (
        "SELECT k, (SELECT count(*) FROM generate_series(1, a.x) AS i WHERE i > a.y) AS n FROM a",
        f"SELECT a.k, (SELECT count(*) FROM {_DUCK_SERIES} AS t WHERE t.k = a.k AND i > a.y) AS n FROM a",
    ),
    "joined": (
        "SELECT a.k, b.k AS l, i FROM a JOIN b ON a.x = b.x, LATERAL (SELECT i FROM generate_series(0, b.z) AS i WHERE i <> a.y) AS g",
        "SELECT k, l, i FROM (SELECT a.k, b.k AS l, a.y, unnest(generate_series(0, b.z)) AS i FROM a JOIN b ON a.x = b.x) WHERE i <> y",
    ),
}


def test_set_functions_equal_duckdb_after_every_epoch(box: EngineBox) -> None:
    follow(box, QUERIES, seed=11)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT * FROM generate_series(1, 5, 2)", [(1,), (3,), (5,)]),
        ("SELECT * FROM range(1, 4) AS t (x)", [(1,), (2,), (3,)]),
        ("SELECT * FROM generate_series(1.0, 2.0, 0.5)", [(Decimal("1.0"),), (Decimal("1.5"),), (Decimal("2.0"),)]),
        ("SELECT * FROM range(2.0, 1.0, -0.5)", [(Decimal("2.0"),), (Decimal("1.5"),)]),
        ("SELECT generate_series(3, 1, -1)", [(3,), (2,), (1,)]),
        ("SELECT count(*) FROM generate_series('2024-01-01'::timestamp, '2024-01-02', INTERVAL '6 hours')", [(5,)]),
        ("SELECT * FROM unnest(ARRAY[ARRAY[1, 2], ARRAY[3]])", [(1,), (2,), (3,)]),
        ("SELECT jsonb_array_elements_text('[1, \"b\", null]'::jsonb)", [("1",), ("b",), (None,)]),
        ('SELECT * FROM jsonb_object_keys(\'{"b": 1, "a": 2}\'::jsonb)', [("a",), ("b",)]),
        ('SELECT key, value FROM jsonb_each_text(\'{"b.c": 1, "a": "x"}\'::jsonb)', [("a", "x"), ("b.c", "1")]),
        (
            "SELECT regexp_matches('foobarbequebazilbarfbonk', '(b[^b]+)(b[^b]+)', 'g')",
            [(["bar", "beque"],), (["bazil", "barf"],)],
        ),
        ("SELECT regexp_matches('foobarbequebaz', 'ba.')", [(["bar"],), (["baz"],)]),
        ("SELECT * FROM generate_subscripts(ARRAY['a', 'b'], 1)", [(1,), (2,)]),
        ("SELECT x, o FROM unnest(ARRAY['p', 'q']) WITH ORDINALITY AS t (x, o)", [("p", 1), ("q", 2)]),
    ],
)
def test_set_functions_of_constants(box: EngineBox, sql: str, rows: list[tuple[object, ...]]) -> None:
    assert box.rows(sql) == rows


@pytest.mark.parametrize(
    ("sql", "state"),
    [
        ("SELECT 1 WHERE unnest(ARRAY[1]) = 1", "0A000"),
        ("SELECT unnest(ARRAY[unnest(ARRAY[1])])", "0A000"),
        ("SELECT unnest(1)", "42883"),
        ("SELECT unnest(v), count(*) FROM (VALUES (ARRAY[1])) AS t (v) GROUP BY 1", "0A000"),
        ("SELECT rank() OVER (ORDER BY unnest(v)) FROM (VALUES (ARRAY[1])) AS t (v)", "0A000"),
        ("SELECT * FROM generate_series(1, 2) AS t (a, b)", "42P10"),
        ("SELECT regexp_matches('a', '(')", "2201B"),
        ("SELECT * FROM (VALUES (1)) AS t (x) RIGHT JOIN LATERAL (SELECT t.x) AS u ON true", "42P10"),
    ],
)
def test_what_is_wrong_with_a_set_function_is_said(box: EngineBox, sql: str, state: str) -> None:
    with pytest.raises(SqlError) as caught:
        box.run(sql)
    assert caught.value.sqlstate == state
