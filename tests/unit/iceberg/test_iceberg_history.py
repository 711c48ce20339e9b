"""Time travel and paging, compared with a plain Python list of what was written when."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from core.errors import InvalidInputError, NotFoundError
from core.fakes.clock import ManualClock
from iceberg.history import Condition, read_as_of, resolve_snapshot, snapshots
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import ensure_tables

TABLE = "lake.predictions"
# Later than the creation of the table, which the machine's clock stamps: snapshots never go back before it.
START = datetime(2100, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ORDER = ("feature_end", "prediction_id")


def row(n: int, tenant: str, end: datetime | None) -> dict[str, Any]:
    return {"prediction_id": f"p{n:03}", "tenant_id": tenant, "feature_end": end, "score": n / 10}


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    schema = pa.schema(
        [
            ("prediction_id", pa.string()),
            ("tenant_id", pa.string()),
            ("feature_end", pa.timestamp("us", tz="UTC")),
            ("score", pa.float64()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


@pytest.fixture
def written(catalog: Catalog) -> list[list[dict[str, Any]]]:
    """Twelve commits, a minute apart, of rows whose event times overlap, repeat and are sometimes missing."""
    ensure_tables(catalog)
    clock = ManualClock(START)
    sink = ExactlyOnceTable(catalog, TABLE, uuid.UUID(int=1), clock=clock)
    dice = random.Random(7)
    commits = []
    for epoch in range(1, 13):
        rows = []
        for k in range(5):
            end = START + timedelta(seconds=epoch * 10 + dice.randrange(0, 40, 10)) if dice.random() > 0.1 else None
            rows.append(row(epoch * 10 + k, dice.choice(["a", "b", "c"]), end))
        sink.append(epoch, as_table(rows))
        commits.append(rows)
        clock.advance(MINUTE)
    return commits


def ordered(rows: list[dict[str, Any]], *, descending: bool) -> list[str]:
    """Ids in the order of ORDER, rows without event time last."""
    known = sorted(
        (r for r in rows if r["feature_end"]), key=lambda r: (r["feature_end"], r["prediction_id"]), reverse=descending
    )
    unknown = sorted((r for r in rows if not r["feature_end"]), key=lambda r: r["prediction_id"], reverse=descending)
    return [r["prediction_id"] for r in known + unknown]


def ids(rows: pa.Table) -> list[str]:
    found: list[str] = rows.column("prediction_id").to_pylist()
    return found


@pytest.mark.parametrize("commit", [0, 4, 11])
def test_a_moment_shows_what_was_committed_until_then(catalog: Catalog, written: list[Any], commit: int) -> None:
    then = [r for rows in written[: commit + 1] for r in rows]
    moment = START + commit * MINUTE
    for as_of in (moment, moment + timedelta(seconds=59), moment.astimezone(tz=None)):
        assert ids(read_as_of(catalog, TABLE, as_of=as_of)) == ordered(then, descending=True)


def test_before_the_first_commit_the_table_is_empty(catalog: Catalog, written: list[Any]) -> None:
    nothing = read_as_of(catalog, TABLE, as_of=START - timedelta(seconds=1), columns=["score"])
    assert nothing.num_rows == 0
    assert nothing.schema == pa.schema([("score", pa.float64())])
    assert resolve_snapshot(catalog, TABLE, as_of=START - timedelta(seconds=1)) is None


def test_a_snapshot_stays_as_it_was_while_the_table_grows(catalog: Catalog, written: list[Any]) -> None:
    pinned = resolve_snapshot(catalog, TABLE, as_of=START + 2 * MINUTE)
    before = read_as_of(catalog, TABLE, snapshot_id=pinned)
    ExactlyOnceTable(catalog, TABLE, uuid.UUID(int=2)).append(1, as_table([row(999, "a", START)]))
    assert read_as_of(catalog, TABLE, snapshot_id=pinned).equals(before)
    assert before.num_rows == 15


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("limit", [1, 7, 60])
def test_pages_together_are_the_whole_in_order(catalog: Catalog, written: list[Any], limit: int, descending: bool) -> None:
    wanted = [r for rows in written[:10] for r in rows if r["tenant_id"] == "b"]
    snapshot = resolve_snapshot(catalog, TABLE, as_of=START + 9 * MINUTE)
    pages: list[str] = []
    after = None
    while True:
        page = read_as_of(
            catalog,
            TABLE,
            snapshot_id=snapshot,
            where=[Condition("tenant_id", "=", "b")],
            descending=descending,
            after=after,
            limit=limit,
        )
        if not page.num_rows:
            break
        assert page.num_rows <= limit
        pages += ids(page)
        last = page.slice(page.num_rows - 1).to_pylist()[0]
        after = [last[name] for name in ORDER]
    assert pages == ordered(wanted, descending=descending)


def test_a_page_reads_only_the_files_that_can_hold_its_rows(
    catalog: Catalog, written: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of 40 files by disjoint event time: the newest rows are found without opening the oldest files."""
    sink = ExactlyOnceTable(catalog, TABLE, uuid.UUID(int=3))
    for epoch in range(1, 41):
        sink.append(epoch, as_table([row(epoch, "d", START + timedelta(days=1, hours=epoch))]))
    folder = catalog.load_table(TABLE).location().removeprefix("file://")
    from pyiceberg.io.pyarrow import ArrowScan

    opened: list[str] = []
    real = ArrowScan.to_table

    def counting(self: ArrowScan, tasks: Any) -> pa.Table:
        opened.extend(task.file.file_path for task in tasks)
        return real(self, tasks)

    monkeypatch.setattr(ArrowScan, "to_table", counting)
    page = read_as_of(catalog, TABLE, where=[Condition("tenant_id", "=", "d")], limit=5)
    assert ids(page) == [f"p{n:03}" for n in range(40, 35, -1)]
    assert len(opened) == 8
    assert all(folder in path for path in opened)


