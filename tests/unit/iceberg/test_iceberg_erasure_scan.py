"""The search finds a canary wherever bytes can hide it, and does not take somebody else for it."""

from __future__ import annotations

import gzip
import io
import json
import random
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.avro.decoder import new_decoder
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import write_manifest

from core.errors import InvalidInputError
from iceberg.erasure.needles import Needles
from iceberg.erasure.scan.avro_files import Neighbour
from iceberg.erasure.scan.other_files import look_segment, look_sqlite
from iceberg.erasure.scan.scanner import look
from iceberg.erasure.scan.traces import Findings, Whose
from iceberg.loading import must_load
from iceberg.storage import canonical
from tests.unit.iceberg.erasure_lake import WHO, fill

CANARY = "canary-4711-yellow"
ACME = Whose("acme")


def traces(data: bytes, name: str = CANARY, *, derived: frozenset[str] = frozenset()) -> Findings:
    return look(data, Needles(name, derived), ACME, {})[1]


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow_compressed(codec: str, content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(content)
    result: bytes = sink.getvalue().to_pybytes()
    return result


def snappy(content: bytes) -> bytes:
    packed: bytes = pa.Codec("snappy").compress(content, asbytes=True)
    return packed


def zipped(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", content)
    return sink.getvalue()


# Repeated so that no compression leaves the name standing as it is.
TEXT = b"0123456789 " * 50 + b" " + CANARY.encode() + b" " + b"abcdefghij " * 50

HIDDEN: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda c: c,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "lz4 frame": lambda c: arrow_compressed("lz4", c),
    "snappy, framed": lambda c: b"\xff\x06\x00\x00sNaPpY" + b"\x00" + (len(snappy(c)) + 4).to_bytes(3, "little") + b"\0\0\0\0" + snappy(c),
    "snappy, in Java's blocks": lambda c: b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + struct.pack(">i", len(snappy(c))) + snappy(c),
    "zip": zipped,
    "gzip in zstd": lambda c: zstandard.compress(gzip.compress(c)),
    "zstd in gzip in lz4": lambda c: arrow_compressed("lz4", gzip.compress(zstandard.compress(c))),
    "a frame amid other bytes": lambda c: random.Random(5).randbytes(5000) + gzip.compress(c) + random.Random(6).randbytes(5000),
    "escaped JSON": lambda _: json.dumps({"x": CANARY}).replace("canary", "c\\u0061nary").encode(),
    "JSON metadata, gzipped": lambda _: gzip.compress(json.dumps({"properties": {"owner": CANARY}}).encode()),
}  # fmt: skip


@pytest.mark.parametrize("how", HIDDEN)
def test_a_canary_is_found_however_it_is_packed(how: str) -> None:
    assert not traces(HIDDEN[how](TEXT)).clean
    assert traces(HIDDEN[how](TEXT).replace(b"c\\u0061nary", b"sparrow"), "some-other-name-12").clean


def test_half_a_compressed_file_proves_nothing() -> None:
    assert traces(gzip.compress(random.Random(1).randbytes(9000))[:4000], "nobody-at-all").unread


ROWS = pa.table(
    {
        "tenant_id": ["acme", "acme", "globex"],
        "name": [CANARY, "canary-4711-yellow-2", "robin"],
        "nested": [[{"a": "x"}], [{"a": CANARY}], []],
        "blob": [b"1", CANARY.encode(), None],
        "json": [json.dumps({"who": CANARY}), "{}", None],
    }
)


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_gives_up_a_canary_in_every_codec_and_kind_of_column(codec: str, version: Literal["1.0", "2.0"]) -> None:
    found = traces(parquet(ROWS, compression=codec, data_page_version=version))
    assert {"values of `name`", "values of `nested`", "values of `blob`", "values of `json`"} <= found.traces.keys()
    assert "dictionary page of `name`" in found.traces
    without = ROWS.filter(pa.array([False, False, True]))
    assert traces(parquet(without, compression=codec, data_page_version=version)).clean


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_parquet_gives_up_a_canary_in_every_encoding(encoding: str) -> None:
    column = pa.table({"name": ["canary-4711-blue", CANARY]})
    data = parquet(column, use_dictionary=False, column_encoding={"name": encoding}, write_statistics=False)
    assert traces(data).traces["values of `name`"] == 1


def test_a_dictionary_entry_that_no_row_uses_is_found() -> None:
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int32()), pa.array(["robin", CANARY]))
    data = parquet(pa.table({"name": dictionary}), compression="zstd", write_statistics=False, store_schema=False)
    assert CANARY not in pq.read_table(io.BytesIO(data)).column("name").to_pylist()
    assert traces(data).traces == {"dictionary page of `name`": 1}


