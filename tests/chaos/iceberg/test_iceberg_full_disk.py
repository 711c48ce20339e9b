"""A full disk: writers are told, what was acknowledged stays readable, and after room is made everything goes on."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from pyiceberg.catalog import Catalog

from core.errors import UnavailableError
from iceberg.catalog import open_catalog
from iceberg.checks import Report, check_lake
from iceberg.expiry import expire_snapshots
from iceberg.orphans import remove_orphans
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

SIZE = 4 * 1024 * 1024
PATIENCE = timedelta(seconds=1)


@pytest.fixture
def disk(tmp_path: Path, services_required: bool) -> Iterator[Path]:
    """A file system of its own of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        assert not services_required, f"a small file system cannot be mounted: {mounted.stderr.decode()}"
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def opened(disk: Path) -> Catalog:
    return open_catalog("jdbc", f"jdbc:sqlite:{disk / 'catalog.db'}", str(disk / "warehouse"))


def check(disk: Path) -> Report:
    return check_lake(lambda: opened(disk), f"file://{disk}/warehouse", catalog_file=disk / "catalog.db", deep=True)


def rows(epoch: int) -> pa.Table:
    noise = [os.urandom(1000).hex() for _ in range(100)]
    return pa.table({"tenant_id": ["t"] * 100, "n": pa.array([epoch] * 100, pa.int64()), "noise": noise})


def counts(catalog: Catalog) -> dict[int, int]:
    found: dict[int, int] = {}
    for n in catalog.load_table("lake.rows").scan().to_arrow().column("n").to_pylist():
        found[n] = found.get(n, 0) + 1
    return found


def fill(disk: Path, *, leave: int) -> Path:
    """Take all the room but so many bytes."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    filler.write_bytes(b"\x00" * max(room.f_bavail * room.f_frsize - leave, 0))
    return filler


def test_appends_on_a_full_disk_are_refused_lose_nothing_and_go_on_when_there_is_room(disk: Path) -> None:
    catalog = opened(disk)
    create_table_for_arrow(catalog, "lake.rows", rows(0).schema)
    sink = ExactlyOnceTable(catalog, "lake.rows", uuid.UUID(int=1), patience=PATIENCE)
    filler, done = fill(disk, leave=1_500_000), 0
    refused: UnavailableError | None = None
    while refused is None and done < 100:
        try:
            sink.append(done + 1, rows(done + 1))
            done += 1
        except UnavailableError as error:
            refused = error
    assert "No space left" in str(refused) or "disk is full" in str(refused)
    assert 1 <= done < 100
    assert counts(opened(disk)) == dict.fromkeys(range(1, done + 1), 100)
    assert ExactlyOnceTable(opened(disk), "lake.rows", uuid.UUID(int=1)).last_epoch() == done
    assert check(disk).findings == []

    filler.unlink()
    for epoch in range(done + 1, done + 4):
        assert ExactlyOnceTable(opened(disk), "lake.rows", uuid.UUID(int=1)).append(epoch, rows(epoch))
    assert counts(opened(disk)) == dict.fromkeys(range(1, done + 4), 100)
    assert check(disk).findings == []
    remove_orphans(opened(disk), "lake.rows", older_than=timedelta(0))
    assert remove_orphans(opened(disk), "lake.rows", older_than=timedelta(0), dry_run=True).files == ()
    assert counts(opened(disk)) == dict.fromkeys(range(1, done + 4), 100)


@pytest.mark.parametrize("leave", [0, 4096, 8192, 16384, 32768, 65536])
def test_wherever_in_a_commit_the_disk_is_full_the_table_is_as_before_or_after(disk: Path, leave: int) -> None:
    catalog = opened(disk)
    create_table_for_arrow(catalog, "lake.rows", rows(0).schema)
    sink = ExactlyOnceTable(catalog, "lake.rows", uuid.UUID(int=1), patience=PATIENCE)
    sink.append(1, rows(1).slice(0, 1))
    filler = fill(disk, leave=leave)
    try:
        added = sink.append(2, rows(2).slice(0, 1))
    except UnavailableError:
        added = False
    seen = counts(opened_reading(disk, catalog))
    assert seen == ({1: 1, 2: 1} if added else {1: 1})
    filler.unlink()
    assert sink.append(2, rows(2).slice(0, 1)) is not added
    assert counts(opened(disk)) == {1: 1, 2: 1}
    assert check(disk).findings == []


def opened_reading(disk: Path, catalog: Catalog) -> Catalog:
    """A catalog that can be opened anew when there is room for SQLite's own files, else the one that is open."""
    try:
        return opened(disk)
    except UnavailableError:
        return catalog


def test_maintenance_makes_room_on_a_full_disk(disk: Path) -> None:
    catalog = opened(disk)
    create_table_for_arrow(catalog, "lake.rows", rows(0).schema)
    sink = ExactlyOnceTable(catalog, "lake.rows", uuid.UUID(int=1))
    for epoch in range(1, 6):
        sink.append(epoch, rows(epoch))
    catalog.load_table("lake.rows").delete("n <= 4")
    fill(disk, leave=40_000)
    free = os.statvfs(disk).f_bavail
    done = expire_snapshots(opened(disk), "lake.rows", older_than=datetime(2200, 1, 1, tzinfo=UTC), keep_last=1)
    assert len(done.snapshots) == 5
    assert os.statvfs(disk).f_bavail > free
    assert counts(opened(disk)) == {5: 100}


def test_a_model_on_a_full_disk_is_not_registered_and_can_be_again(disk: Path) -> None:
    registry = Registry(opened(disk), disk / "warehouse")
    value = helper.make_tensor("c", TensorProto.FLOAT, [50_000], [0.5] * 50_000)
    node = helper.make_node("Constant", [], ["y"], value=value)
    graph = helper.make_graph([node], "c", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [50_000])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    what = {"kind": "x", "metrics": {}, "tags": {}, "training_data": {}, "code_hash": "", "duration": timedelta(0)}
    filler = fill(disk, leave=100_000)
    with pytest.raises(UnavailableError, match="cannot be written"):
        registry.register("constant", model, **what)  # type: ignore[arg-type]
    assert registry.list() == []
    filler.unlink()
    assert registry.load_artifact("constant", registry.register("constant", model, **what).version) == model  # type: ignore[arg-type]
    assert check(disk).findings == []
