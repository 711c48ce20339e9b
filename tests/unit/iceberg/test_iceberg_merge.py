"""Merges leave one row a key, whatever the table's layout and whoever writes beside."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.table.snapshots import Operation
from pyiceberg.types import LongType

from core.errors import InvalidInputError, NotFoundError, UnavailableError
from iceberg.catalog import open_catalog
from iceberg.history import snapshots
from iceberg.merge import Merged, delete_by_key, merge, upsert
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow
from iceberg.usage import measure_table
from tests.chaos.iceberg.readers import files, plain_table, read_by_duckdb, read_by_pyiceberg

DAY = datetime(2026, 11, 1, tzinfo=UTC)
COLUMNS = ("tenant_id", "entity_id", "event_time", "value")
SCHEMA = pa.schema(
    [
        ("tenant_id", pa.string()),
        ("entity_id", pa.int64()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("value", pa.string()),
    ]
)
KEY = ("tenant_id", "entity_id")
FACTS = "lake.facts"

type_row = tuple[str, int, datetime, str]


def rows_of(*rows: type_row) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], schema=SCHEMA)


def keys_of(*keys: tuple[str, int]) -> pa.Table:
    return pa.table({"tenant_id": [tenant for tenant, _ in keys], "entity_id": [entity for _, entity in keys]})


@pytest.fixture
def facts(catalog: Catalog) -> str:
    """A table that is partitioned by day and bucketed tenant."""
    create_table_for_arrow(catalog, FACTS, SCHEMA)
    return FACTS


@pytest.fixture
def append(catalog: Catalog, facts: str) -> Callable[..., None]:
    sink = ExactlyOnceTable(catalog, facts, uuid.uuid4())

    def append_rows(*rows: type_row) -> None:
        sink.append(sink.last_epoch() + 1, rows_of(*rows))

    return append_rows


@pytest.fixture
def read(tmp_path: Path) -> Callable[[], list[tuple[Any, ...]]]:
    """What two readers that know nothing of us agree on."""

    def read_both() -> list[tuple[Any, ...]]:
        table = plain_table(tmp_path / "catalog.db", FACTS)
        rows = read_by_pyiceberg(table, COLUMNS)
        assert read_by_duckdb(table, ["tenant_id", "entity_id", "value"]) == sorted((row[0], row[1], row[3]) for row in rows)
        return rows

    return read_both


def test_rows_of_the_same_key_are_replaced_and_others_come_in(
    catalog: Catalog, facts: str, append: Callable[..., None], read: Callable[[], Any]
) -> None:
    append(("a", 1, DAY, "old"), ("a", 2, DAY, "old"), ("b", 1, DAY, "old"))
    merged = upsert(catalog, facts, rows_of(("a", 1, DAY, "new"), ("c", 1, DAY, "new")), key=KEY)
    assert (merged.committed, merged.written, merged.replaced, merged.deleted) == (True, 2, 1, 0)
    assert [(row[0], row[1], row[3]) for row in read()] == [
        ("a", 1, "new"), ("a", 2, "old"), ("b", 1, "old"), ("c", 1, "new"),
    ]  # fmt: skip


def test_a_row_may_move_to_another_partition(
    catalog: Catalog, facts: str, append: Callable[..., None], read: Callable[[], Any]
) -> None:
    append(("a", 1, DAY, "old"), ("a", 2, DAY, "old"))
    upsert(catalog, facts, rows_of(("a", 1, DAY + timedelta(days=40), "moved")), key=KEY)
    assert read() == [("a", 1, DAY + timedelta(days=40), "moved"), ("a", 2, DAY, "old")]


def test_composite_keys_match_whole_and_not_column_by_column(
    catalog: Catalog, facts: str, append: Callable[..., None], read: Callable[[], Any]
) -> None:
    append(("a", 1, DAY, "stays"), ("a", 2, DAY, "goes"), ("b", 1, DAY, "goes"), ("b", 2, DAY, "stays"))
    merged = delete_by_key(catalog, facts, keys_of(("a", 2), ("b", 1), ("z", 1), ("a", 9)))
    assert merged.deleted == 2
    assert [row[3] for row in read()] == ["stays", "stays"]


def test_one_commit_upserts_and_deletes(
    catalog: Catalog, facts: str, append: Callable[..., None], read: Callable[[], Any]
) -> None:
    append(("a", 1, DAY, "old"), ("a", 2, DAY, "old"))
    before = len(catalog.load_table(facts).history())
    merge(catalog, facts, key=KEY, upserts=rows_of(("a", 1, DAY, "new")), deletes=keys_of(("a", 2)))
    assert [row[3] for row in read()] == ["new"]
    assert len(catalog.load_table(facts).history()) == before + 1


def test_a_file_without_live_rows_leaves_the_table_with_its_delete_file(
    catalog: Catalog, facts: str, append: Callable[..., None], tmp_path: Path
) -> None:
    append(("a", 1, DAY, "x"), ("a", 2, DAY, "x"))
    delete_by_key(catalog, facts, keys_of(("a", 1)))
    assert tuple(map(len, files(plain_table(tmp_path / "catalog.db", facts)))) == (1, 1)
    delete_by_key(catalog, facts, keys_of(("a", 2)))
    assert files(plain_table(tmp_path / "catalog.db", facts)) == ([], [])
    snapshot = catalog.load_table(facts).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation == Operation.DELETE
    assert {key: snapshot.summary[f"total-{key}"] for key in ("records", "data-files", "delete-files", "position-deletes")} == {
        "records": "0", "data-files": "0", "delete-files": "0", "position-deletes": "0",
    }  # fmt: skip


def test_a_data_file_has_one_delete_file_however_many_merges_touch_it(
    catalog: Catalog, facts: str, append: Callable[..., None], read: Callable[[], Any], tmp_path: Path
) -> None:
    append(*[("a", n, DAY, "x") for n in range(10)])
    for n in range(8):
        delete_by_key(catalog, facts, keys_of(("a", n)))
    assert tuple(map(len, files(plain_table(tmp_path / "catalog.db", facts)))) == (1, 1)
    assert [row[1] for row in read()] == [8, 9]


def test_dead_rows_are_not_counted(catalog: Catalog, facts: str, append: Callable[..., None]) -> None:
    append(*[("a", n, DAY, "x") for n in range(10)])
    upsert(catalog, facts, rows_of(("a", 3, DAY, "y"), ("a", 30, DAY, "y")), key=KEY)
    delete_by_key(catalog, facts, keys_of(("a", 3), ("a", 4)))
    assert [each.total_rows for each in snapshots(catalog, facts)] == [9, 11, 10]
    assert measure_table(catalog, facts).rows == 9


def test_files_that_cannot_hold_a_key_are_not_opened(catalog: Catalog, facts: str, append: Callable[..., None]) -> None:
    for tenant in "abcd":
        append(*[(tenant, n, DAY, "x") for n in range(5)])
    merged = upsert(catalog, facts, rows_of(("b", 3, DAY, "y")), key=KEY)
    assert (merged.files_read, merged.files_left_out) == (1, 3)


def test_deleting_what_is_not_there_makes_no_snapshot(catalog: Catalog, facts: str, append: Callable[..., None]) -> None:
    append(("a", 1, DAY, "x"))
    before = catalog.load_table(facts).metadata.current_snapshot_id
    assert delete_by_key(catalog, facts, keys_of(("q", 1))) == Merged(attempts=1)
    assert catalog.load_table(facts).metadata.current_snapshot_id == before


def test_null_keys_are_refused_with_column_and_row(catalog: Catalog, facts: str) -> None:
    rows = pa.Table.from_pylist([{"tenant_id": "a", "entity_id": 1}, {"tenant_id": "a", "entity_id": None}], schema=SCHEMA)
    with pytest.raises(InvalidInputError, match=r"`entity_id` is NULL in 1 rows, first in row 1"):
        upsert(catalog, facts, rows, key=KEY)


def test_a_null_key_in_the_table_is_never_matched(
    catalog: Catalog, facts: str, append: Callable[..., None], tmp_path: Path
) -> None:
    append(("a", None, DAY, "no key"), ("a", 1, DAY, "x"))  # type: ignore[arg-type]
    delete_by_key(catalog, facts, keys_of(("a", 1), ("a", 0)))
    assert plain_table(tmp_path / "catalog.db", facts).scan().to_arrow().column("value").to_pylist() == ["no key"]


def test_keys_that_come_twice_are_refused_or_the_last_counts(catalog: Catalog, facts: str, read: Callable[[], Any]) -> None:
    rows = rows_of(("a", 1, DAY, "first"), ("b", 1, DAY, "only"), ("a", 1, DAY, "last"))
    with pytest.raises(InvalidInputError, match=r"1 keys come more than once, e.g. `tenant_id = 'a', entity_id = 1` 2 times"):
        upsert(catalog, facts, rows, key=KEY)
    assert read() == []
    assert upsert(catalog, facts, rows, key=KEY, duplicates="last").written == 2
    assert [row[3] for row in read()] == ["last", "only"]


def test_a_key_to_write_and_to_delete_is_refused(catalog: Catalog, facts: str) -> None:
    with pytest.raises(InvalidInputError, match="both written and deleted"):
        merge(catalog, facts, key=KEY, upserts=rows_of(("a", 1, DAY, "x")), deletes=keys_of(("a", 1)))


@pytest.mark.parametrize(
    ("key", "rows", "message"),
    [
        (("nobody",), rows_of(("a", 1, DAY, "x")), "key column `nobody` does not exist"),
        ((), rows_of(("a", 1, DAY, "x")), "is no key"),
        (("tenant_id", "tenant_id"), rows_of(("a", 1, DAY, "x")), "is no key"),
        (
            ("entity_id",),
            pa.table({"entity_id": ["no number"]}),
            "does not fit the table's `long`|does not fit the table's `int64`",
        ),
        (("entity_id",), pa.table({"entity_id": [1], "surplus": [1]}), "not in the table"),
        (("entity_id",), pa.table({"value": ["x"]}), "lack the key column `entity_id`"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    catalog: Catalog, facts: str, tmp_path: Path, key: tuple[str, ...], rows: pa.Table, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        upsert(catalog, facts, rows, key=key)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_floating_point_columns_are_no_key(catalog: Catalog) -> None:
    create_table_for_arrow(catalog, "lake.points", pa.schema([("x", pa.float64())]))
    with pytest.raises(InvalidInputError, match="type `double` cannot be a key"):
        upsert(catalog, "lake.points", pa.table({"x": [0.1]}), key=["x"])


def test_a_table_that_is_not_there_is_not_found(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match=r"lake\.nowhere"):
        delete_by_key(catalog, "lake.nowhere", pa.table({"id": [1]}))


def test_an_epoch_is_merged_once(catalog: Catalog, facts: str, read: Callable[[], Any]) -> None:
    sink = ExactlyOnceTable(catalog, facts, uuid.uuid4())
    assert sink.merge(1, key=KEY, upserts=rows_of(("a", 1, DAY, "x"), ("a", 2, DAY, "x")))
    assert sink.merge(2, key=KEY, upserts=rows_of(("a", 1, DAY, "y")), deletes=keys_of(("a", 2)))
    assert not sink.merge(2, key=KEY, upserts=rows_of(("a", 1, DAY, "z")))
    assert not sink.merge(1, key=KEY, deletes=keys_of(("a", 1)))
    assert sink.merge(3, key=KEY)  # nothing to change, but the epoch is to be remembered
    assert sink.last_epoch() == 3
    assert [row[3] for row in read()] == ["y"]
    assert plain_epochs(catalog) == [2]


def plain_epochs(catalog: Catalog) -> list[int]:
    return sorted(catalog.load_table(FACTS).scan(selected_fields=("sink_epoch",)).to_arrow().column(0).to_pylist())


def test_the_schema_may_have_changed_since_the_files_were_written(
    catalog: Catalog, facts: str, append: Callable[..., None], tmp_path: Path
) -> None:
    create_table_for_arrow(catalog, "lake.small", pa.schema([("id", pa.int32()), ("value", pa.string())]))
    sink = ExactlyOnceTable(catalog, "lake.small", uuid.uuid4())
    sink.append(1, pa.table({"id": pa.array([1, 2, 3], pa.int32()), "value": ["x"] * 3}))
    with catalog.load_table("lake.small").update_schema() as change:
        change.update_column("id", LongType())
        change.rename_column("id", "number")
        change.add_column("extra", LongType())
    merged = upsert(
        catalog, "lake.small", pa.table({"number": [2, 2**40], "value": ["y", "z"], "extra": [7, 7]}), key=["number"]
    )
    assert (merged.replaced, merged.written) == (1, 2)
    rows = plain_table(tmp_path / "catalog.db", "lake.small").scan().to_arrow().sort_by("number").to_pylist()
    assert [(row["number"], row["value"], row["extra"]) for row in rows] == [
        (1, "x", None), (2, "y", 7), (3, "x", None), (2**40, "z", 7),
    ]  # fmt: skip


def test_rows_appended_during_a_merge_are_neither_lost_nor_left_with_its_keys(
    open_lake: Callable[[], Catalog], facts: str, append: Callable[..., None], read: Callable[[], Any]
) -> None:
    append(("a", 1, DAY, "old"), ("a", 2, DAY, "old"))
    raced = []

    def race(step: str) -> None:
        if step == "staged" and not raced:
            raced.append(step)
            append(("a", 1, DAY, "meanwhile"), ("a", 3, DAY, "meanwhile"))

    merged = upsert(open_lake(), facts, rows_of(("a", 1, DAY, "merged")), key=KEY, failpoint=race)
    assert (merged.attempts, merged.replaced, merged.files_read) == (2, 2, 2)
    assert [(row[1], row[3]) for row in read()] == [(1, "merged"), (2, "old"), (3, "meanwhile")]


def test_two_merges_of_one_key_are_serialised(
    open_lake: Callable[[], Catalog], facts: str, append: Callable[..., None], read: Callable[[], Any]
) -> None:
    append(("a", 1, DAY, "old"))
    other = open_lake()
    raced = []

    def race(step: str) -> None:
        if step == "staged" and not raced:
            raced.append(step)
            merge(other, facts, key=KEY, upserts=rows_of(("a", 1, DAY, "first"), ("a", 2, DAY, "first")))

    upsert(open_lake(), facts, rows_of(("a", 1, DAY, "second")), key=KEY, failpoint=race)
    assert [(row[1], row[3]) for row in read()] == [(1, "second"), (2, "first")]


def test_threads_that_merge_the_same_keys_leave_one_row_a_key(
    open_lake: Callable[[], Catalog], facts: str, read: Callable[[], Any]
) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            catalog = open_lake()
            for turn in range(6):
                upsert(catalog, facts, rows_of(*[("a", n, DAY, f"{name}{turn}") for n in range(turn, turn + 4)]), key=KEY)
        except BaseException as error:  # noqa: BLE001  # the last frame of a thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "pqrs"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [row[1] for row in read()] == list(range(9))


def test_who_gives_up_says_what_kept_it_out(open_lake: Callable[[], Catalog], facts: str, append: Callable[..., None]) -> None:
    append(("a", 1, DAY, "old"))

    def always(step: str) -> None:
        if step == "staged":
            append(("b", 1, DAY, "faster"))

    with pytest.raises(UnavailableError, match=r"races lost against other writers.*lake\.facts.*let fewer of them write"):
        upsert(
            open_lake(), facts, rows_of(("a", 1, DAY, "new")), key=KEY, failpoint=always, patience=timedelta(milliseconds=200)
        )


operations = st.lists(
    st.tuples(
        st.sampled_from(["append", "upsert", "delete"]),
        st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), st.integers(0, 2), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(plan=operations)
def test_any_sequence_of_merges_equals_a_dictionary(tmp_path_factory: pytest.TempPathFactory, plan: Any) -> None:
    folder = tmp_path_factory.mktemp("merge")
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{folder / 'catalog.db'}", str(folder / "warehouse"))
    create_table_for_arrow(catalog, FACTS, SCHEMA)
    expected: dict[tuple[str, int], type_row] = {}
    for number, (what, content) in enumerate(plan):
        rows = [(*key, DAY + timedelta(days=day), f"v{number}") for key, day in content.items()]
        if what == "append":
            rows = [row for row in rows if row[:2] not in expected]
            ExactlyOnceTable(catalog, FACTS, uuid.uuid4()).append(1, rows_of(*rows))
        if what == "upsert":
            upsert(catalog, FACTS, rows_of(*rows), key=KEY)
        if what == "delete":
            delete_by_key(catalog, FACTS, keys_of(*content))
            for key in content:
                expected.pop(key, None)
        else:
            expected.update({row[:2]: row for row in rows})
        table = plain_table(folder / "catalog.db", FACTS)
        assert read_by_pyiceberg(table, COLUMNS) == sorted(expected.values())
        names = ("tenant_id", "entity_id", "value")
        assert read_by_duckdb(table, names) == sorted((a, b, d) for a, b, _, d in expected.values())
    catalog.close()