def test_key_value_metadata_and_names_of_fields_are_read() -> None:
    schema = pa.schema([pa.field("n", pa.int64(), metadata={"about": CANARY})])
    assert traces(parquet(pa.table({"n": [1]}, schema=schema))).traces
    assert traces(parquet(pa.table({"n": [1]}).replace_schema_metadata({"owner": CANARY}))).traces
    assert traces(parquet(pa.table({CANARY: [1]}))).traces


def test_a_bloom_filter_that_still_answers_maybe_is_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "with.parquet"
    duckdb.sql(f"COPY (SELECT '{CANARY}' AS name, i FROM range(3000) t(i)) TO '{path}' (FORMAT parquet)")
    data = path.read_bytes()
    found = traces(data)
    assert found.traces["bloom filter of `name`"] == 1
    assert traces(data, "somebody-else").clean


def test_a_name_within_another_one_is_not_taken_for_it() -> None:
    others = pa.table({"name": ["canary-4711-yellow-2", "x-canary-4711-yellow", "canary-4711-yellow2"]})
    found = traces(parquet(others, compression="zstd"))
    assert found.clean, found.traces


def test_the_same_name_of_another_tenant_is_told_apart() -> None:
    theirs = pa.table({"tenant_id": ["globex"], "name": [CANARY]})
    found = traces(parquet(theirs))
    assert found.clean
    assert found.others["values of `name`"] == 1
    assert not traces(parquet(pa.table({"tenant_id": pa.array([None], pa.string()), "name": [CANARY]}))).clean


def test_a_broken_parquet_file_proves_nothing() -> None:
    data = bytearray(parquet(ROWS.select(["tenant_id"]), compression="zstd"))
    assert traces(b"PAR1 this is none PAR1").unread
    data[30:60] = bytes(30)
    assert traces(bytes(data)).unread


def test_derived_ids_are_found_among_many() -> None:
    dice = random.Random(3)
    ids = [dice.randbytes(16).hex() for _ in range(5000)]
    haystack = dice.randbytes(100_001) + ids[17].encode() + dice.randbytes(3) + ids[4999].encode() + dice.randbytes(77)
    needles = Needles("nobody-at-all", frozenset(ids))
    assert [hit.needle.decode() for hit in needles.in_raw(haystack)] == [ids[17], ids[4999]]


@given(st.binary(max_size=400), st.lists(st.binary(min_size=8, max_size=12), max_size=6), st.data())
def test_the_search_for_many_equals_the_search_for_each(noise: bytes, ids: list[bytes], data: st.DataObject) -> None:
    texts = {each.hex() for each in ids}
    haystack = noise
    for text in texts:
        at = data.draw(st.integers(0, len(haystack)))
        haystack = haystack[:at] + text.encode() + haystack[at:]
    found = {(hit.offset, hit.needle) for hit in Needles("\x01never\x01", frozenset(texts)).in_raw(haystack)}
    for offset, needle in found:
        assert haystack[offset : offset + len(needle)] == needle
    expected = {at for text in texts for at in range(len(haystack)) if haystack.startswith(text.encode(), at)}
    assert {offset for offset, _ in found} == expected


def test_an_empty_subject_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        Needles(" ")


def as_snappy(data: bytes) -> bytes:
    """An Avro file of codec null in the codec snappy; PyIceberg cannot write it without another package."""
    header, blocks = data[: data.index(b"\x14avro.codec")], data.index(data[-16:])
    rest = data[len(header) : blocks].replace(b"\x14avro.codec\x08null", b"\x14avro.codec\x0csnappy")
    sync, at, parts = data[-16:], blocks + 16, []
    decoder = new_decoder(data)
    decoder.skip(at)
    while decoder.tell() < len(data):
        count, content = decoder.read_int(), decoder.read_bytes()
        decoder.skip(16)
        packed = snappy(content) + bytes(4)
        parts += [zigzag(count), zigzag(len(packed)), packed, sync]
    return b"".join([header, rest, sync, *parts])


def zigzag(number: int) -> bytes:
    number, encoded = number << 1, b""
    while number > 0x7F:
        encoded, number = encoded + bytes([number & 0x7F | 0x80]), number >> 7
    return encoded + bytes([number])


