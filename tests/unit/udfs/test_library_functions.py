"""The functions that come with headrace: `detect`, `profile`, `redact`."""

from __future__ import annotations

import gzip
import io
import json
import math
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.functions.examples import run_examples
from udfs.functions.loading import LOCK_FILE, load_folder
from udfs.library import FOLDER

DEFINITIONS = {each.served_as: each for each in load_folder(FOLDER)}
MODULE = {name: sys.modules[each.function.__module__] for name, each in DEFINITIONS.items()}
detect, redact = DEFINITIONS["detect@1"].function, DEFINITIONS["redact@1"].function
profile, merge = DEFINITIONS["profile@1"].function, DEFINITIONS["profile_merge@1"].function
read, quantile = DEFINITIONS["profile_read@1"].function, DEFINITIONS["profile_quantile@1"].function


def test_every_version_is_locked_and_its_examples_hold() -> None:
    locked = json.loads((FOLDER / LOCK_FILE).read_text())
    assert locked == {name: each.digest for name, each in DEFINITIONS.items()}
    results = [result for each in DEFINITIONS.values() for result in run_examples(each)]
    assert [result for result in results if not result.ok] == []
    assert {result.function for result in results} >= {"detect@1", "profile@1", "redact@1"}


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), buffer)
    return buffer.getvalue()


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(30)
CSV = "id;at;price;note\n" + "".join(f"{i};2026-01-{i % 28 + 1:02d};{i / 4};x{i}\n" for i in range(200))


@pytest.mark.parametrize(
    ("payload", "format_", "least"),
    [
        (b"", "empty", 1.0),
        (b'{"a": [1, 2]}', "json", 0.9),
        (b'[{"a": 1}, {"a": null}]', "json", 0.9),
        (b'{"a": 1}\n' * 50, "ndjson", 0.9),
        (CSV.encode(), "csv", 0.9),
        (b"\xef\xbb\xbf" + CSV.encode(), "csv", 0.9),
        (b"just a sentence, with a comma.", "text", 0.5),
        (b"  \n ", "text", 0.5),
        (b'<?xml version="1.0"?><a/>', "xml", 0.5),
        (parquet(), "parquet", 0.9),
        (PNG, "png", 0.7),
        (gzip.compress(b"hello"), "gz", 0.2),
        (bytes(range(256)) * 3, "unknown", 0.0),
        (b"\x80\x04\x95\x00", "pickle", 0.1),
        ("gr\u00fc\u00dfe".encode("latin-1") * 3, "unknown", 0.0),
    ],
)
def test_a_payload_is_told_by_its_bytes(payload: bytes, format_: str, least: float) -> None:
    found = detect(payload)
    assert found.format == format_
    assert least <= found.confidence <= 1.0


def test_columns_of_a_csv_get_sql_types_and_more_rows_more_confidence() -> None:
    schema = detect(CSV.encode()).schema
    assert [(each["name"], each["type"], each["nullable"]) for each in schema["columns"]] == [
        ("id", "BIGINT", False),
        ("at", "DATE", False),
        ("price", "DOUBLE PRECISION", False),
        ("note", "VARCHAR", False),
    ]
    assert schema["rows"] == 200
    few = detect("\n".join(CSV.splitlines()[:4]).encode()).schema
    assert few["columns"][0]["confidence"] < 0.5 < 0.95 < schema["columns"][0]["confidence"]


def test_columns_of_json_lines() -> None:
    lines = [
        {"id": i, "at": "2026-01-01T00:00:00Z", "v": i if i % 2 else i + 0.5, "o": {"x": 1}, "t": ["a"]} for i in range(40)
    ]
    lines[3] = {"id": 3, "v": None}
    found = detect("\n".join(map(json.dumps, lines)).encode())
    assert [(each["name"], each["type"], each["nullable"]) for each in found.schema["columns"]] == [
        ("id", "BIGINT", False),
        ("at", "TIMESTAMP WITH TIME ZONE", True),
        ("v", "DOUBLE PRECISION", True),
        ("o", "JSONB", True),
        ("t", "VARCHAR[]", True),
    ]


def test_one_bad_cell_in_a_hundred_lowers_the_confidence_and_not_the_type() -> None:
    rows = [f"{i},{i / 2}" for i in range(100)]
    rows[50] = "50,broken"
    (_, second) = detect("\n".join(["a,b", *rows]).encode()).schema["columns"]
    whole = detect("\n".join(["a,b", *rows[:50], *rows[51:]]).encode()).schema["columns"][1]
    assert second["type"] == whole["type"] == "DOUBLE PRECISION"
    assert second["confidence"] < whole["confidence"]


@settings(deadline=None, max_examples=200)
@given(payload=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_whatever_comes_is_answered(payload: bytes) -> None:
    found = detect(payload)
    assert 0.0 <= found.confidence <= 1.0


def test_a_payload_of_many_megabytes_is_looked_at_in_part() -> None:
    assert detect(b'{"a": 1}\n' * 1_000_000).format == "ndjson"
    assert detect(("[" + "1," * 3_000_000).encode()).format in ("text", "csv")
    assert detect(("\u00fc" * 600_000).encode()).format == "text", "a character may be cut in two"


numbers = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=60)


