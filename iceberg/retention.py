"""Drops whole partitions that are older than a table wants to keep.

A table says so itself, by the property `headrace.retention.days`, on the day that partitions it. A day goes when it is over for so
many days, in one commit that touches no file: the day's data files leave the table, their bytes go when the snapshots that still
know them expire. So until then the day can be brought back (`headrace tables register --replace`).

Rows count by their own time (event time), not by when they were written. Partitions whose day is unknown (NULL) stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import ManifestContent
from pyiceberg.partitioning import PartitionField
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from pyiceberg.types import TimestamptzType
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from core.clock import Clock, SystemClock
from core.errors import InvalidInputError, UnavailableError
from iceberg.holds import refuse_if_held
from iceberg.loading import must_load
from iceberg.predicates import less_than
from iceberg.reachable import Manifests

PROPERTY = "headrace.retention.days"
_ACTION = "dropping old partitions"
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Retained:
    """What retention dropped, or with `dry_run` would; all empty where a table keeps everything.

    Attributes:
        days: how many days the table keeps; None keeps everything.
        before: the first day that is kept.
        dropped: rows that went, by day.
    """

    table: str
    days: int | None
    before: date | None
    dropped: Mapping[date, int]
    files: int = 0


def set_retention(catalog: Catalog, identifier: str, days: int | None) -> None:
    """Let a table keep so many days; None keeps everything.

    Raises:
        InvalidInputError: `days` is less than 1, or the table is not partitioned by day.
    """
    table = must_load(catalog, identifier)
    if days is not None:
        if days < 1:
            raise InvalidInputError(f"`{days}` days cannot be kept", where=identifier, fix="Keep at least 1.")
        _day_field(table)
    with table.transaction() as change:
        if days is None:
            change.remove_properties(PROPERTY)
        else:
            change.set_properties({PROPERTY: str(days)})


def apply_retention(
    catalog: Catalog, identifier: str, *, days: int | None = None, dry_run: bool = False, clock: Clock | None = None
) -> Retained:
    """Drop the partitions of a table whose day is over for longer than it keeps.

    Args:
        days: by default what the table says by `headrace.retention.days`.
        dry_run: change nothing, only tell.
        clock: today, in UTC.

    Raises:
        HeldError: a legal hold may concern the table.
        InvalidInputError: the table is not partitioned by day, or says nonsense.
        UnavailableError: writers were faster for half a minute; nothing has changed.
    """
    table = must_load(catalog, identifier)
    keep = days if days is not None else _stated(table)
    if keep is None:
        return Retained(identifier, None, None, {})
    first = (clock or SystemClock()).now().astimezone(UTC).date() - timedelta(days=keep)
    dropped, files = _older(table, first)
    if dropped and not dry_run:
        refuse_if_held(catalog, _ACTION, identifier)
        try:
            _drop(table, first)
        except CommitFailedException as error:
            raise UnavailableError(f"partitions were not dropped: {error}", where=identifier) from error
    return Retained(identifier, keep, first, dropped, files)


def _stated(table: Table) -> int | None:
    text = table.metadata.properties.get(PROPERTY)
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise InvalidInputError(
            f"property `{PROPERTY}` is `{text}`", where=".".join(table.name()), fix="Set it to a number of days, at least 1."
        )
    return int(text)


def _older(table: Table, first: date) -> tuple[dict[date, int], int]:
    """Rows by day before `first`, and the number of their files; by the partitions alone."""
    position = table.spec().fields.index(_day_field(table))
    snapshot = table.current_snapshot()
    found: dict[date, int] = {}
    files, manifests = 0, Manifests(table.io)
    for manifest in snapshot.manifests(table.io) if snapshot is not None else ():
        if manifest.partition_spec_id != table.metadata.default_spec_id:
            continue  # of an older partitioning: a deletion by time still finds its rows, and counts them by itself
        for file in manifests.live(manifest) if manifest.content == ManifestContent.DATA else ():
            number = file.partition[position]
            if number is not None and (day := _EPOCH + timedelta(days=number)) < first:
                files += 1
                found[day] = found.get(day, 0) + file.record_count
    return dict(sorted(found.items())), files


@retry(
    retry=retry_if_exception_type(CommitFailedException),
    stop=stop_after_delay(30),
    wait=wait_random_exponential(multiplier=0.01, max=0.25),
    reraise=True,
)
def _drop(table: Table, first: date) -> None:
    """Delete by the day's begin: a whole partition matches, so its files leave the table and none is rewritten."""
    table.refresh()
    source = table.schema().find_field(_day_field(table).source_id)
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC if isinstance(source.field_type, TimestamptzType) else None)
    table.delete(less_than(source.name, begin), snapshot_properties={"headrace.retention.before": first.isoformat()})


def _day_field(table: Table) -> PartitionField:
    field = next((field for field in table.spec().fields if isinstance(field.transform, DayTransform)), None)
    if field is None:
        raise InvalidInputError(
            "the table is not partitioned by day",
            where=".".join(table.name()),
            fix="Only tables with a time column can drop days.",
        )
    return field
