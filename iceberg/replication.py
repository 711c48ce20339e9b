"""Copies tables with their whole history to another warehouse, from which the platform can start when the first is gone.

A copy is made from the bottom up, and its metadata file comes last, so what can be seen of it is whole:

    data files, statistics   copied            \
    position delete files    paths rewritten    \
    manifests                paths rewritten     >  each once: what lies at the target already is not touched
    manifest lists           paths rewritten    /
    metadata files           paths rewritten   /    then the catalog there is pointed to the newest

A second run copies what is new. The source is read at one state of each table; writers go on. When it expires files meanwhile,
the table is begun again from its newer state. Artifacts of the registry are copied, too; they are named by their content.

The source need not be a catalog: `found_sources` reads a warehouse's bytes, also when they lie elsewhere than their metadata says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile, ManifestEntryStatus, ManifestFile
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil

from core.errors import ConflictError, CorruptDataError, UnavailableError
from iceberg.loading import must_load
from iceberg.registering import current_pointer, name_of, register_table
from iceberg.relocation import (
    Move,
    MovedDeletes,
    describe_deletes,
    holds_paths,
    move_deletes,
    move_list,
    move_manifest,
    move_metadata,
    read_entries,
    read_list,
)
from iceberg.storage import Storage, canonical, no_progress, type_progress
from iceberg.warehouse import find_tables, parse_json

STATE = "headrace-replica.json"
"""At the target: the two metadata files of each table that were copied last, so that a copy that lived on is not overwritten."""

_TRIES = 3
_AT_ONCE = 8


@dataclass(frozen=True)
class Source:
    """A table at one state: its name, where its metadata file lies, and where its files do."""

    name: str
    metadata_location: str
    folder: str


@dataclass
class Copied:
    """What a run copied of one table, or with `dry_run` would."""

    table: str
    target: str
    metadata: str
    snapshots: int
    files: int = 0
    size_bytes: int = 0
    present: int = 0
    """Files that lay at the target already."""
    registered: bool = False


@dataclass
class Target:
    """Where copies go.

    Attributes:
        storage: reaches the warehouse.
        warehouse: as `warehouse_location` gives it.
        catalog: opened on that warehouse; None copies bytes only, for `headrace tables adopt` later.
    """

    storage: Storage
    warehouse: str
    catalog: Catalog | None
    state: dict[str, list[str]] = field(default_factory=dict)


def catalog_source(catalog: Catalog, name: str) -> Source:
    """A table as its catalog has it now."""
    table = must_load(catalog, name)
    return Source(name, canonical(table.metadata_location), canonical(table.location()))


def found_sources(storage: Storage, warehouse: str) -> Sequence[Source]:
    """The tables whose bytes lie in a warehouse, wherever it was when they were written."""
    return [Source(name_of(found, warehouse), found.location, found.folder) for found in find_tables(storage, warehouse)]


def replicate_table(
    source: Callable[[], Source],
    storage: Storage,
    target: Target,
    *,
    dry_run: bool = False,
    progress: type_progress = no_progress,
) -> Copied:
    """Copy a table with its history, and let the target's catalog know it.

    Args:
        source: gives the table's newest state; called again when files of an older one were expired meanwhile.
        storage: reaches the source.
        target: where to.
        dry_run: copy nothing, only tell.
        progress: told of files.

    Raises:
        ConflictError: the copy was written to since the last run.
        CorruptDataError: a file of the source is missing.
        InvalidInputError: the table holds what cannot be copied: files outside of its place, deletes of format version 3.
    """
    for attempt in range(1, _TRIES + 1):
        state = source()
        try:
            return _Copy(state, storage, target, dry_run, progress).run()
        except FileNotFoundError as error:
            if attempt == _TRIES or source() == state:
                raise CorruptDataError(
                    f"a file of the table is missing: {error}",
                    where=state.name,
                    fix="Run `headrace tables check` on the source.",
                ) from error
    raise AssertionError("unreachable")


def replicate_artifacts(storage: Storage, warehouse: str, target: Target, *, dry_run: bool = False) -> tuple[int, int]:
    """Copy the registry's artifacts that the target lacks; returns their number and bytes."""
    source, there = f"{canonical(warehouse)}/artifacts", f"{canonical(target.warehouse)}/artifacts"
    present = {file.location for file in target.storage.files(there)}
    missing = [
        file
        for file in storage.files(source)
        if not file.location.endswith(".tmp") and there + file.location.removeprefix(source) not in present
    ]
    if not dry_run:
        for file in missing:
            target.storage.copy(storage, file.location, there + file.location.removeprefix(source))
    return len(missing), sum(file.size_bytes for file in missing)


def read_state(target: Target) -> None:
    """Load what earlier runs left at the target."""
    target.state = parse_json(target.storage, f"{canonical(target.warehouse)}/{STATE}") or {}


def write_state(target: Target) -> None:
    """Keep it for the next run."""
    target.storage.write(f"{canonical(target.warehouse)}/{STATE}", json.dumps(target.state, indent=1, sort_keys=True).encode())


