"""Finds files that nobody needs any more, and removes them.

They come from writers that died before their commit, from maintenance that died after its own, and from registrations that
were interrupted after the artifact. A file is an orphan when all of this holds:

- it was written longer ago than the safety age: a younger one may belong to a commit in flight;
- it lies below the table's own location, and not below that of another table inside it;
- no snapshot that is kept, no metadata file in the log and no statistics entry reaches it, in metadata that was loaded after
  the files were listed, and again right before they are removed.

An artifact is an orphan when no row of any table of namespace `registry`, in any snapshot that is kept, names its hash: so an
artifact goes when its version was deleted and the history that knew it has expired.

Nothing is removed, and the reason is told, where the picture is not certain: a file of the table cannot be read; the catalog
points to an older state than the newest that lies there; another catalog's table lies at the same place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from core.clock import Clock, SystemClock
from core.errors import ConflictError, CorruptDataError, InvalidInputError
from iceberg.holds import refuse_if_held
from iceberg.loading import must_load, table_names
from iceberg.reachable import Kind, Manifests, reach
from iceberg.storage import Storage, StoredFile, canonical, no_progress, type_progress
from iceberg.warehouse import parse_json

SAFETY_AGE = timedelta(days=1)
"""Longer than any commit, and than a day of a process that was stopped and goes on."""

_ACTION = "removing orphans"
_ARTIFACT = re.compile(r"/artifacts/sha256/[0-9a-f]{2}/\.?([0-9a-f]{64})")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Orphans:
    """What nobody needs at one place; with `dry_run` it is still there."""

    place: str
    """A table's name, or `artifacts`."""
    files: tuple[str, ...]
    size_bytes: int
    young: int
    """Files that nobody needs either, but that are younger than the safety age."""
    failed: tuple[str, ...] = ()
    """Orphans that could not be removed."""


def remove_orphans(
    catalog: Catalog,
    identifier: str,
    *,
    older_than: timedelta = SAFETY_AGE,
    dry_run: bool = False,
    clock: Clock | None = None,
    progress: type_progress = no_progress,
) -> Orphans:
    """Remove the files below a table's location that nobody needs.

    Args:
        catalog: from `open_catalog`.
        identifier: e.g. `lake.predictions`.
        older_than: the safety age, by the storage's clock.
        dry_run: change nothing, only tell.
        clock: now.
        progress: told of the removal of files.

    Raises:
        NotFoundError: the table does not exist.
        HeldError: a legal hold may concern the table.
        ConflictError: another table lies at the same place, or the catalog points to an older state.
        CorruptDataError: a file of the table cannot be read, so it is not certain what is needed.
    """
    _check_age(older_than)
    refuse_if_held(catalog, _ACTION, identifier)
    table = must_load(catalog, identifier)
    storage = Storage(catalog.properties)
    limit = (clock or SystemClock()).now() - older_than
    listed = list(own_files(catalog, table, storage))
    needed, location = _needed(table)
    loose = [file for file in listed if file.location not in needed]
    refuse_if_uncertain(table, loose, storage)
    old = [file for file in loose if file.modified_at < limit]
    failed: tuple[str, ...] = ()
    if not dry_run and old:
        again = must_load(catalog, identifier)
        if again.metadata_location != location:
            needed, _ = _needed(again)
            old = [file for file in old if file.location not in needed]
        refuse_if_held(catalog, _ACTION, identifier)
        failed = storage.remove([file.location for file in old], progress)
    return _orphans(identifier, old, loose, failed)


def remove_orphaned_artifacts(
    catalog: Catalog,
    warehouse: str,
    *,
    older_than: timedelta = SAFETY_AGE,
    dry_run: bool = False,
    clock: Clock | None = None,
    progress: type_progress = no_progress,
) -> Orphans:
    """Remove the registry's artifacts that no version names, now or in history that is kept, and halves of interrupted ones.

    Args:
        warehouse: the registry's root, as `warehouse_location` gives it.

    Raises:
        CorruptDataError: a table of the registry cannot be read, so it is not certain what is needed.
    """
    _check_age(older_than)
    storage = Storage(catalog.properties)
    limit = (clock or SystemClock()).now() - older_than
    listed = list(storage.files(f"{canonical(warehouse)}/artifacts/sha256"))
    named = named_hashes(catalog)
    loose = [file for file in listed if is_loose_artifact(file.location, named)]
    old = [file for file in loose if file.modified_at < limit]
    failed: tuple[str, ...] = ()
    if not dry_run and old:
        named = named_hashes(catalog)  # the same artifact may have been registered again meanwhile
        old = [file for file in old if is_loose_artifact(file.location, named)]
        failed = storage.remove([file.location for file in old], progress)
    return _orphans("artifacts", old, loose, failed)


