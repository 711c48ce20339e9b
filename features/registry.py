"""Versions of feature views, kept in the lake's table `registry.feature_views`; nothing is ever overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from core.clock import Clock
from core.errors import NotFoundError
from features.declaration import FeatureView, fingerprint, from_json, to_json
from iceberg.loading import must_load
from iceberg.predicates import equals
from iceberg.row_appends import append_rows, scan_rows, type_rows
from iceberg.tables import FEATURE_VIEWS, ensure_tables

_TABLE = FEATURE_VIEWS.identifier


@dataclass(frozen=True)
class Registered:
    """A version of a feature view.

    Attributes:
        sql_hash: of the view's SQL in the stream database; a new definition of the same columns is a new version, too.
        epoch: of the stream database, when it was applied; rows of earlier epochs were computed by an earlier version.
    """

    view: FeatureView
    version: int
    applied_at: datetime
    fingerprint: str
    pipeline: str | None = None
    sql_hash: str | None = None
    epoch: int | None = None


class FeatureRegistry:
    """The registry in a catalog; the table is made where it is missing."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        ensure_tables(catalog, (FEATURE_VIEWS,))

    def apply(
        self, view: FeatureView, *, pipeline: str | None = None, sql_hash: str | None = None, epoch: int | None = None
    ) -> tuple[Registered, bool]:
        """Register a view unless its last version is the same; returns the version that counts, and whether it is new."""
        mark = fingerprint(view)
        last: Registered | None = None

        def next_row(head: Table) -> type_rows:
            nonlocal last
            last = max((_read(row) for row in scan_rows(head, equals("name", view.name))), key=_version, default=None)
            if last is not None and (last.fingerprint, last.sql_hash) == (mark, sql_hash):
                return []
            return [{
                "name": view.name, "version": last.version + 1 if last is not None else 1, "applied_at": self._clock.now(),
                "fingerprint": mark, "declaration": to_json(view), "pipeline": pipeline, "sql_hash": sql_hash, "epoch": epoch,
            }]  # fmt: skip

        added = append_rows(must_load(self._catalog, _TABLE), next_row, clock=self._clock)
        if added:
            return _read(added[0]), True
        assert last is not None, "nothing is to be done only where the same is there"
        return last, False

    def latest(self) -> dict[str, Registered]:
        """The last version of each view, by name."""
        result: dict[str, Registered] = {}
        for found in self.versions():
            result[found.view.name] = found
        return result

    def versions(self, name: str | None = None) -> Sequence[Registered]:
        """All versions, or those of one view, oldest first."""
        table = must_load(self._catalog, _TABLE)
        scan = table.scan(row_filter=equals("name", name)) if name is not None else table.scan()
        rows: list[dict[str, Any]] = scan.to_arrow().to_pylist()  # Any: typed by the table
        return sorted((_read(row) for row in rows), key=lambda found: (found.view.name, found.version))

    def must_get(self, name: str, version: int | None = None) -> Registered:
        """A version of a view, by default the last.

        Raises:
            NotFoundError: there is none; says which there are.
        """
        found = [each for each in self.versions(name) if version in (None, each.version)]
        if not found:
            known = ", ".join(f"`{each}`" for each in sorted(self.latest())) or "none yet"
            wanted = f"`{name}`" if version is None else f"version {version} of `{name}`"
            raise NotFoundError(
                f"feature view {wanted} is not registered",
                where=_TABLE,
                fix=f"Registered: {known}. See headrace features apply.",
            )
        return found[-1]


# -- below: called by the above


def _version(found: Registered) -> int:
    return found.version


def _read(row: Mapping[str, Any]) -> Registered:
    return Registered(
        from_json(row["declaration"]), row["version"], row["applied_at"], row["fingerprint"], row["pipeline"],
        row["sql_hash"], row["epoch"],
    )  # fmt: skip
