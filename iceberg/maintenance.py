"""One pass of maintenance over the lake: compact, expire (and drop the days that a table does not keep), remove orphans; each table for itself.

What goes wrong with one table is told and counted, and the others are done all the same. Everything is as safe beside writers as
its parts are: compaction never makes a writer fail, expiry and orphan removal keep what a reader or a commit in flight may need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pyiceberg.catalog import Catalog

from core.clock import Clock
from core.errors import HeadraceError
from core.settings import MaintenanceSettings
from iceberg.compaction import compact
from iceberg.expiry import expire_snapshots
from iceberg.holds import HeldError
from iceberg.loading import must_load, table_names
from iceberg.orphans import remove_orphaned_artifacts, remove_orphans
from iceberg.retention import apply_retention

logger = logging.getLogger(__name__)

type_task = Literal["compact", "expire", "orphans"]
TASKS: tuple[type_task, ...] = ("compact", "expire", "orphans")
ARTIFACTS = "artifacts"


@dataclass(frozen=True)
class Done:
    """What a task did with a table: counts by name, or why it did nothing."""

    table: str
    task: type_task
    counts: Mapping[str, int]
    error: str | None = None
    held: bool = False


class Maintenance:
    """Knows how each task is done.

    Args:
        catalog: the lake.
        warehouse: where it lies; artifacts are below.
        settings: intervals are the caller's business, everything else is ours.
        clock: now.
    """

    def __init__(self, catalog: Catalog, warehouse: str, settings: MaintenanceSettings, clock: Clock) -> None:
        self._catalog = catalog
        self._warehouse = warehouse
        self._settings = settings
        self._clock = clock

    def run(self, task: type_task, *, stop: Callable[[], bool] = lambda: False) -> list[Done]:
        """Do a task for all tables; `stop` is asked between two of them."""
        work = {"compact": self._compact, "expire": self._expire, "orphans": self._remove_orphans}[task]
        done: list[Done] = []
        for name in table_names(self._catalog):
            if stop():
                return done
            done.append(self._guarded(name, task, work))
        if task == "orphans":
            done.append(self._guarded(ARTIFACTS, task, self._remove_artifacts))
        return done

    def _guarded(self, name: str, task: type_task, work: Callable[[str], Mapping[str, int]]) -> Done:
        try:
            counts = work(name)
        except HeldError as error:
            return Done(name, task, {}, str(error), held=True)
        except (HeadraceError, OSError, ValueError) as error:  # one table's trouble is not the others'
            logger.warning("maintenance failed", extra={"table": name, "task": task, "error": str(error)}, exc_info=True)
            return Done(name, task, {}, str(error) or type(error).__name__)
        if any(counts.values()):
            logger.info("maintenance done", extra={"table": name, "task": task, **counts})
        return Done(name, task, counts)

    def _compact(self, name: str) -> Mapping[str, int]:
        done = compact(self._catalog, name, max_commits=self._settings.commits_per_pass, clock=self._clock)
        return {**asdict(done), "files_saved": done.files_saved, "bytes_saved": done.bytes_saved}

    def _expire(self, name: str) -> Mapping[str, int]:
        dropped = apply_retention(self._catalog, name, clock=self._clock)
        done = expire_snapshots(
            self._catalog,
            name,
            older_than=self._limit(name),
            keep_last=self._settings.keep_last,
            grace=timedelta(minutes=self._settings.grace_minutes),
            clock=self._clock,
        )
        return {
            "snapshots": len(done.snapshots),
            "files": len(done.files),
            "size_bytes": done.size_bytes,
            "rows_beyond_retention": sum(dropped.dropped.values()),
        }

    def _limit(self, name: str) -> datetime:
        """How far back time travel reaches: by age, or less where that would be more snapshots than are allowed."""
        oldest = self._clock.now() - timedelta(hours=self._settings.retain_hours)
        snapshots = must_load(self._catalog, name).metadata.snapshots
        if len(snapshots) <= self._settings.max_snapshots:
            return oldest
        newest = sorted((snapshot.timestamp_ms for snapshot in snapshots), reverse=True)
        return max(oldest, datetime.fromtimestamp(newest[self._settings.max_snapshots - 1] / 1000, UTC))

    def _remove_orphans(self, name: str) -> Mapping[str, int]:
        done = remove_orphans(self._catalog, name, older_than=self._orphan_age, clock=self._clock)
        return {"files": len(done.files), "size_bytes": done.size_bytes}

    def _remove_artifacts(self, _name: str) -> Mapping[str, int]:
        done = remove_orphaned_artifacts(self._catalog, self._warehouse, older_than=self._orphan_age, clock=self._clock)
        return {"files": len(done.files), "size_bytes": done.size_bytes}

    @property
    def _orphan_age(self) -> timedelta:
        return timedelta(hours=self._settings.orphan_age_hours)
