"""Looks into Parquet: each value of each column as pyarrow decodes it, each page unpacked, and every byte outside of pages.

decoded values     who the row belongs to is known here: the same name in another tenant's row is not the subject
pages, unpacked    what no row refers to, e.g. an entry of a dictionary that a filter left behind
all other bytes    footer with statistics and key-value metadata, page indexes, gaps
bloom filters      hold no text, but answer "maybe" for a value they were built with: asked through DuckDB
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iceberg.erasure.needles import CUT, Needles, cut_bounds
from iceberg.erasure.scan.thrift_pages import MalformedPageError, pages
from iceberg.erasure.scan.traces import Findings, Whose
from iceberg.subjects import TENANT

MAGIC = b"PAR1"


def look(data: bytes, needles: Needles, whose: Whose) -> Findings:
    """Look into a Parquet file."""
    found = Findings()
    try:
        file = pq.ParquetFile(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        found.unread["file"] = f"not readable as Parquet: {error}"
        found.found("raw bytes", sum(1 for _ in needles.in_raw(data)))
        return found
    with file:
        _values(file, needles, whose, found)
        payloads = _pages(file, data, needles, found)
        _metadata(file, needles, found)
        _bloom_filters(file, data, needles, found)
    _outside(data, payloads, needles, found)
    return found


def _values(file: pq.ParquetFile, needles: Needles, whose: Whose, found: Findings) -> None:
    for group in range(file.metadata.num_row_groups):
        try:
            rows = file.read_row_group(group)
        except (pa.ArrowException, OSError) as error:
            found.unread[f"row group {group}"] = str(error)
            continue
        theirs = _of_other_tenants(rows, whose)
        for name in rows.column_names:
            for chunk, first_row in _chunks(rows.column(name)):
                for text, row_of in texts(chunk):
                    _column(name, text, row_of + first_row, theirs, needles, found)


def _column(
    name: str,
    text: pa.Array,
    row_of: npt.NDArray[np.int64],
    theirs: npt.NDArray[np.bool_],
    needles: Needles,
    found: Findings,
) -> None:
    offsets, content = joined(text)
    ours = other = 0
    for hit in needles.in_text(content):
        value = int(np.searchsorted(offsets, hit.offset, side="right")) - 1
        if hit.needle == needles.name_bytes and theirs[row_of[value]]:
            other += 1
        else:
            ours += 1
    found.found(f"values of `{name}`", ours)
    found.not_ours(f"values of `{name}`", other)
    if pa.types.is_string(text.type) or pa.types.is_large_string(text.type):
        found.shared[name] = max(found.shared.get(name, 0), _shared_prefix(text, needles.name))
        found.cuts |= _shared_cuts(text, needles)


def texts(array: pa.Array) -> Iterator[tuple[pa.Array, npt.NDArray[np.int64]]]:
    """The strings and bytes at the leaves of an array, each with the row that every element belongs to."""
    yield from _leaves(array, np.arange(len(array), dtype=np.int64))


def _leaves(array: pa.Array, row_of: npt.NDArray[np.int64]) -> Iterator[tuple[pa.Array, npt.NDArray[np.int64]]]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary_decode(), row_of)
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _leaves(child, row_of)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
        yield from _leaves(array.flatten(), row_of[parents])
    elif pa.types.is_map(kind):
        entries = pa.ListArray.from_arrays(array.offsets, pa.StructArray.from_arrays([array.keys, array.items], ["k", "v"]))
        yield from _leaves(entries, row_of)
    elif (
        pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    ):
        yield array, row_of
    elif pa.types.is_fixed_size_binary(kind):
        yield array.cast(pa.binary()), row_of


def joined(array: pa.Array) -> tuple[npt.NDArray[np.int64], bytes]:
    """All strings or bytes in one, a zero byte between any two, and the offset at which each begins."""
    if not len(array):
        return np.zeros(1, dtype=np.int64), b""
    kind = pa.large_string() if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) else pa.large_binary()
    wide = pc.fill_null(array.cast(kind), pa.scalar("" if kind == pa.large_string() else b"", kind))
    lengths = pc.binary_length(wide).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    together = pc.binary_join(pa.LargeListArray.from_arrays([0, len(wide)], wide), pa.scalar("\0", kind).cast(kind))[0]
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]), together.as_buffer().to_pybytes()


def _chunks(column: pa.ChunkedArray) -> Iterator[tuple[pa.Array, int]]:
    first = 0
    for chunk in column.chunks:
        yield chunk, first
        first += len(chunk)


def _of_other_tenants(rows: pa.Table, whose: Whose) -> npt.NDArray[np.bool_]:
    """Rows that certainly belong to somebody else: their tenant is named, and another one."""
    theirs = np.zeros(rows.num_rows, dtype=np.bool_)
    if whose.tenant is None or TENANT not in rows.column_names:
        return theirs
    kind = rows.schema.field(TENANT).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        theirs |= pc.fill_null(pc.not_equal(rows.column(TENANT), pa.scalar(whose.tenant, kind)), False).to_numpy()
    return theirs


def _shared_prefix(text: pa.Array, name: str) -> int:
    """How long a prefix of the name some other value begins with; a statistic cut to that length tells nothing of the subject."""
    others = text.filter(pc.fill_null(pc.not_equal(text, pa.scalar(name, text.type)), False))
    low, high = 0, len(name)
    while low < high:
        middle = (low + high + 1) // 2
        if pc.any(pc.starts_with(others, name[:middle])).as_py():
            low = middle
        else:
            high = middle - 1
    return low


def _shared_cuts(text: pa.Array, needles: Needles) -> set[str]:
    """Beginnings of derived ids, as bounds are cut, that other values of the column begin with."""
    if not needles.derived:
        return set()
    cuts = pc.utf8_slice_codeunits(text, 0, CUT)
    near = {*needles.cut_ids, *(cut[:-1] + chr(max(0, ord(cut[-1]) - 1)) for cut in needles.cut_ids)}
    likely = pc.is_in(cuts, value_set=pa.array(sorted(near), cuts.type))
    others = text.filter(pc.fill_null(likely, False)).to_pylist()
    return {bound for other in others if other not in needles.derived for bound in cut_bounds(other)}


def _pages(file: pq.ParquetFile, data: bytes, needles: Needles, found: Findings) -> list[tuple[int, int]]:
    """Search each page unpacked; returns where the packed ones lie, which need not be searched as they are."""
    payloads = []
    other_tenants = bool(found.others)
    for group in range(file.metadata.num_row_groups):
        for index in range(file.metadata.num_columns):
            chunk = file.metadata.row_group(group).column(index)
            begin = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                begin = min(begin, chunk.dictionary_page_offset)
            end = begin + chunk.total_compressed_size
            found.layers.add(f"parquet:{chunk.compression.lower()}")
            try:
                for page in pages(data, begin, end, chunk.compression):
                    if chunk.compression != "UNCOMPRESSED":
                        payloads.append((page.begin, page.end))
                    part = f"{page.kind} of `{chunk.path_in_schema}`"
                    _raw(part, page.content, needles, found, other_tenants=other_tenants)
            except MalformedPageError as error:
                found.unread[f"column chunk `{chunk.path_in_schema}`"] = str(error)
    return payloads


def _raw(part: str, content: bytes, needles: Needles, found: Findings, *, other_tenants: bool) -> None:
    """Hits in bytes without rows: of the name they are another tenant's where decoded values show that it has such a row."""
    for hit in needles.in_raw(content):
        if other_tenants and hit.needle == needles.name_bytes:
            found.not_ours(part, 1)
        else:
            found.found(part, 1)


