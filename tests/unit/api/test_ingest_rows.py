"""Bodies are cut into rows with their original bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.problems import TooLargeError
from api.ingest.rows import parse_rows

JSON = "application/json"
NDJSON = "application/x-ndjson"

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(), values, max_size=5)


@given(st.lists(objects, max_size=5), st.sampled_from([None, 2]))
def test_every_array_gives_its_elements_and_their_own_bytes(rows: list[dict[str, object]], indent: int | None) -> None:
    parsed = parse_rows(json.dumps(rows, indent=indent).encode(), content_type=JSON, max_rows=100)
    assert [row.value for row in parsed] == rows
    assert [json.loads(row.raw) for row in parsed] == rows
    assert [row.number for row in parsed] == list(range(len(rows)))


@given(st.lists(objects, min_size=1, max_size=5), st.sampled_from([JSON, NDJSON]))
def test_one_object_a_line_is_understood_under_both_content_types(rows: list[dict[str, object]], content_type: str) -> None:
    body = b"\n".join(json.dumps(row).encode() for row in rows)
    parsed = parse_rows(body, content_type=content_type, max_rows=100)
    assert [row.value for row in parsed] == rows


@given(st.binary(max_size=40), st.sampled_from([JSON, NDJSON]))
def test_no_bytes_make_the_parser_fail(body: bytes, content_type: str) -> None:
    for row in parse_rows(body, content_type=content_type, max_rows=100):
        assert (row.value is None) == (row.error is not None)


def test_numbers_keep_every_digit_they_were_written_with() -> None:
    (row,) = parse_rows(b'[ {"x": 0.1000000000000000055511151231257827} ]', content_type=JSON, max_rows=1)
    assert row.raw == b'{"x": 0.1000000000000000055511151231257827}'


def test_a_broken_line_is_refused_alone() -> None:
    parsed = parse_rows(b'{"a":1}\n{"a":\n{"a":3}\n', content_type=NDJSON, max_rows=10)
    assert [row.value for row in parsed] == [{"a": 1}, None, {"a": 3}]
    assert parsed[1].code == "malformed_json"
    assert parsed[1].raw == b'{"a":'


def test_a_broken_array_is_refused_whole_and_says_where_it_broke() -> None:
    body = b'[{"a":1},{"a":2},{"a":}]'
    (row,) = parse_rows(body, content_type=JSON, max_rows=10)
    assert (row.number, row.code, row.raw) == (2, "malformed_json", body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"tenant_id":"a","tenant_id":"b"}', "duplicate_key"),
        (b'{"tenant_id":"a","tenant\\u005fid":"b"}', "duplicate_key"),
        (b"3", "not_an_object"),
        (b"[[1]]", "not_an_object"),
        (b"[null]", "not_an_object"),
        (b'{"a":NaN}', "malformed_json"),
        (b'{"a":1} {"a":2}', "malformed_json"),
        (b'[{"a":1}', "malformed_json"),
        (b'[{"a":1},]', "malformed_json"),
        (b'[{"a":1}] x', "malformed_json"),
        (b"", "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b'{"a":' + b"9" * 5000 + b"}", "malformed_json"),
    ],
)
def test_what_is_no_row_is_named(body: bytes, code: str) -> None:
    rows = parse_rows(body, content_type=JSON, max_rows=10)
    assert [row.code for row in rows if row.value is None][-1] == code


def test_more_rows_than_allowed_are_refused_whole() -> None:
    for body, content_type in ((b"[{},{},{}]", JSON), (b"{}\n{}\n{}", NDJSON)):
        with pytest.raises(TooLargeError):
            parse_rows(body, content_type=content_type, max_rows=2)
