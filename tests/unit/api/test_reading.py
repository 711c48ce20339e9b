"""Pages of predictions: keyset, tenants, and history as of a time from real Iceberg tables."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from api.reading.labels import read_labels
from api.reading.lake import Lake
from api.reading.predictions import COLUMNS, Key, PredictionFilter, Predictions
from api.reading.quarantine import Place
from core.errors import InvalidInputError
from core.ids import TenantId
from core.settings import Settings
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import ensure_tables
from tests.unit.api.doubles import ScriptedReads

ACME = TenantId("acme")
AT = datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(Settings(data_dir=tmp_path))


def _row(number: int, tenant: str = "acme", score: float = 0.5) -> dict[str, object]:
    end = AT + timedelta(seconds=10 * (number // 2))  # two rows share each time, so that the id decides
    return {
        "prediction_id": f"p{number:03}", "pipeline": "plant", "tenant_id": tenant, "endpoint": "plant.health",
        "entity_id": "pump-1", "feature_start": end - timedelta(seconds=10), "feature_end": end, "features": [1.0, 2.0],
        "route_epoch": 7, "label": "ok", "score": score, "members": '[{"model": "m", "version": 1}]', "error": None,
    }  # fmt: skip


def _write(lake: Lake, epoch: int, rows: list[dict[str, object]]) -> datetime:
    """Append in one commit and return a moment at which it is the newest."""
    catalog = lake.catalog()
    ensure_tables(catalog)
    table = catalog.load_table("lake.predictions")
    schema = table.schema().as_arrow()
    complete = [{"sink_epoch": epoch, **row} for row in rows]
    ExactlyOnceTable(catalog, "lake.predictions", uuid.UUID(int=1)).append(epoch, pa.Table.from_pylist(complete, schema=schema))
    committed = catalog.load_table("lake.predictions").history()[-1].timestamp_ms
    return datetime.fromtimestamp(committed / 1000, UTC)


async def test_history_shows_what_was_there_at_that_time_for_that_tenant(lake: Lake) -> None:
    first = _write(lake, 1, [_row(0), _row(1, tenant="globex")])
    later = _write(lake, 2, [_row(2), _row(3, score=0.9)])
    reader = Predictions(ScriptedReads(), lake, "predictions", "lake.predictions")
    then = await reader.page(ACME, PredictionFilter(), first=10, after=None, as_of=first)
    now = await reader.page(ACME, PredictionFilter(), first=10, after=None, as_of=later)
    high = await reader.page(ACME, PredictionFilter(min_score=0.8, since=AT), first=10, after=None, as_of=later)
    assert [row["prediction_id"] for row in then.rows] == ["p000"]
    assert [row["prediction_id"] for row in now.rows] == ["p003", "p002", "p000"]
    assert [row["prediction_id"] for row in high.rows] == ["p003"]
    assert now.rows[0]["feature_end"] == _row(3)["feature_end"]


async def test_pages_of_history_neither_lose_nor_repeat_a_row(lake: Lake) -> None:
    at = _write(lake, 1, [_row(number) for number in range(7)])
    reader = Predictions(ScriptedReads(), lake, "predictions", "lake.predictions")
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await reader.page(ACME, PredictionFilter(), first=2, after=after, as_of=at)
        seen += [row["prediction_id"] for row in page.rows]
        if not page.has_next:
            break
        after = Key.of(page.rows[-1]).encode()
    assert seen == [f"p{number:03}" for number in reversed(range(7))]


async def test_every_statement_about_the_present_begins_with_the_callers_tenant(lake: Lake) -> None:
    reads = ScriptedReads()
    columns = ", ".join(f'"{column}"' for column in COLUMNS)
    statement = (
        f'SELECT {columns} FROM "predictions" WHERE "tenant_id" = %s AND "pipeline" = %s '
        "AND (feature_end < %s OR (feature_end = %s AND prediction_id < %s)) "
        "ORDER BY feature_end DESC, prediction_id DESC LIMIT 3"
    )
    reads.answers[statement] = [_row(number) for number in (5, 4, 3)]
    reader = Predictions(reads, lake, "predictions", "lake.predictions")
    hostile = "' OR tenant_id = 'globex"
    page = await reader.page(ACME, PredictionFilter(pipeline=hostile), first=2, after=Key(AT, "p9").encode(), as_of=None)
    assert reads.asked == [(statement, ["acme", hostile, AT, AT, "p9"])]
    assert ([row["prediction_id"] for row in page.rows], page.has_next) == (["p005", "p004"], True)


async def test_labels_of_many_predictions_are_one_statement() -> None:
    reads = ScriptedReads()
    statement = (
        "SELECT prediction_id, label, labelled_at, source FROM labels WHERE tenant_id = %s AND prediction_id IN (%s, %s)"
    )
    reads.answers[statement] = [{"prediction_id": "p2", "label": "worn", "labelled_at": AT, "source": "person"}]
    found = await read_labels(reads, ACME, ["p1", "p2"])
    assert {name: row["label"] for name, row in found.items()} == {"p2": "worn"}
    assert reads.asked == [(statement, ["acme", "p1", "p2"])]
    assert await read_labels(reads, ACME, []) == {}


def test_cursors_survive_the_way_and_foreign_ones_are_refused() -> None:
    key = Key(AT, "with|bar and ü")
    assert Key.parse(key.encode()) == key
    assert Place.parse(Place(12, 3).encode()) == Place(12, 3)
    for parse in (Key.parse, Place.parse):
        for cursor in ("", "!", "cDF8eHx5", Place(1, 1).encode() if parse is Key.parse else key.encode()):
            with pytest.raises(InvalidInputError):
                parse(cursor)