def test_conditions_are_values_and_never_text(catalog: Catalog, written: list[Any]) -> None:
    flat = [r for rows in written for r in rows]
    evil = "b' OR '1'='1"
    assert read_as_of(catalog, TABLE, where=[Condition("tenant_id", "=", evil)]).num_rows == 0
    since, until = START + timedelta(seconds=50), START + timedelta(seconds=90)
    found = read_as_of(catalog, TABLE, where=[Condition("feature_end", ">=", since), Condition("feature_end", "<", until)])
    assert ids(found) == ordered([r for r in flat if r["feature_end"] and since <= r["feature_end"] < until], descending=True)


def test_columns_come_in_the_wanted_order_also_when_the_order_columns_are_not_among_them(
    catalog: Catalog, written: list[Any]
) -> None:
    found = read_as_of(catalog, TABLE, columns=["score", "tenant_id"], limit=3)
    assert found.column_names == ["score", "tenant_id"]
    assert found.num_rows == 3


def test_a_column_that_came_later_is_not_in_an_older_snapshot(catalog: Catalog, written: list[Any]) -> None:
    loaded = catalog.load_table(TABLE)
    with loaded.update_schema() as change:
        change.rename_column("score", "probability")
    ExactlyOnceTable(catalog, TABLE, uuid.UUID(int=4)).append(1, pa.table({"probability": [0.5], "tenant_id": ["z"]}))
    old = read_as_of(catalog, TABLE, as_of=START + MINUTE)
    new = read_as_of(catalog, TABLE)
    assert "score" in old.column_names
    assert "probability" in new.column_names
    assert old.num_rows == 10
    assert sorted(filter(None, new.column("probability").to_pylist()))[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"as_of": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"as_of": START, "snapshot_id": 1}, "both"),
        ({"columns": ["nothing"]}, "`nothing` does not exist"),
        ({"where": [Condition("nothing", "=", 1)]}, "`nothing` does not exist"),
        ({"where": [Condition("feature_end", ">", "yesterday")]}, "does not fit the columns"),
        ({"after": ["p1"]}, "1 values for 2 order columns"),
        ({"after": ["soon", "p1"]}, "does not fit"),
        ({"limit": -1}, "is negative"),
        ({"order_by": []}, "no order column"),
    ],
)
def test_malformed_arguments_are_refused(catalog: Catalog, written: list[Any], arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        read_as_of(catalog, TABLE, **arguments)


def test_unknown_tables_snapshots_and_expired_moments_are_not_found(catalog: Catalog, written: list[Any]) -> None:
    with pytest.raises(NotFoundError, match=r"`lake\.nowhere`"):
        read_as_of(catalog, "lake.nowhere")
    with pytest.raises(NotFoundError, match="snapshot `42`"):
        read_as_of(catalog, TABLE, snapshot_id=42)
    loaded = catalog.load_table(TABLE)
    loaded.maintenance.expire_snapshots().by_ids([entry.snapshot_id for entry in loaded.history()[:3]]).commit()
    with pytest.raises(NotFoundError, match="before the history that is kept"):
        read_as_of(catalog, TABLE, as_of=START + MINUTE)
    assert read_as_of(catalog, TABLE, as_of=START + 3 * MINUTE).num_rows == 20
    loaded.maintenance.expire_snapshots().by_ids([loaded.history()[4].snapshot_id]).commit()
    with pytest.raises(NotFoundError, match="before the history that is kept"):
        read_as_of(catalog, TABLE, as_of=START + 7 * MINUTE)
    assert read_as_of(catalog, TABLE, as_of=START + 6 * MINUTE).num_rows == 35


def test_snapshots_are_listed_newest_first(catalog: Catalog, written: list[Any]) -> None:
    listed = snapshots(catalog, TABLE)
    assert [info.committed_at for info in listed] == [START + n * MINUTE for n in reversed(range(12))]
    assert {info.added_rows for info in listed} == {5}
    assert [info.total_rows for info in listed] == list(range(60, 0, -5))
    assert listed[0].summary["headrace.epoch"] == "12"
    assert (listed[0].parent_id, listed[-1].parent_id) == (listed[1].snapshot_id, None)
