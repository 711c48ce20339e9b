"""Retention drops whole days that are old enough, keeps everything else, and touches no file."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from core.errors import InvalidInputError
from core.fakes.clock import ManualClock
from iceberg.checks import check_lake
from iceberg.expiry import expire_snapshots
from iceberg.holds import HeldError, hold, release
from iceberg.retention import PROPERTY, apply_retention, set_retention
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

TODAY = datetime(2026, 3, 10, 12, tzinfo=UTC)
TABLE = "lake.days"


def rows(*days_ago: int | None, first: int = 0) -> pa.Table:
    times = [None if ago is None else TODAY - timedelta(days=ago) for ago in days_ago]
    size = len(days_ago)
    return pa.table(
        {
            "tenant_id": ["t"] * size,
            "event_time": pa.array(times, pa.timestamp("us", "UTC")),
            "n": pa.array(range(first, first + size), pa.int64()),
        }
    )


@pytest.fixture
def filled(catalog: Catalog) -> str:
    """Rows of 0 to 9 days ago, one of no time; the row of 8 days ago and one of today are dead by position."""
    create_table_for_arrow(catalog, TABLE, rows(0).schema)
    sink = ExactlyOnceTable(catalog, TABLE, uuid.UUID(int=1))
    sink.append(1, rows(*range(10), None))
    sink.append(2, rows(0, 0, 8, 8, first=20))
    sink.merge(3, key=["n"], deletes=pa.table({"n": pa.array([20, 22], pa.int64())}))
    assert 1 in catalog.load_table(TABLE).inspect.files().column("content").to_pylist()
    return TABLE


def numbers(catalog: Catalog) -> list[int]:
    return sorted(catalog.load_table(TABLE).scan().to_arrow().column("n").to_pylist())


def test_days_that_are_over_for_longer_go_and_no_file_is_written_anew(catalog: Catalog, filled: str, tmp_path: Path) -> None:
    assert apply_retention(catalog, filled, clock=ManualClock(TODAY)).days is None
    assert numbers(catalog) == [*range(11), 21, 23], "a table that says nothing keeps everything"
    set_retention(catalog, filled, 7)
    files = set((tmp_path / "warehouse").rglob("*.parquet"))
    told = apply_retention(catalog, filled, dry_run=True, clock=ManualClock(TODAY))
    assert numbers(catalog) == [*range(11), 21, 23]
    done = apply_retention(catalog, filled, clock=ManualClock(TODAY))
    assert done == told
    assert (done.before, done.dropped.keys()) == (date(2026, 3, 3), {date(2026, 3, 1), date(2026, 3, 2)})
    assert numbers(catalog) == [*range(8), 10, 21], "a day that is kept is kept whole, the dead stay dead, NULL stays"
    assert set((tmp_path / "warehouse").rglob("*.parquet")) == files
    assert apply_retention(catalog, filled, clock=ManualClock(TODAY)).dropped == {}
    assert apply_retention(catalog, filled, clock=ManualClock(TODAY + timedelta(days=1))).dropped.keys() == {date(2026, 3, 3)}


def test_what_was_dropped_can_be_read_until_its_snapshots_expire_and_then_its_bytes_are_gone(
    catalog: Catalog, filled: str, tmp_path: Path
) -> None:
    before = catalog.load_table(filled).current_snapshot()
    assert before is not None
    apply_retention(catalog, filled, days=7, clock=ManualClock(TODAY))
    then = catalog.load_table(filled).scan(snapshot_id=before.snapshot_id).to_arrow()
    assert sorted(then.column("n").to_pylist()) == [*range(11), 21, 23]
    expire_snapshots(catalog, filled, older_than=datetime(2200, 1, 1, tzinfo=UTC), keep_last=1)
    left = [path for path in (tmp_path / "warehouse").rglob("*.parquet") if "2026-03-01" in str(path)]
    assert left == []
    assert check_lake(lambda: catalog, f"file://{tmp_path}/warehouse", deep=True).findings == []
    assert ExactlyOnceTable(catalog, filled, uuid.UUID(int=1)).last_epoch() == 3


def test_a_hold_stops_it(catalog: Catalog, filled: str) -> None:
    placed = hold(catalog, "tenant", "t", reason="case 1")
    with pytest.raises(HeldError, match="dropping old partitions is forbidden"):
        apply_retention(catalog, filled, days=7, clock=ManualClock(TODAY))
    assert numbers(catalog) == [*range(11), 21, 23]
    release(catalog, placed.hold_id, reason="closed")
    assert apply_retention(catalog, filled, days=7, clock=ManualClock(TODAY)).dropped


def test_nonsense_is_refused(catalog: Catalog, filled: str, table: str) -> None:
    with pytest.raises(InvalidInputError, match="not partitioned by day"):
        set_retention(catalog, table, 7)
    with pytest.raises(InvalidInputError, match="cannot be kept"):
        set_retention(catalog, filled, 0)
    with catalog.load_table(filled).transaction() as change:
        change.set_properties({PROPERTY: "a week"})
    with pytest.raises(InvalidInputError, match="a number of days"):
        apply_retention(catalog, filled)
    set_retention(catalog, filled, None)
    assert apply_retention(catalog, filled).days is None