@settings(deadline=None, max_examples=200)
@given(parts=st.lists(numbers, max_size=6), data=st.data())
def test_merged_sketches_tell_what_one_sketch_of_all_tells_in_any_order(parts, data) -> None:
    everything = [value for part in parts for value in part]
    shuffled = data.draw(st.permutations(parts))
    whole, merged = profile(everything), merge([profile(part) for part in shuffled])
    for field in ("rows", "nulls", "count", "zeros", "positive", "negative"):
        assert merged[field] == whole[field]
    values = [value for value in everything if value is not None]
    told = read(merged)
    assert told.rows == len(everything)
    if not values:
        assert (told.mean, told.variance, told.p50) == (None, None, None)
        return
    scale = max(1.0, *(abs(value) for value in values))
    assert told.mean == pytest.approx(np.mean(values), abs=1e-9 * scale)
    assert told.variance == pytest.approx(np.var(values), rel=1e-6, abs=1e-9 * scale * scale)
    assert (told.minimum, told.maximum) == (min(values), max(values))


def test_quantiles_are_within_one_percent_of_a_value_of_that_rank() -> None:
    values = np.random.default_rng(0).lognormal(0, 3, 20_000) * np.where(np.arange(20_000) % 3, 1, -1)
    sketch = merge([profile(part.tolist()) for part in np.array_split(values, 37)])
    ordered = np.sort(values)
    for q in (0.0, 0.001, 0.1, 0.3334, 0.5, 0.9, 0.999, 1.0):
        exact = ordered[int(q * (len(values) - 1))]
        assert quantile(sketch, q) == pytest.approx(exact, rel=0.0101)


def test_variance_does_not_cancel_far_from_zero() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=5_000)
    told = read(merge([profile(part.tolist()) for part in np.array_split(values, 50)]))
    assert told.variance == pytest.approx(values.var(), rel=1e-6)


def test_what_is_no_number_is_counted_and_not_used() -> None:
    told = read(profile([1.0, None, math.nan, math.inf, 3.0]))
    assert (told.rows, told.nulls, told.not_finite, told.null_rate, told.mean) == (5, 1, 2, 0.2, 2.0)


def test_a_sketch_stays_small_whatever_comes() -> None:
    values = np.exp(np.random.default_rng(0).uniform(-600, 600, 50_000))
    sketch = profile(values.tolist())
    assert len(sketch["positive"]) <= 2_048
    assert sum(sketch["positive"].values()) == 50_000
    assert quantile(sketch, 0.99) == pytest.approx(np.sort(values)[int(0.99 * 49_999)], rel=0.0101)


@pytest.mark.parametrize("wrong", [{"a": 1}, ["text"], [{"rows": 1}], "text"])
def test_what_is_no_sketch_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="sketch"):
        merge(wrong)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("mail ann.b+c@example.co.uk now", "mail [EMAIL] now"),
        ("IBAN GB82 WEST 1234 5698 7654 32 PLEASE PAY", "IBAN [IBAN] PLEASE PAY"),
        ("IBAN GB82 WEST 1234 5698 7654 33", "IBAN GB82 WEST 1234 5698 7654 33"),
        ("cards 4111-1111-1111-1111 and 378282246310005.", "cards [CARD] and [CARD]."),
        ("order 4111111111111112 of 1234567812345670", "order 4111111111111112 of 1234567812345670"),
        ("ssn 536-90-4399, no ssn 000-12-3456", "ssn [SSN], no ssn 000-12-3456"),
        ("from 10.0.0.255 or 2001:db8::1 at 12:30:45", "from [IP_ADDRESS] or [IP_ADDRESS] at 12:30:45"),
        ("std::vector at 999.1.1.1", "std::vector at 999.1.1.1"),
        ("call +1 (555) 010-9999 today", "call [PHONE] today"),
        ("postgres://bob:s3cret@db/x", "postgres://[PASSWORD]@db/x"),
        ("key AKIAIOSFODNN7EXAMPLE", "key [ACCESS_KEY]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "[TOKEN]"),
        ("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----", "[PRIVATE_KEY]"),
        ("nothing at all, 3.14 and 2026-01-01T00:00:00Z", "nothing at all, 3.14 and 2026-01-01T00:00:00Z"),
    ],
)
def test_what_is_personal_or_secret_is_replaced_by_its_kind(text: str, clean: str) -> None:
    found = redact(text)
    assert found.text == clean
    rebuilt, at = [], 0
    for each in found.found:
        rebuilt += [text[at : each["start"]], f"[{each['kind'].upper()}]"]
        at = each["end"]
    assert "".join(rebuilt) + text[at:] == clean


@pytest.mark.parametrize(
    "hostile", ["a" * 200_000, "1 " * 100_000, "+1-" * 60_000, "A1" * 100_000, ":" * 100_000, "a@" * 100_000]
)
def test_no_text_takes_long(hostile: str) -> None:
    import time

    begun = time.process_time()
    redact(hostile)
    assert time.process_time() - begun < 5.0


def test_the_pipeline_declares_exactly_what_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    from headrace.cli import app
    from pipelines.folder import BUILT_IN

    app(["udfs", "sql", "--library"], standalone_mode=False)
    declared = (BUILT_IN / "functions" / "10_functions.sql").read_text()
    assert declared.partition("\n\n")[2] == capsys.readouterr().out