def own_files(catalog: Catalog, table: Table, storage: Storage) -> Iterator[StoredFile]:
    """The files below a table's location that are not below another table's inside it."""
    own = canonical(table.location())
    others = [canonical(must_load(catalog, name).location()) for name in table_names(catalog) if name != ".".join(table.name())]
    if own in others:
        raise ConflictError(f"two tables lie at `{own}`", where=".".join(table.name()), fix="Move one of them by `replicate`.")
    inner = tuple(f"{place}/" for place in others if place.startswith(f"{own}/"))
    return (file for file in storage.files(own) if not file.location.startswith(inner))


def refuse_if_uncertain(table: Table, loose: Iterable[StoredFile], storage: Storage) -> None:
    """Look at metadata files that the table does not know.

    Raises:
        ConflictError: one belongs to another table, or is a later state of this one.
    """
    for file in loose:
        if not file.location.endswith(".metadata.json"):
            continue
        found = parse_json(storage, file.location)
        if found is None:
            continue  # half a file of a writer that died
        where = ".".join(table.name())
        if found.get("table-uuid") != str(table.metadata.table_uuid):
            raise ConflictError(
                f"`{file.location}` belongs to another table with the same place (`{found.get('table-uuid')}`)",
                where=where,
                fix="Two catalogs share this warehouse: give one another folder. Nothing was removed.",
            )
        if is_later(found, table):
            raise ConflictError(
                f"the catalog points to an older state than `{file.location}`",
                where=where,
                fix=f"If the catalog's file was restored from a backup, run `headrace tables register {where} "
                f"{file.location} --replace` first; if the table was set back on purpose, remove that file.",
            )


def is_later(found: dict[str, Any], table: Table) -> bool:
    """Whether metadata descends from the table's current state by more than the one step that a dying writer leaves."""
    log = [canonical(entry.get("metadata-file", "")) for entry in found.get("metadata-log", ())]
    return canonical(table.metadata_location) in log[:-1]


def named_hashes(catalog: Catalog) -> frozenset[str]:
    """The hashes that any text in any kept snapshot of any table of the registry names.

    Raises:
        CorruptDataError: a table cannot be read.
    """
    found: set[str] = set()
    for name in table_names(catalog):
        if not name.startswith("registry."):
            continue
        table = must_load(catalog, name)
        storage = Storage(catalog.properties)
        try:
            for location in reach(table, Manifests(table.io)).of(Kind.DATA):
                with storage.open(location) as stream:
                    found.update(_hashes(pq.read_table(stream)))
        except (OSError, ValueError) as error:
            raise _unreadable(name, error) from error
    return frozenset(found)


def is_loose_artifact(location: str, named: frozenset[str]) -> bool:
    """Whether a file is an artifact that nobody names, or half of one; files that are no artifacts are not."""
    match = _ARTIFACT.search(location)
    return match is not None and (location.endswith(".tmp") or match.group(1) not in named)


def _hashes(rows: pa.Table) -> Iterator[str]:
    for column in rows.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            for text in pc.unique(column).to_pylist():
                yield from _HASH.findall(text or "")


def _needed(table: Table) -> tuple[frozenset[str], str]:
    try:
        return frozenset(reach(table).kinds), table.metadata_location
    except (OSError, ValueError) as error:
        raise _unreadable(".".join(table.name()), error) from error


def _unreadable(name: str, error: Exception) -> CorruptDataError:
    return CorruptDataError(
        f"what the table needs cannot be told: {error}",
        where=name,
        fix="Run `headrace tables check` and mend it first. Nothing was removed.",
    )


def _check_age(older_than: timedelta) -> None:
    if older_than < timedelta(0):
        raise InvalidInputError(f"a safety age of {older_than.total_seconds():g} s is negative")


def _orphans(place: str, old: Sequence[StoredFile], loose: Sequence[StoredFile], failed: tuple[str, ...]) -> Orphans:
    removed = tuple(sorted(file.location for file in old))
    return Orphans(place, removed, sum(file.size_bytes for file in old), len(loose) - len(old), failed)