@pytest.mark.parametrize("codec", ["null", "gzip", "zstd", "bzip2", "snappy"])
def test_bounds_in_manifests_of_every_codec_are_found_also_cut_ones(catalog: Catalog, codec: str) -> None:
    fill(catalog, commits=1)
    table = must_load(catalog, "lake.predictions")
    snapshot = table.current_snapshot()
    assert snapshot is not None
    (manifest, *_) = snapshot.manifests(table.io)
    path = table.location_provider().new_metadata_location("copy.avro")
    written = "null" if codec == "snappy" else codec
    with write_manifest(2, table.spec(), table.schema(), table.io.new_output(path), 1, written) as writer:  # type: ignore[arg-type]
        for entry in manifest.fetch_manifest_entry(table.io):
            writer.existing(entry)
    with table.io.new_input(path).open() as stream:
        data = stream.read()
    if codec == "snappy":
        data = as_snappy(data)
    alone = look(data, Needles(WHO.name), ACME, {})[1]
    assert alone.traces["lower bounds"] >= 1, "the bound is cut to 16 characters"
    explained = {canonical(entry.data_file.file_path): Neighbour(True, 16) for entry in manifest.fetch_manifest_entry(table.io)}
    assert look(data, Needles(WHO.name), ACME, explained)[1].clean, "others of that beginning are in the file"


def test_bounds_of_prediction_ids_are_found_cut(catalog: Catalog) -> None:
    fill(catalog, commits=1)
    table = must_load(catalog, "lake.predictions")
    ids = sorted(table.scan().to_arrow().column("prediction_id").to_pylist())
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifest = snapshot.manifests(table.io)[0]
    with table.io.new_input(manifest.manifest_path).open() as stream:
        data = stream.read()
    assert look(data, Needles("nobody-at-all", frozenset({ids[0]})), ACME, {})[1].traces["lower bounds"] == 1
    middle = next(each for each in ids if each[:16] not in data.decode("latin-1"))
    assert look(data, Needles("nobody-at-all", frozenset({middle})), ACME, {})[1].clean


def test_a_row_that_sqlite_deleted_is_found_in_free_pages_until_vacuum(tmp_path: Path) -> None:
    path = tmp_path / "100%41 #1?" / "catalog.db"  # as a URL it would be cut, or another folder
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("CREATE TABLE t (x TEXT)")
        connection.execute("INSERT INTO t VALUES (?)", (f"table of {CANARY} ",))
        connection.commit()
        assert look_sqlite(path, Needles(CANARY)).traces["rows of `t`"] == 1
        connection.execute("DELETE FROM t")
        connection.commit()
        found = look_sqlite(path, Needles(CANARY))
        assert found.traces == {"file, free pages included": 1}
        connection.execute("VACUUM")
    assert look_sqlite(path, Needles(CANARY)).clean


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_record_batches_of_every_codec_are_unpacked(codec: int) -> None:
    pack = {
        0: lambda c: c,
        1: gzip.compress,
        2: snappy,
        3: lambda c: arrow_compressed("lz4", c),
        4: zstandard.compress,
    }[codec]
    records = pack(TEXT)  # type: ignore[no-untyped-call]
    header = struct.pack(">qiibihiqqqhii", 0, 49 + len(records), 0, 2, 0, codec, 0, 0, 0, -1, -1, -1, 1)
    assert len(header) == 61
    assert not look_segment(header + records, Needles(CANARY)).clean
    assert look_segment(header + records, Needles("somebody-else")).clean


def test_puffin_blobs_are_unpacked() -> None:
    blob = zstandard.compress(TEXT)
    footer = json.dumps({"blobs": [{"type": "x", "offset": 4, "length": len(blob)}]}).encode()
    file = b"PFA1" + blob + b"PFA1" + footer + struct.pack("<i", len(footer)) + bytes(4) + b"PFA1"
    kind, found = look(file, Needles(CANARY), ACME, {})
    assert kind == "puffin"
    assert not found.clean
    assert look(file, Needles("somebody-else"), ACME, {})[1].clean


def test_a_very_short_name_counts_in_raw_bytes_only_where_it_stands_alone() -> None:
    assert not traces(b"\x00\x02p1\x00", "p1").clean
    assert traces(b"\x00map1\x00 p12 xp1", "p1").clean
    assert traces(random.Random(2).randbytes(2_000_000), "p1-7").clean
