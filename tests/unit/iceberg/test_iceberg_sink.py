"""Exactly once: repetition, conflict, unknown outcome, refused rows."""

from __future__ import annotations

import resource
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

from core.errors import CorruptDataError, InvalidInputError, NotFoundError, UnavailableError
from core.fakes.clock import ManualClock
from iceberg.catalog import open_catalog
from iceberg.sink import ExactlyOnceTable, epoch_property
from iceberg.tables import create_table_for_arrow, ensure_tables

SINK = uuid.UUID("00000000-0000-0000-0000-00000000000a")
OTHER = uuid.UUID("00000000-0000-0000-0000-00000000000b")
ROWS = pa.schema([("tenant_id", pa.string()), ("sink", pa.string()), ("n", pa.int64())])


def rows_of(sink: str, numbers: list[int]) -> pa.Table:
    return pa.table(
        {"tenant_id": [f"t{n % 3}" for n in numbers], "sink": [sink] * len(numbers), "n": pa.array(numbers, pa.int64())}
    )


def content(catalog: Catalog, identifier: str) -> Counter[tuple[str, int, int]]:
    rows = catalog.load_table(identifier).scan().to_arrow().to_pylist()
    return Counter((row["sink"], row["sink_epoch"], row["n"]) for row in rows)


def data_files(tmp_path: Path) -> set[str]:
    return {str(path) for path in (tmp_path / "warehouse/lake/rows/data").rglob("*.parquet")}


def test_rows_and_epoch_arrive_in_one_commit(catalog: Catalog, table: str) -> None:
    sink = ExactlyOnceTable(catalog, table, SINK)
    assert sink.last_epoch() == 0
    assert sink.append(3, rows_of("a", [1, 2]))
    loaded = catalog.load_table(table)
    assert loaded.properties[epoch_property(SINK)] == "3"
    assert len(loaded.history()) == 1
    assert sink.last_epoch() == 3
    assert content(catalog, table) == Counter({("a", 3, 1): 1, ("a", 3, 2): 1})


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_epoch_that_is_in_already_is_not_added_again(catalog: Catalog, table: str, tmp_path: Path, epoch: int) -> None:
    ExactlyOnceTable(catalog, table, SINK).append(3, rows_of("a", [1]))
    before = data_files(tmp_path)
    reopened = ExactlyOnceTable(catalog, table, SINK)
    assert not reopened.append(epoch, rows_of("a", [7]))
    assert content(catalog, table) == Counter({("a", 3, 1): 1})
    assert data_files(tmp_path) == before


def test_sinks_on_one_table_have_epochs_of_their_own(catalog: Catalog, table: str) -> None:
    one, two = ExactlyOnceTable(catalog, table, SINK), ExactlyOnceTable(catalog, table, OTHER)
    one.append(5, rows_of("a", [1]))
    assert two.append(2, rows_of("b", [1]))
    assert (one.last_epoch(), two.last_epoch()) == (5, 2)


def test_an_empty_epoch_is_recorded(catalog: Catalog, table: str) -> None:
    sink = ExactlyOnceTable(catalog, table, SINK)
    assert sink.append(1, rows_of("a", []))
    assert ExactlyOnceTable(catalog, table, SINK).last_epoch() == 1
    assert sink.append(2, rows_of("a", [1]))
    assert content(catalog, table) == Counter({("a", 2, 1): 1})


def test_threads_that_share_a_table_lose_and_double_nothing(
    open_lake: Callable[[], Catalog], catalog: Catalog, table: str
) -> None:
    epochs, failures = 6, []

    def write(name: str, sink_id: uuid.UUID, own: Catalog) -> None:
        try:
            sink = ExactlyOnceTable(own, table, sink_id)
            for epoch in range(1, epochs + 1):
                assert sink.append(epoch, rows_of(name, [epoch, epoch + 100]))
        except Exception as error:  # noqa: BLE001  # reported by the main thread
            failures.append(error)

    shared = open_lake()
    names = ["a", "b", "c", "d"]
    threads = [
        threading.Thread(target=write, args=(name, uuid.uuid4(), shared if name < "c" else open_lake())) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert content(catalog, table) == Counter((name, e, n) for name in names for e in range(1, 7) for n in (e, e + 100))


class InterruptedCatalog:
    """Passes everything on to a real catalog, but raises `error` at a commit: before it, or after it has succeeded."""

    def __init__(self, real: Catalog, error: Exception, *, after: bool, times: int = 1) -> None:
        self._real = real
        self._error = error
        self._after = after
        self._left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def load_table(self, identifier: Any) -> Any:
        loaded = self._real.load_table(identifier)
        loaded.catalog = self
        return loaded

    def commit_table(self, *args: Any) -> Any:
        if not self._left:
            return self._real.commit_table(*args)
        self._left -= 1
        if self._after:
            self._real.commit_table(*args)
        raise self._error


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        CommitStateUnknownException("gateway time-out"),
        ConnectionResetError("peer"),
        CommitFailedException("said failed, was not"),
    ],
)
def test_an_unknown_outcome_is_read_back_before_the_retry(catalog: Catalog, table: str, error: Exception, after: bool) -> None:
    broken: Any = InterruptedCatalog(catalog, error, after=after, times=2 if not after else 1)
    assert ExactlyOnceTable(broken, table, SINK).append(1, rows_of("a", [1, 2]))
    loaded = catalog.load_table(table)
    assert len(loaded.history()) == 1
    assert content(catalog, table) == Counter({("a", 1, 1): 1, ("a", 1, 2): 1})