def _metadata(file: pq.ParquetFile, needles: Needles, found: Findings) -> None:
    """Key-value metadata as text, with what Arrow keeps in there in Base64."""
    schema = file.schema_arrow
    pairs = [*(file.metadata.metadata or {}).items(), *(schema.metadata or {}).items()]
    for field in schema:
        pairs += (field.metadata or {}).items()
    for key, value in pairs:
        found.found("key-value metadata", sum(1 for text in (key, value) for _ in needles.in_text(text)))


def _bloom_filters(file: pq.ParquetFile, data: bytes, needles: Needles, found: Findings) -> None:
    groups = range(file.metadata.num_row_groups)
    chunks = [file.metadata.row_group(g).column(c) for g in groups for c in range(file.metadata.num_columns)]
    columns = {chunk.path_in_schema for chunk in chunks if chunk.bloom_filter_offset and chunk.physical_type == "BYTE_ARRAY"}
    if not columns:
        return
    found.layers.add("parquet:bloom filter")
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "file.parquet"
        path.write_bytes(data)
        for column in sorted(columns):
            try:
                answer = connection.execute(
                    "SELECT count(*) FROM parquet_bloom_probe(?, ?, ?) WHERE NOT bloom_filter_excludes",
                    [str(path), column, needles.name],
                ).fetchone()
            except duckdb.Error as error:
                found.unread[f"bloom filter of `{column}`"] = str(error).splitlines()[0]
                continue
            assert answer is not None, "a count has a row"
            if found.others[f"values of `{column}`"]:
                found.not_ours(f"bloom filter of `{column}`", answer[0])
            else:
                found.found(f"bloom filter of `{column}`", answer[0])


def _outside(data: bytes, payloads: list[tuple[int, int]], needles: Needles, found: Findings) -> None:
    begin = 0
    for payload_begin, payload_end in [*sorted(payloads), (len(data), len(data))]:
        if begin < payload_begin:
            # A statistic may stand right before a page's header: take its neighbours along.
            _raw("outside of pages", data[begin:payload_begin], needles, found, other_tenants=bool(found.others))
        begin = max(begin, payload_end)
