"""Compaction changes files and no rows, whoever writes meanwhile."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import EqualTo, Reference
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestEntry, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record

from core.errors import InvalidInputError
from iceberg.catalog import open_catalog
from iceberg.compaction import Compacted, compact
from iceberg.compaction_plan import EVERYTHING, CompactionPolicy, plan_groups
from iceberg.live_files import LiveFile, LiveFiles
from iceberg.merge import delete_by_key, upsert
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow
from tests.chaos.iceberg.readers import files, plain_table, read_by_duckdb, read_by_pyiceberg

COLUMNS = ("tenant_id", "sink", "n")
KEY = ("n",)
MIB = 1024 * 1024


def rows_of(numbers: Any, text: str = "x", tenant: str = "a") -> pa.Table:
    numbers = list(numbers)
    return pa.table({"tenant_id": [tenant] * len(numbers), "sink": [text] * len(numbers), "n": pa.array(numbers, pa.int64())})


def keys_of(*numbers: int) -> pa.Table:
    return pa.table({"n": pa.array(numbers, pa.int64())})


@pytest.fixture
def append(catalog: Catalog, table: str) -> Callable[..., None]:
    sink = ExactlyOnceTable(catalog, table, uuid.uuid4())

    def append_rows(*args: Any) -> None:
        sink.append(sink.last_epoch() + 1, rows_of(*args))

    return append_rows


@pytest.fixture
def read(tmp_path: Path, table: str) -> Callable[[], list[tuple[Any, ...]]]:
    def read_both() -> list[tuple[Any, ...]]:
        plain = plain_table(tmp_path / "catalog.db", table)
        rows = read_by_pyiceberg(plain, COLUMNS)
        assert read_by_duckdb(plain, COLUMNS) == rows
        return rows

    return read_both


def counts(tmp_path: Path, table: str) -> tuple[int, int]:
    data, deletes = files(plain_table(tmp_path / "catalog.db", table))
    return len(data), len(deletes)


def test_small_files_become_one_a_partition_and_no_row_changes(
    catalog: Catalog, table: str, append: Callable[..., None], read: Callable[[], Any], tmp_path: Path
) -> None:
    for n in range(8):
        append([n], "x", "a")
        append([n], "x", "b")
    before = read()
    done = compact(catalog, table)
    assert (done.files_before, done.files_after, done.rows, done.commits, done.files_saved) == (16, 2, 16, 1, 14)
    assert done.bytes_saved > 0
    assert read() == before
    assert counts(tmp_path, table) == (2, 0)
    snapshot = catalog.load_table(table).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation == Operation.REPLACE
    assert snapshot.summary["total-records"] == "16"
    assert snapshot.summary["total-data-files"] == "2"
    assert compact(catalog, table) == Compacted()


def test_earlier_snapshots_read_as_before(
    catalog: Catalog, table: str, append: Callable[..., None], read: Callable[[], Any], tmp_path: Path
) -> None:
    for n in range(6):
        append([n, n + 100])
    upsert(catalog, table, rows_of([2, 3], "y"), key=KEY)
    plain = plain_table(tmp_path / "catalog.db", table)
    history = [entry.snapshot_id for entry in plain.history()]
    then = {each: (read_by_pyiceberg(plain, COLUMNS, each), read_by_duckdb(plain, COLUMNS, each)) for each in history}
    compact(catalog, table, policy=EVERYTHING)
    after = plain_table(tmp_path / "catalog.db", table)
    assert {each: (read_by_pyiceberg(after, COLUMNS, each), read_by_duckdb(after, COLUMNS, each)) for each in history} == then
    assert read() == then[history[-1]][0]


def test_dead_rows_and_their_delete_files_go(
    catalog: Catalog, table: str, append: Callable[..., None], read: Callable[[], Any], tmp_path: Path
) -> None:
    append(range(10))
    delete_by_key(catalog, table, keys_of(1, 3, 5, 7))
    before = read()
    done = compact(catalog, table)
    assert (done.dead_rows, done.files_before, done.files_after) == (4, 2, 1)
    assert read() == before
    assert counts(tmp_path, table) == (1, 0)


def test_a_few_dead_rows_in_a_file_are_not_worth_it_unless_everything_is_asked_for(
    catalog: Catalog, table: str, append: Callable[..., None]
) -> None:
    append(range(100))
    delete_by_key(catalog, table, keys_of(1))
    assert compact(catalog, table) == Compacted()
    assert compact(catalog, table, policy=EVERYTHING).dead_rows == 1


def test_dry_run_tells_and_changes_nothing(catalog: Catalog, table: str, append: Callable[..., None], tmp_path: Path) -> None:
    for n in range(8):
        append([n])
    listing = sorted(tmp_path.rglob("*"))
    told = compact(catalog, table, dry_run=True)
    assert (told.files_before, told.files_after, told.rows) == (8, 1, 8)
    assert sorted(tmp_path.rglob("*")) == listing


def test_rows_are_sorted_and_files_cover_separate_ranges(
    catalog: Catalog, table: str, append: Callable[..., None], tmp_path: Path
) -> None:
    with catalog.load_table(table).update_sort_order() as order:
        order.asc("n", IdentityTransform())
    for first in range(6):
        append([first + 6 * k for k in range(500)])
    compact(catalog, table, policy=CompactionPolicy(target_bytes=8_192, min_gain=0))
    ranges = []
    for path in files(plain_table(tmp_path / "catalog.db", table))[0]:
        numbers = pq.read_table(path).column("n").to_pylist()
        assert numbers == sorted(numbers)
        ranges.append((numbers[0], numbers[-1]))
    ranges.sort()
    assert len(ranges) > 1
    assert (ranges[0][0], ranges[-1][1]) == (0, 2999)
    assert all(this[1] < following[0] for this, following in itertools.pairwise(ranges))


def test_rows_appended_meanwhile_stay(
    catalog: Catalog, table: str, append: Callable[..., None], read: Callable[[], Any], tmp_path: Path
) -> None:
    for n in range(6):
        append([n])

    def race(step: str) -> None:
        if step == "files written":
            append([100])

    done = compact(catalog, table, failpoint=race)
    assert (done.attempts, done.given_up) == (1, 0)  # the append came before the first attempt: no conflict at all
    assert [row[2] for row in read()] == [0, 1, 2, 3, 4, 5, 100]
    assert counts(tmp_path, table) == (2, 0)


@pytest.mark.parametrize("step", ["files written", "staged"])
def test_rows_that_die_meanwhile_stay_dead(
    open_lake: Callable[[], Catalog],
    table: str,
    append: Callable[..., None],
    read: Callable[[], Any],
    tmp_path: Path,
    step: str,
) -> None:
    for n in range(6):
        append([n, n + 10])
    delete_by_key(open_lake(), table, keys_of(0))
    raced = []

    def race(reached: str) -> None:
        if reached == step and not raced:
            raced.append(step)
            upsert(open_lake(), table, rows_of([3, 14, 99], "merged"), key=KEY)

    done = compact(open_lake(), table, failpoint=race)
    assert (done.attempts, done.given_up) == (1 if step == "files written" else 2, 0)
    expected = {n: "x" for k in range(6) for n in (k, k + 10)} | {3: "merged", 14: "merged", 99: "merged"}
    del expected[0]
    assert {row[2]: row[1] for row in read()} == expected
    assert counts(tmp_path, table) == (2, 1)
    assert read() == read()


def test_a_file_that_went_with_its_last_row_is_dead_in_the_new_one(
    catalog: Catalog, open_lake: Callable[[], Catalog], table: str, append: Callable[..., None], read: Callable[[], Any]
) -> None:
    for n in range(6):
        append([n])

    def race(step: str) -> None:
        if step == "files written":
            delete_by_key(open_lake(), table, keys_of(3))  # its file leaves the table whole

    done = compact(catalog, table, failpoint=race)
    assert (done.given_up, done.files_before, done.commits) == (0, 5, 1)
    assert [row[2] for row in read()] == [0, 1, 2, 4, 5]


def test_a_group_of_which_a_file_is_gone_otherwise_is_given_up_and_the_others_stay(
    catalog: Catalog,
    open_lake: Callable[[], Catalog],
    table: str,
    append: Callable[..., None],
    read: Callable[[], Any],
    tmp_path: Path,
) -> None:
    for n in range(6):
        append([n], "x", "a")
        append([n + 10], "x", "b")

    def race(step: str) -> None:
        if step == "files written":
            open_lake().load_table(table).delete(EqualTo(Reference("n"), 3))  # PyIceberg's own, as any other engine

    done = compact(catalog, table, failpoint=race)
    assert (done.given_up, done.files_before, done.files_after) == (1, 6, 1)
    assert [row[2] for row in read()] == [0, 1, 2, 4, 5, *range(10, 16)]
    named = {Path(path).name for path in files(plain_table(tmp_path / "catalog.db", table))[0]}
    written = {path.name for path in (tmp_path / "warehouse").rglob("*.parquet")}
    assert len(written - named) == 12 - 5  # the files of the head before; what was given up was removed


def test_two_compactions_at_once_leave_every_row_once(
    open_lake: Callable[[], Catalog], table: str, append: Callable[..., None], read: Callable[[], Any]
) -> None:
    for n in range(8):
        append([n])

    def race(step: str) -> None:
        if step == "files written":
            compact(open_lake(), table)

    assert compact(open_lake(), table, failpoint=race).given_up == 1
    assert [row[2] for row in read()] == list(range(8))


def test_epochs_survive_and_a_commit_takes_a_bounded_number_of_bytes(
    catalog: Catalog, table: str, read: Callable[[], Any]
) -> None:
    sink = ExactlyOnceTable(catalog, table, uuid.uuid4())
    for epoch in range(1, 9):
        sink.append(epoch, pa.concat_tables([rows_of([epoch], "x", tenant) for tenant in "abcd"]))
    before = read()
    done = compact(catalog, table, policy=CompactionPolicy(bytes_per_commit=1))
    assert done.commits == done.files_after > 1  # one a partition: two tenants share a bucket
    assert sink.last_epoch() == 8
    assert not sink.append(8, rows_of([8]))
    assert read() == before


def test_a_target_that_makes_no_sense_is_refused(catalog: Catalog, table: str) -> None:
    with pytest.raises(InvalidInputError, match="too small"):
        compact(catalog, table, policy=CompactionPolicy(target_bytes=10))


def live(table: Table, sizes: list[int], dead: dict[int, int] | None = None) -> LiveFiles:
    """Files of one partition that exist on paper, each of 1,000 rows."""

    def entry(name: str, size: int, content: DataFileContent, rows: int, bounds: dict[int, bytes]) -> LiveFile:
        file = DataFile.from_args(
            content=content, file_path=name, file_format=FileFormat.PARQUET, partition=Record(0), record_count=rows,
            file_size_in_bytes=size, lower_bounds=bounds, upper_bounds=bounds,
        )  # fmt: skip
        file.spec_id = table.metadata.default_spec_id
        made = ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, sequence_number=1, data_file=file)
        return LiveFile(None, made)  # type: ignore[arg-type]  # planning looks at no manifest

    data = {f"f{n}": entry(f"f{n}", size, DataFileContent.DATA, 1000, {}) for n, size in enumerate(sizes)}
    deletes = {
        f"d{n}": entry(f"d{n}", 1000, DataFileContent.POSITION_DELETES, rows, {2147483546: f"f{n}".encode()})
        for n, rows in (dead or {}).items()
    }
    return LiveFiles(data, deletes)


@pytest.mark.parametrize(
    ("sizes", "dead", "groups"),
    [
        ([1] * 4, {}, []),  # fewer than five
        ([1] * 5, {}, [5]),
        ([1, 1, 1, 2, 3, 90], {}, [5]),  # the large one would cost more than it saves
        ([60, 60], {}, []),
        ([120] * 10, {}, []),  # of the target size already
        ([20] * 100, {}, []),  # a hundred files to 16: opening 84 files is less than writing 2,000 MiB
        ([2] * 100, {}, [80, 20]),  # cut at the target
        ([128, 128], {1: 300}, [1]),  # three tenths are dead
        ([128, 128], {1: 299}, []),
    ],
)
def test_what_is_worth_it(catalog: Catalog, table: str, sizes: list[int], dead: dict[int, int], groups: list[int]) -> None:
    loaded = catalog.load_table(table)
    found = plan_groups(loaded, live(loaded, [size * MIB for size in sizes], dead), CompactionPolicy(target_bytes=128 * MIB))
    assert sorted((len(group.files) for group in found), reverse=True) == groups


steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "upsert", "delete", "compact", "compact beside an upsert", "compact beside a delete"]),
        st.sets(st.integers(0, 9), min_size=1, max_size=4),
    ),
    min_size=2,
    max_size=9,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(plan=steps)
def test_any_sequence_with_compactions_equals_a_dictionary(tmp_path_factory: pytest.TempPathFactory, plan: Any) -> None:
    folder = tmp_path_factory.mktemp("compact")
    place = (f"jdbc:sqlite:{folder / 'catalog.db'}", str(folder / "warehouse"))
    catalog, other = open_catalog("jdbc", *place), open_catalog("jdbc", *place)
    create_table_for_arrow(catalog, "lake.rows", rows_of([1]).schema)
    expected: dict[int, str] = {}

    def change(what: str, numbers: set[int], text: str) -> None:
        if "delete" in what:
            delete_by_key(other, "lake.rows", keys_of(*sorted(numbers)))
            for number in numbers:
                expected.pop(number, None)
            return
        new = sorted(numbers - expected.keys() if what == "append" else numbers)
        if what == "append":
            ExactlyOnceTable(other, "lake.rows", uuid.uuid4()).append(1, rows_of(new, text))
        else:
            upsert(other, "lake.rows", rows_of(new, text), key=KEY)
        expected.update(dict.fromkeys(new, text))

    for number, (what, numbers) in enumerate(plan):
        if not what.startswith("compact"):
            change(what, numbers, f"v{number}")
        else:
            beside = [what] if "beside" in what else []

            def race(step: str, beside: list[str] = beside, numbers: set[int] = numbers, text: str = f"v{number}") -> None:
                if step == "staged" and beside:
                    change(beside.pop(), numbers, text)

            compact(catalog, "lake.rows", policy=EVERYTHING, failpoint=race)
        plain = plain_table(folder / "catalog.db", "lake.rows")
        assert {row[2]: row[1] for row in read_by_pyiceberg(plain, COLUMNS)} == expected
        assert read_by_duckdb(plain, COLUMNS) == read_by_pyiceberg(plain, COLUMNS)
    catalog.close()
    other.close()