def test_a_lasting_outage_is_reported_and_the_same_call_succeeds_later(catalog: Catalog, table: str) -> None:
    broken: Any = InterruptedCatalog(catalog, ConnectionResetError("peer"), after=False, times=10_000)
    sink = ExactlyOnceTable(broken, table, SINK, patience=timedelta(milliseconds=50))
    with pytest.raises(UnavailableError, match="not committed within"):
        sink.append(1, rows_of("a", [1]))
    assert ExactlyOnceTable(catalog, table, SINK).append(1, rows_of("a", [1]))
    assert content(catalog, table) == Counter({("a", 1, 1): 1})


def test_a_schema_that_changes_between_attempts_is_followed(catalog: Catalog, table: str, tmp_path: Path) -> None:
    def add_a_column(step: str) -> None:
        loaded = catalog.load_table(table)
        if step == "files written" and "added" not in loaded.schema().column_names:
            with loaded.update_schema() as change:
                change.add_column("added", loaded.schema().find_field("n").field_type)
            ExactlyOnceTable(catalog, table, OTHER).append(1, rows_of("b", [5]))

    sink = ExactlyOnceTable(catalog, table, SINK, failpoint=add_a_column)
    assert sink.append(1, rows_of("a", [1]))
    assert content(catalog, table) == Counter({("a", 1, 1): 1, ("b", 1, 5): 1})
    assert len(data_files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (pa.table({"m": [1]}), "`m` are not in the table"),
        (pa.table({"n": ["many"]}), "`n` of type `string` does not fit"),
        (pa.table({"n": [1.5]}), "`n` of type `double` does not fit"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_leave_nothing(
    catalog: Catalog, table: str, tmp_path: Path, rows: pa.Table, says: str
) -> None:
    sink = ExactlyOnceTable(catalog, table, SINK)
    with pytest.raises(InvalidInputError, match=says):
        sink.append(1, rows)
    assert sink.last_epoch() == 0
    assert not data_files(tmp_path)


def test_epochs_begin_at_one_and_tables_must_exist(catalog: Catalog, table: str) -> None:
    with pytest.raises(InvalidInputError, match="less than 1"):
        ExactlyOnceTable(catalog, table, SINK).append(0, rows_of("a", []))
    with pytest.raises(NotFoundError, match=r"`lake\.nowhere` does not exist"):
        ExactlyOnceTable(catalog, "lake.nowhere", SINK)


def test_predictions_as_the_stream_database_sends_them_fit_the_table(catalog: Catalog) -> None:
    ensure_tables(catalog)
    naive = datetime(2026, 3, 1, 23, 59, 50)  # noqa: DTZ001  # TIMESTAMP without time zone
    rows = pa.table(
        {
            "score": pa.array([0.25, None], pa.float64()),
            "prediction_id": pa.array(["p2", "p1"], pa.large_string()),
            "tenant_id": ["b", "a"],
            "feature_end": pa.array([naive, naive], pa.timestamp("us")),
            "features": pa.array([[1.0, None], None], pa.large_list(pa.float64())),
            "route_epoch": pa.array([3, None], pa.int32()),
            "error": pa.array([None, '{"code":"no_route"}']),
        }
    )
    ExactlyOnceTable(catalog, "lake.predictions", SINK).append(9, rows)
    [first, second] = sorted(
        catalog.load_table("lake.predictions").scan().to_arrow().to_pylist(), key=lambda r: r["prediction_id"]
    )
    assert first["feature_end"] == naive.replace(tzinfo=UTC)
    assert (first["features"], second["features"]) == (None, [1.0, None])
    assert (first["route_epoch"], second["route_epoch"], first["sink_epoch"], first["pipeline"]) == (None, 3, 9, None)


def test_a_disk_without_room_is_unavailable_and_leaves_no_part_of_a_file(catalog: Catalog, table: str, tmp_path: Path) -> None:
    """The kernel refuses to write past 300 bytes of a file, in the midst of Parquet."""
    sink = ExactlyOnceTable(catalog, table, SINK)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(UnavailableError, match="File too large"):
            sink.append(1, rows_of("a", [1, 2]))
        deadline = time.monotonic() + 10  # the file of the other partition is written in another thread
        while data_files(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert data_files(tmp_path) == set()
    assert sink.append(1, rows_of("a", [1, 2]))
    assert content(catalog, table) == Counter({("a", 1, 1): 1, ("a", 1, 2): 1})


@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "replaced"])
def test_damaged_metadata_is_named(open_lake: Callable[[], Catalog], catalog: Catalog, table: str, damage: str) -> None:
    path = Path(catalog.load_table(table).metadata_location.removeprefix("file://"))
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes({"emptied": b"", "cut": path.read_bytes()[:100], "replaced": b'{"format-version": 2}'}[damage])
    with pytest.raises(CorruptDataError, match=r"metadata of table `lake\.rows` is missing or unreadable") as caught:
        ExactlyOnceTable(open_lake(), table, SINK)
    assert caught.value.fix


def test_snapshots_are_stamped_by_the_clock_and_never_go_back(catalog: Catalog, table: str) -> None:
    clock = ManualClock(datetime(2100, 1, 1, tzinfo=UTC))
    sink = ExactlyOnceTable(catalog, table, SINK, clock=clock)
    for epoch, step in enumerate([0, 10, -3600, 7200], start=1):
        clock.advance(timedelta(seconds=step))
        sink.append(epoch, rows_of("a", [epoch]))
    stamps = [entry.timestamp_ms for entry in catalog.load_table(table).history()]
    assert stamps == sorted(stamps)
    assert stamps[0] == int(datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert stamps[2] == stamps[1]


def test_old_metadata_files_do_not_pile_up(catalog: Catalog, table: str, tmp_path: Path) -> None:
    sink = ExactlyOnceTable(catalog, table, SINK)
    for epoch in range(1, 41):
        sink.append(epoch, rows_of("a", [epoch]))
    assert len(list((tmp_path / "warehouse/lake/rows/metadata").glob("*.metadata.json"))) <= 21
    assert len(content(catalog, table)) == 40


# (sink, step forward in epochs; 0 and less repeat one, rows, whether the sink is reopened first)
STEP = st.tuples(st.sampled_from("ab"), st.integers(-2, 3), st.lists(st.integers(0, 9), max_size=4), st.booleans())


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(STEP, max_size=12), overtake=st.sets(st.integers(0, 11)))
def test_any_sequence_of_appends_by_two_sinks_equals_the_expected_rows(
    steps: list[tuple[str, int, list[int], bool]], overtake: set[int]
) -> None:
    """At the steps in `overtake` a third writer commits between our reading the head and our commit."""
    with TemporaryDirectory() as folder:
        lake = open_catalog("jdbc", f"jdbc:sqlite:{folder}/catalog.db", f"{folder}/warehouse")
        create_table_for_arrow(lake, "lake.rows", ROWS)
        expected: Counter[tuple[str, int, int]] = Counter()
        last = {"a": 0, "b": 0}
        third = ExactlyOnceTable(lake, "lake.rows", uuid.uuid4())
        intruded = 0
        pending = False

        def intrude(step: str) -> None:
            nonlocal pending, intruded
            if step == "staged" and pending:
                pending = False
                intruded += 1
                third.append(intruded, rows_of("third", [intruded]))

        def opened(name: str) -> ExactlyOnceTable:
            return ExactlyOnceTable(lake, "lake.rows", uuid.UUID(int=ord(name)), failpoint=intrude)

        sinks = {name: opened(name) for name in "ab"}
        for position, (name, forward, numbers, reopen) in enumerate(steps):
            if reopen:
                sinks[name] = opened(name)
            epoch = max(1, last[name] + forward)
            pending = position in overtake
            added = sinks[name].append(epoch, rows_of(name, numbers))
            pending = False
            assert added == (epoch > last[name])
            if added:
                last[name] = epoch
                expected.update((name, epoch, n) for n in numbers)
        expected.update(("third", n, n) for n in range(1, intruded + 1))
        assert content(lake, "lake.rows") == expected
        assert {name: opened(name).last_epoch() for name in "ab"} == last
        lake.close()
