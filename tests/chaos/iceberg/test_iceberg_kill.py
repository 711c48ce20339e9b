"""Whoever is killed by SIGKILL at any step has written each thing whole and once, or not at all."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from iceberg.catalog import open_catalog
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

SCRIPT = Path(__file__).with_name("kill_rounds.py")
SEED = 20261121


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_rounds", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_rounds(kind: str, database: Path, warehouse: Path, rounds: int) -> None:
    command = [sys.executable, str(SCRIPT), kind, str(database), str(warehouse), str(rounds), str(SEED)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("rounds", [50])
def test_rows_are_the_epochs_exactly_after_kills_at_every_step(tmp_path: Path, rounds: int) -> None:
    script = load_script()
    database, warehouse = tmp_path / "catalog.db", tmp_path / "warehouse"
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{database}", str(warehouse))
    schema = pa.schema([("tenant_id", pa.string()), ("sink", pa.string()), ("n", pa.int64())])
    create_table_for_arrow(catalog, script.IDENTIFIER, schema)
    run_rounds("sink", database, warehouse, rounds)

    last = {name: ExactlyOnceTable(catalog, script.IDENTIFIER, sink_id).last_epoch() for name, sink_id in script.SINKS.items()}
    assert last["b"] == rounds * script.EPOCHS_OF_B
    assert last["a"] > 0
    expected = Counter(
        (name, epoch, n)
        for name, epochs in last.items()
        for epoch in range(1, epochs + 1)
        for n in script.rows_of(name, epoch).column("n").to_pylist()
    )

    # Two readers that know nothing of us: PyIceberg's own catalog and scan, and DuckDB on the files of the snapshot.
    plain = SqlCatalog("headrace", uri=f"sqlite:///{database}").load_table(script.IDENTIFIER)
    scanned = plain.scan().to_arrow().to_pylist()
    assert Counter((row["sink"], row["sink_epoch"], row["n"]) for row in scanned) == expected
    files = [task.file.file_path.removeprefix("file://") for task in plain.scan().plan_files()]
    assert (
        Counter(duckdb.sql("SELECT sink, sink_epoch, n FROM read_parquet($files)", params={"files": files}).fetchall())
        == expected
    )
    # Every snapshot of the history is readable too, and each adds exactly one epoch.
    assert len(plain.history()) == sum(last.values())
    totals = [plain.scan(snapshot_id=entry.snapshot_id).count() for entry in plain.history()[:: max(1, rounds // 5)]]
    assert totals == sorted(totals)


def test_every_version_that_is_visible_after_kills_at_every_step_can_be_loaded(tmp_path: Path) -> None:
    script = load_script()
    database, warehouse = tmp_path / "catalog.db", tmp_path / "warehouse"
    rounds = 32
    run_rounds("registry", database, warehouse, rounds)
    registry = Registry(open_catalog("jdbc", f"jdbc:sqlite:{database}", str(warehouse)), warehouse)
    versions = registry.list("constant")
    assert [found.version for found in versions] == list(range(1, len(versions) + 1))
    assert len(versions) >= 5
    models = {script.model(number) for number in range(rounds)}
    assert all(registry.load_artifact("constant", found.version) in models for found in versions)
