"""Members of jsonb by name are read by DuckDB where that gives the same: here it is compared with Python's reading."""

from __future__ import annotations

import json
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.functions.json import _GET, _GET_RAW, _GET_TEXT
from engine.functions.native import register_functions

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


@settings(max_examples=300, deadline=None, database=None)
@given(pairs=st.lists(st.tuples(any_document, st.sampled_from(KEYS)), min_size=1, max_size=40))
def test_members_are_what_python_reads(connection: duckdb.DuckDBPyConnection, pairs: list[tuple[object, str]]) -> None:
    rows = pa.table({"d": [json.dumps(d, ensure_ascii=False) for d, _ in pairs], "k": [k for _, k in pairs]})
    connection.register("given_rows", rows)
    source = "(SELECT CAST(d AS JSON) AS d, k FROM given_rows)"
    fast = ", ".join(template.format("d", "k") for template in (_GET_TEXT, _GET))
    slow = "hr_json_get_text(CAST(d AS VARCHAR), k), CAST(hr_json_get(CAST(d AS VARCHAR), k) AS JSON)"
    assert (
        connection.execute(f"SELECT {fast} FROM {source}").fetchall()
        == connection.execute(f"SELECT {slow} FROM {source}").fetchall()
    )
    # A member that is only looked into may be in any form.
    through = ", ".join(template.format(_GET_RAW.format("d", "k"), "k") for template in (_GET_TEXT, _GET))
    slow = "hr_json_get_text(hr_json_get(CAST(d AS VARCHAR), k), k), CAST(hr_json_get(hr_json_get(CAST(d AS VARCHAR), k), k) AS JSON)"
    assert (
        connection.execute(f"SELECT {through} FROM {source}").fetchall()
        == connection.execute(f"SELECT {slow} FROM {source}").fetchall()
    )
