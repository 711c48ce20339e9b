"""A lake in a folder of the test's own, and histories written into it as the stream database writes them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from core.fakes.clock import ManualClock
from features.declaration import Feature, FeatureView, Offline
from iceberg.catalog import open_catalog
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

T0 = datetime(2026, 3, 1, tzinfo=UTC)

_ARROW = {"double precision": pa.float64(), "bigint": pa.int64(), "varchar": pa.string()}


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


@dataclass
class Lake:
    """Appends rows in the order of their epochs; `written` is when the lake gets to know them."""

    catalog: Catalog
    epoch: int = 0
    writers: dict[str, ExactlyOnceTable] = field(default_factory=dict)
    clock: ManualClock = field(default_factory=lambda: ManualClock(T0))

    def create(self, view: FeatureView, *, changelog: bool = False) -> None:
        fields = [(key, pa.string()) for key in view.entity] + [(view.timestamp, pa.timestamp("us", "UTC"))]
        if view.valid_until:
            fields.append((view.valid_until, pa.timestamp("us", "UTC")))
        fields += [(each.name, _ARROW[each.type]) for each in view.features]
        if changelog:
            fields.append(("changelog_op", pa.int32()))
        create_table_for_arrow(self.catalog, view.history_table, pa.schema(fields))
        self.writers[view.name] = ExactlyOnceTable(self.catalog, view.history_table, uuid.uuid4(), clock=self.clock)

    def append(self, view: FeatureView, rows: Sequence[dict[str, Any]], *, written: datetime | None = None) -> None:
        self.epoch += 1
        if written is not None:
            self.clock.advance(written - self.clock.now())
        schema = self.catalog.load_table(view.history_table).schema().as_arrow()
        names = [name for name in schema.names if name not in ("sink_epoch", "sink_time")]
        table = pa.table({name: pa.array([row.get(name) for row in rows], schema.field(name).type) for name in names})
        self.writers[view.name].append(self.epoch, table)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"))
    yield Lake(catalog)
    catalog.close()


def closed(name: str = "pumps", ttl: timedelta = timedelta(days=1), features: Sequence[str] = ("x", "y")) -> FeatureView:
    """A view whose windows are final when they are there."""
    return FeatureView(
        name,
        ("tenant_id", "entity_id"),
        "feature_end",
        tuple(Feature(each, "double precision") for each in features),
        ttl=ttl,
        offline=Offline(name, "SELECT 1", emit="window_close", watermark=timedelta(seconds=5)),
    )


def updating(name: str = "totals", ttl: timedelta = timedelta(days=1), features: Sequence[str] = ("x", "y")) -> FeatureView:
    """A view whose rows are revised."""
    return FeatureView(
        name, ("tenant_id", "entity_id"), "feature_end", tuple(Feature(f, "double precision") for f in features), ttl=ttl
    )
