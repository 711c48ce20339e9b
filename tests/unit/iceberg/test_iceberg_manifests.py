"""Merging manifests changes how the table is written down, never what it holds."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog

import iceberg.manifests
from iceberg.sink import ExactlyOnceTable


def one_row(n: int) -> pa.Table:
    return pa.table({"tenant_id": [f"t{n % 2}"], "sink": ["a"], "n": pa.array([n], pa.int64())})


def test_the_list_stays_short_and_every_snapshot_reads_the_same(
    catalog: Catalog, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg.manifests, "FAN_IN", 4)
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1))
    for epoch in range(1, 31):
        sink.append(epoch, one_row(epoch))
    plain = SqlCatalog("headrace", uri=f"sqlite:///{tmp_path / 'catalog.db'}").load_table(table)
    for position, entry in enumerate(plain.history(), start=1):
        snapshot = plain.snapshot_by_id(entry.snapshot_id)
        assert snapshot is not None
        # At most three full-sized manifests of the tiers 1, 4, 16 and the newest before each merge.
        assert len(snapshot.manifests(plain.io)) <= 10
        if position % 7 == 0 or position == 30:
            rows = plain.scan(snapshot_id=entry.snapshot_id).to_arrow()
            assert sorted(rows.column("n").to_pylist()) == list(range(1, position + 1))


def test_merged_entries_keep_the_snapshot_and_the_sequence_number_that_added_them(
    catalog: Catalog, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg.manifests, "FAN_IN", 4)
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1))
    for epoch in range(1, 10):
        sink.append(epoch, one_row(epoch))
    loaded = catalog.load_table(table)
    added = {entry.snapshot_id: number for number, entry in enumerate(loaded.history(), start=1)}
    entries = loaded.inspect.entries().to_pylist()
    assert Counter(entry["sequence_number"] for entry in entries) == Counter(range(1, 10))
    assert all(added[entry["snapshot_id"]] == entry["sequence_number"] for entry in entries)
    assert {entry["status"] for entry in entries} == {0, 1}


def test_pyiceberg_deletes_rows_from_files_in_merged_manifests(
    catalog: Catalog, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iceberg.manifests, "FAN_IN", 4)
    sink = ExactlyOnceTable(catalog, table, uuid.UUID(int=1))
    for epoch in range(1, 10):
        sink.append(epoch, one_row(epoch))
    catalog.load_table(table).delete("n = 3 or n = 8")
    for epoch in range(10, 20):
        sink.append(epoch, one_row(epoch))
    rows = catalog.load_table(table).scan().to_arrow().column("n").to_pylist()
    assert sorted(rows) == [1, 2, 4, 5, 6, 7, 9, *range(10, 20)]
