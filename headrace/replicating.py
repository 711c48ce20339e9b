"""Copies the lake that the settings name to another warehouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from core.errors import NotFoundError
from core.settings import Settings
from iceberg.catalog import open_catalog, open_lake, warehouse_location
from iceberg.loading import table_names
from iceberg.replication import Copied, Source, Target, catalog_source, found_sources, replicate, replicate_artifacts
from iceberg.storage import Storage, no_progress, type_progress


@dataclass(frozen=True)
class Replicated:
    """What a run did; `catalog_uri` is empty where only bytes were copied."""

    warehouse: str
    catalog_uri: str | None
    tables: Sequence[Copied]
    artifacts: int
    artifacts_bytes: int

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {**asdict(self), "tables": [asdict(each) for each in self.tables]}


def replicate_lake(
    settings: Settings,
    target_warehouse: str,
    *,
    tables: Sequence[str] = (),
    source: str | None = None,
    catalog_uri: str | None = None,
    dry_run: bool = False,
    progress: type_progress = no_progress,
) -> Replicated:
    """Copy tables and artifacts.

    Args:
        settings: name the source, and how S3 is reached.
        target_warehouse: a folder or an object store's URL.
        tables: only these; default: all.
        source: a warehouse whose bytes are read, without its catalog; default: the catalog of the settings.
        catalog_uri: the copy's catalog; default for a folder: a SQLite file in it; for an object store: none.
        dry_run: copy nothing, only tell.
        progress: told of the tables' snapshots.

    Raises:
        NotFoundError: a table does not exist.
    """
    there = warehouse_location(target_warehouse)
    reaching = settings.model_copy(update={"warehouse": target_warehouse}).catalog_properties
    if catalog_uri is None and there.startswith("file://"):
        catalog_uri = f"jdbc:sqlite:{there.removeprefix('file://')}/catalog.db"
    catalog = None
    if catalog_uri is not None and not dry_run:
        kind = "jdbc" if catalog_uri.startswith("jdbc:") else "rest"
        catalog = open_catalog(kind, catalog_uri, there, properties=reaching)
    target = Target(Storage(reaching), there, catalog)
    if source is None:
        lake = open_lake(settings)
        here, storage = warehouse_location(settings.resolved_warehouse), Storage(lake.properties)
        every = {name: partial(catalog_source, lake, name) for name in table_names(lake)}
    else:
        here = warehouse_location(source)
        storage = Storage(settings.model_copy(update={"warehouse": source}).catalog_properties)
        every = {found.name: partial(_same, found) for found in found_sources(storage, here)}
    for name in tables:
        if name not in every:
            raise NotFoundError(f"table `{name}` does not exist", where=here, fix=f"There are {', '.join(every) or 'none'}.")
    # Artifacts first: a version that can be seen in the copy can be loaded from it.
    artifacts, artifacts_bytes = replicate_artifacts(storage, here, target, dry_run=dry_run)
    chosen = [each for name, each in every.items() if not tables or name in tables]
    copied = list(replicate(chosen, storage, target, dry_run=dry_run, progress=progress))
    return Replicated(there, catalog_uri, copied, artifacts, artifacts_bytes)


def _same(source: Source) -> Source:
    """Bytes without a catalog have one state only."""
    return source
