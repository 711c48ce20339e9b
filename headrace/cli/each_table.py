"""Doing the same with each table of the lake, and telling what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from headrace.cli.context import load_lake_settings
from headrace.cli.output import print_json, print_rows
from headrace.cli.progress import progress

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from core.settings import Settings
    from iceberg.usage import Share

Tell = Callable[[str, int, int], None]


def catalog_of(context: typer.Context, data_dir: Path | None) -> Catalog:
    return open_lake(load_lake_settings(context, data_dir))


def open_lake(settings: Settings) -> Catalog:
    from iceberg.catalog import open_lake as opened

    return opened(settings)


def each_table(
    catalog: Catalog,
    tables: Sequence[str] | None,
    run: Callable[[Catalog, str, Tell], Mapping[str, object]],
    *,
    dry_run: bool,
    as_json: bool,
    more: Sequence[Mapping[str, object]] = (),
) -> None:
    """Do something with each table and print what came of it.

    A table that was named must be done. Of all tables, those that a legal hold or an uncertainty forbids are skipped with the
    reason; exit code 1 if one was skipped that no hold is on.
    """
    from core.errors import ConflictError, CorruptDataError
    from iceberg.holds import HeldError
    from iceberg.loading import table_names

    rows, wrong = list(more), False
    with progress() as tell:
        for name in tables or table_names(catalog):
            try:
                rows.append({"table": name, **run(catalog, name, tell), "refused": None})
            except (ConflictError, CorruptDataError) as error:
                if tables:
                    raise
                wrong = wrong or not isinstance(error, HeldError)
                rows.append({"table": name, "refused": str(error)})
    if as_json:
        print_json({"dry_run": dry_run, "tables": rows})
    else:
        names = list(dict.fromkeys(key for row in rows for key in row))
        print_rows([{key: "" if row.get(key) is None else row[key] for key in names} for row in rows], as_json=False)
    if wrong:
        raise typer.Exit(1)


def told_share(share: Share) -> str:
    return f"{human_bytes(share.size_bytes)} in {share.files}"


def human_bytes(size: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
