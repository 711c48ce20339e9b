"""SIGKILL at each step of a commit, round after round, while others write; then everything is compared.

    python -m tests.chaos.iceberg.rounds --rounds 50 --seed N [--json FILE] [--folder FOLDER]

Each round one process appends, merges or compacts and kills itself at one step (see `points`), while another sink writes its
epochs beside it and is left to finish. After each round the rows must be those of the epochs that the table names, read by
PyIceberg's own catalog and scan and by DuckDB on the files that the manifests name. At the end maintenance removes what was left
behind, and then no file may lie there that the table does not need. Exit status 1 if anything is found, or if a step was never
reached.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from pyiceberg.table import Table

from iceberg.orphans import remove_orphans
from tests.chaos.iceberg import world
from tests.chaos.iceberg.points import POINTS
from tests.chaos.iceberg.readers import files, plain_table, read_by_duckdb, read_by_pyiceberg

EPOCHS_BESIDE = 2
WAIT_SECONDS = 120


@dataclass
class Outcome:
    """What a run found."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    passed_by: Counter[str] = field(default_factory=Counter)
    """Rounds whose process ended before it came to its step."""
    epochs: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    snapshots: int = 0
    data_files: int = 0
    delete_files: int = 0
    orphans_removed: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def never_reached(self) -> list[str]:
        return [name for name in map(" in ".join, STEPS) if not self.kills[name] and self.passed_by[name]]

    @property
    def passed(self) -> bool:
        return not self.violations and not self.never_reached


# An append writes no delete file, and a compaction one only if rows die while it works.
STEPS = tuple(
    (point, kind)
    for kind, point in itertools.product(world.KINDS, POINTS)
    if not (point.startswith("delete file") and kind != "merge")
)


def run(folder: Path, rounds: int, seed: int, *, tell: bool = False) -> Outcome:
    """Kill, check, and clean up."""
    started = time.monotonic()
    outcome = Outcome(seed)
    dice = random.Random(seed)
    world.create(str(folder))
    # A server that has everything imported forks the writers; it has no threads and no open catalog.
    spawn = multiprocessing.get_context("forkserver")
    spawn.set_forkserver_preload([world.__name__])
    for number, (point, kind) in enumerate(itertools.islice(_steps(dice), rounds)):
        beside = spawn.Process(target=world.write, args=(str(folder), "b", EPOCHS_BESIDE))
        if kind == "compaction":
            work = spawn.Process(target=world.compact_until_killed, args=(str(folder), point, 1))
        else:
            work = spawn.Process(target=world.write, args=(str(folder), "a", 6, point, dice.choice((1, 1, 2)), kind))
        for process in (beside, work):
            process.start()
        for process in (beside, work):
            process.join(WAIT_SECONDS)
            if process.is_alive():
                process.kill()
                outcome.violations.append(f"round {number}: a writer hangs ({point} in {kind})")
        if beside.exitcode != 0:
            outcome.violations.append(f"round {number}: the writer that nobody killed ended with {beside.exitcode}")
        if work.exitcode not in (0, -signal.SIGKILL):
            outcome.violations.append(f"round {number}: {kind} ended with {work.exitcode} instead of being killed")
        (outcome.kills if work.exitcode == -signal.SIGKILL else outcome.passed_by)[f"{point} in {kind}"] += 1
        _check(folder, outcome, f"round {number}, {point} in {kind}")
        if tell:
            print(f"round {number}: {point} in {kind}: {outcome.rows} rows, {outcome.data_files} files", flush=True)
    _clean_up(folder, outcome)
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def _steps(dice: random.Random) -> Iterator[tuple[str, str]]:
    """Every step in a shuffled order, again and again."""
    while True:
        yield from dice.sample(STEPS, len(STEPS))


def _check(folder: Path, outcome: Outcome, where: str) -> None:
    table = plain_table(folder / "catalog.db", world.IDENTIFIER)
    outcome.epochs = world.stored_epochs(table.properties)
    expected = world.expected(outcome.epochs)
    for name, rows in (
        ("PyIceberg", read_by_pyiceberg(table, world.COLUMNS)),
        ("DuckDB", read_by_duckdb(table, world.COLUMNS)),
    ):
        if rows != expected:
            missing, surplus = Counter(expected) - Counter(rows), Counter(rows) - Counter(expected)
            outcome.violations.append(
                f"{where}: {name} misses {missing.total()} rows and has {surplus.total()} too many, e.g. "
                f"{next(iter(missing | surplus))}"
            )
    outcome.rows, outcome.snapshots = len(expected), len(table.snapshots())
    outcome.data_files, outcome.delete_files = map(len, files(table))


def _clean_up(folder: Path, outcome: Outcome) -> None:
    catalog = world.open_lake(str(folder))
    outcome.orphans_removed = len(remove_orphans(catalog, world.IDENTIFIER, older_than=timedelta(0)).files)
    table = plain_table(folder / "catalog.db", world.IDENTIFIER)
    there = {str(path) for path in (folder / "warehouse" / "lake").rglob("*") if path.is_file()}
    if left := there - _needed(table):
        outcome.violations.append(f"{len(left)} orphans are left, e.g. {sorted(left)[0]}")
    if lost := _needed(table) - there:
        outcome.violations.append(f"{len(lost)} files that the table needs are gone, e.g. {sorted(lost)[0]}")
    _check(folder, outcome, "after orphans were removed")


def _needed(table: Table) -> set[str]:
    """All that a table's metadata names, worked out here and not by what is tested."""
    metadata = table.metadata
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            found.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True))
    return {path.removeprefix("file://") for path in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        outcome = run(arguments.folder or Path(temporary), arguments.rounds, arguments.seed, tell=True)
    told = json.dumps({**vars(outcome), "never_reached": outcome.never_reached, "passed": outcome.passed}, indent=2)
    print(told)
    if arguments.json:
        arguments.json.write_text(told + "\n", encoding="utf-8")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
