"""Members of jsonb by name are read by DuckDB where that gives the same: here it is compared with Python's reading."""

from __future__ import annotations

import json
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.functions.json import _GET, _GET_TEXT, with_known_key
from engine.functions.native import register_functions
from engine.sql.expressions import Call, Column, Literal, render
from engine.sql.types import JSONB, VARCHAR

KEYS = ["a", "b", "a b", "*", "$", "#", ".", "a.b", "0", "é", "", 'q"', "back\\slash", "'", "A", "/", "~", "[0]", "\n"]
scalars = (
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.integers(-3, 3) | st.text(max_size=6)
    | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["\\", '"', "\x1f", "\n", "é", "😀", "/", "1.0", 1e16, 1e-5, 0.1, 100.0, -0.0, 1e15, 0.0001])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
any_document = st.dictionaries(st.sampled_from(KEYS), values, max_size=6) | values


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    made = duckdb.connect(config={"threads": 1})
    register_functions(made)
    yield made
    made.close()


@settings(max_examples=200, deadline=None, database=None)
@given(pairs=st.lists(st.tuples(any_document, st.sampled_from(KEYS)), min_size=1, max_size=40))
def test_members_are_what_python_reads(connection: duckdb.DuckDBPyConnection, pairs: list[tuple[object, str]]) -> None:
    rows = pa.table({"d": [json.dumps(d, ensure_ascii=False) for d, _ in pairs], "k": [k for _, k in pairs]})
    connection.register("given_rows", rows)
    fast = ", ".join(template.format("d", "k") for template in (_GET_TEXT, _GET))
    slow = "hr_json_get_text(CAST(d AS VARCHAR), k), CAST(hr_json_get(CAST(d AS VARCHAR), k) AS JSON)"
    assert _answers(connection, fast) == _answers(connection, slow)


@settings(max_examples=200, deadline=None, database=None)
@given(documents=st.lists(any_document, min_size=1, max_size=40), keys=st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)))
def test_members_of_members_by_constants_are_what_python_reads(
    connection: duckdb.DuckDBPyConnection, documents: list[object], keys: tuple[str, str]
) -> None:
    connection.register("given_rows", pa.table({"d": [json.dumps(d, ensure_ascii=False) for d in documents]}))
    first, second = (Literal(VARCHAR, key) for key in keys)
    inner = with_known_key(Call(JSONB, "->", (Column(JSONB, 0), first), _GET))
    outer = [with_known_key(Call(JSONB, name, (inner, second), form)) for name, form in (("->>", _GET_TEXT), ("->", _GET))]
    fast = ", ".join(render(call, lambda _: "d") for call in (inner, *outer))
    inside, below = (render(key) for key in (first, second))
    read = f"hr_json_get(CAST(d AS VARCHAR), {inside})"
    slow = f"CAST({read} AS JSON), hr_json_get_text({read}, {below}), CAST(hr_json_get({read}, {below}) AS JSON)"
    assert _answers(connection, fast) == _answers(connection, slow)


def _answers(connection: duckdb.DuckDBPyConnection, items: str) -> list[tuple[object, ...]]:
    return connection.execute(f"SELECT {items} FROM (SELECT * REPLACE (CAST(d AS JSON) AS d) FROM given_rows)").fetchall()