class _Copy:
    def __init__(self, source: Source, storage: Storage, target: Target, dry_run: bool, progress: type_progress) -> None:
        raw = parse_json(storage, source.metadata_location)
        if raw is None:
            raise FileNotFoundError(source.metadata_location)
        self._raw: dict[str, Any] = raw
        self._metadata: TableMetadata = TableMetadataUtil.parse_obj(raw)
        self._source, self._storage, self._target, self._dry_run = source, storage, target, dry_run
        self._progress = progress
        place = f"{canonical(target.warehouse)}/{source.name.replace('.', '/')}"
        self._move = Move(canonical(self._metadata.location), source.folder, place)
        self._present = {file.location: file.size_bytes for file in target.storage.files(place)}
        self._log_moved: set[str] = set()
        self._done = Copied(source.name, place, "", len(self._metadata.snapshots))

    def run(self) -> Copied:
        newest = self._moved_metadata_location(self._source.metadata_location)
        self._done.metadata = newest
        self._refuse_if_diverged()
        sizes: dict[str, int] = {}
        for number, snapshot in enumerate(self._metadata.snapshots, start=1):
            place = self._move.source(snapshot.manifest_list)
            manifests = read_list(self._storage.read(place), place)
            for manifest in manifests:
                moved = self._move.moved(manifest.manifest_path)
                if moved not in sizes:
                    sizes[moved] = self._copy_manifest(moved, manifest)
            make = partial(move_list, snapshot, self._metadata, manifests, sizes, self._move)
            self._write(self._move.moved(snapshot.manifest_list), make)
            self._progress(f"snapshots of {self._source.name}", number, len(self._metadata.snapshots))
        for file in (*self._metadata.statistics, *self._metadata.partition_statistics):
            self._copy(file.statistics_path)
        self._copy_log()
        self._write(newest, lambda: move_metadata(self._raw, self._move, keep_log=self._log_moved.__contains__))
        if not self._dry_run:
            self._register(newest)
        return self._done

    def _copy_manifest(self, moved: str, manifest: ManifestFile) -> int:
        """Copy what a manifest names, then the manifest; returns its size in the copy."""
        if moved in self._present:
            self._done.present += 1
            return self._present[moved]
        content = self._storage.read(self._move.source(manifest.manifest_path))
        files = [entry.data_file for entry in read_entries(content, manifest) if entry.status != ManifestEntryStatus.DELETED]
        rewritten = [file for file in files if holds_paths(file)]
        copied = [file for file in files if not holds_paths(file)]
        deletes: dict[str, MovedDeletes] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._copy, (file.file_path for file in copied), (file.file_size_in_bytes for file in copied)))
            for file, described in zip(rewritten, pool.map(self._copy_deletes, rewritten), strict=True):
                deletes[self._move.moved(file.file_path)] = described
        return self._write(moved, lambda: move_manifest(content, manifest, self._metadata, self._move, deletes))

    def _copy_deletes(self, file: DataFile) -> MovedDeletes:
        moved = self._move.moved(file.file_path)
        if moved in self._present and not self._dry_run:
            return describe_deletes(self._target.storage.read(moved))
        content = move_deletes(self._storage.read(self._move.source(file.file_path)), self._move)
        self._write(moved, lambda: content)
        return describe_deletes(content)

    def _copy(self, location: str, size_bytes: int | None = None) -> None:
        """Copy a file as it is, unless it lies there in full size."""
        source, moved = self._move.source(location), self._move.moved(location)
        if moved in self._present and size_bytes in (None, self._present[moved]):
            self._done.present += 1
            return
        size = self._storage.size_bytes(source) if size_bytes is None else size_bytes
        if not self._dry_run:
            self._target.storage.copy(self._storage, source, moved)
        self._count(moved, size or 0)

    def _write(self, moved: str, make: Callable[[], bytes]) -> int:
        """Write a file of the copy unless it is there; returns its size."""
        if moved in self._present:
            self._done.present += 1
            return self._present[moved]
        content = make()
        if not self._dry_run:
            self._target.storage.write(moved, content)
        self._count(moved, len(content))
        return len(content)

    def _count(self, moved: str, size: int) -> None:
        self._present[moved] = size
        self._done.files += 1
        self._done.size_bytes += size

    def _copy_log(self) -> None:
        """Older metadata files, those that are still there."""
        for entry in self._metadata.metadata_log:
            raw = parse_json(self._storage, self._move.source(entry.metadata_file))
            moved = self._move.moved(entry.metadata_file)
            if raw is None:
                continue
            self._log_moved.add(moved)
            self._write(moved, partial(move_metadata, raw, self._move, keep_log=lambda _: True))

    def _moved_metadata_location(self, location: str) -> str:
        return self._move.target + location.removeprefix(self._source.folder)

    def _refuse_if_diverged(self) -> None:
        catalog, name = self._target.catalog, self._source.name
        pointer = current_pointer(catalog, name) if catalog is not None else None
        if pointer is not None and canonical(pointer) not in self._target.state.get(name, ()):
            raise ConflictError(
                f"the copy was written to since it was made, or was never ours: it is at `{pointer}`",
                where=name,
                fix="A copy that lives on is a table of its own: copy into another warehouse, or the other way round.",
            )

    def _register(self, newest: str) -> None:
        before = self._target.state.get(self._source.name, [])
        self._target.state[self._source.name] = [*before[-1:], newest]  # both, until the catalog has the newer one
        write_state(self._target)
        if self._target.catalog is not None:
            try:
                register_table(self._target.catalog, self._source.name, newest, replace=True)
            except OSError as error:
                raise UnavailableError(f"the copy could not be registered: {error}", where=self._source.name) from error
            self._done.registered = True


def replicate(
    sources: Iterable[Callable[[], Source]],
    storage: Storage,
    target: Target,
    *,
    dry_run: bool = False,
    progress: type_progress = no_progress,
) -> Iterator[Copied]:
    """Copy tables one after the other, and go on from what earlier runs left."""
    read_state(target)
    for source in sources:
        yield replicate_table(source, storage, target, dry_run=dry_run, progress=progress)
