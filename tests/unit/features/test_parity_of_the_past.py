"""What `verify` says of the past, from a lake alone: the events and the history by epoch."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from features.declaration import Feature, FeatureView, Offline
from features.parity import ViewReport, compare_past
from tests.unit.features.conftest import Lake, at

VIEW = FeatureView(
    "sums",
    ("entity_id",),
    "feature_end",
    (Feature("total", "double precision"), Feature("readings", "bigint")),
    offline=Offline(
        "sums",
        "SELECT entity_id, time_bucket(INTERVAL '10 seconds', event_time) + INTERVAL '10 seconds' AS feature_end,"
        " sum(x) AS total, count(*) AS readings FROM events GROUP BY ALL",
    ),
)
STAMP = pa.timestamp("us", "UTC")


def _write(lake: Lake, name: str, columns: dict[str, pa.DataType], rows: list[dict[str, Any]]) -> None:
    from iceberg.tables import create_table_for_arrow

    schema = pa.schema([*columns.items(), ("sink_epoch", pa.int64())])
    table = create_table_for_arrow(lake.catalog, name, schema)
    full = table.schema().as_arrow()
    table.append(pa.table({n: pa.array([row.get(n) for row in rows], full.field(n).type) for n in full.names}))


def _events(lake: Lake, *events: tuple[int, str, float, float]) -> None:
    """(epoch, entity, seconds, x), offsets in this order."""
    columns = {
        "entity_id": pa.string(),
        "event_time": STAMP,
        "x": pa.float64(),
        "kafka_partition": pa.string(),
        "kafka_offset": pa.string(),
    }
    rows = [
        {"entity_id": e, "event_time": at(s), "x": x, "kafka_partition": "0", "kafka_offset": str(i), "sink_epoch": epoch}
        for i, (epoch, e, s, x) in enumerate(events)
    ]
    _write(lake, "lake.events_sums", columns, rows)


def _history(lake: Lake, *changes: tuple[int, int, str, float, float, int]) -> None:
    """(epoch, changelog_op, entity, feature_end in seconds, total, readings)."""
    columns = {
        "entity_id": pa.string(),
        "feature_end": STAMP,
        "total": pa.float64(),
        "readings": pa.int64(),
        "changelog_op": pa.int32(),
    }
    rows = [
        {"sink_epoch": n, "changelog_op": op, "entity_id": e, "feature_end": at(s), "total": t, "readings": r}
        for n, op, e, s, t, r in changes
    ]
    _write(lake, "lake.features_sums", columns, rows)


EVENTS = ((1, "a", 1, 1.0), (2, "a", 12, 5.0), (3, "a", 3, 2.0), (3, "b", 4, 7.0))
HISTORY = (
    (1, 1, "a", 10, 1.0, 1), (2, 1, "a", 20, 5.0, 1), (3, 4, "a", 10, 1.0, 1), (3, 3, "a", 10, 3.0, 2), (3, 1, "b", 10, 7.0, 1),
)  # fmt: skip


def _found(lake: Lake, view: FeatureView = VIEW, moments: int = 10) -> tuple[ViewReport, list[tuple[object, ...]]]:
    report, found = compare_past(lake.catalog, view, moments=moments)
    return report, [(f.at, f.entity["entity_id"], f.timestamp, f.feature, f.online, f.offline, f.kind) for f in found]


def test_every_epoch_is_compared_and_late_events_correct_both_sides(lake: Lake) -> None:
    _events(lake, *EVENTS)
    _history(lake, *HISTORY)
    report, found = _found(lake)
    assert found == []
    assert (report.moments, report.compared, report.mismatches) == (3, 2 * (1 + 2 + 3), 0)


def test_a_correction_that_came_an_epoch_too_late_is_found_in_that_epoch(lake: Lake) -> None:
    _events(lake, *EVENTS, (4, "b", 15, 1.0))
    later = tuple((4 if n == 3 and e == "a" else n, op, e, s, t, r) for n, op, e, s, t, r in HISTORY)
    _history(lake, *later, (4, 1, "b", 20, 1.0, 1))
    report, found = _found(lake)
    assert found == [
        ("epoch 3", "a", at(10), "total", 1.0, 3.0, "value"),
        ("epoch 3", "a", at(10), "readings", 1, 2, "value"),
    ]
    assert report.mismatches == 2


def test_rows_that_are_missing_or_too_many_are_found(lake: Lake) -> None:
    _events(lake, *EVENTS)
    _history(lake, *HISTORY[:-1], (3, 1, "c", 10, 1.0, 1))
    _, found = _found(lake, moments=1)
    assert [(entity, kind) for _, entity, *_, kind in found] == [("b", "missing online"), ("c", "missing offline")]


def test_a_retraction_that_was_forgotten_is_found(lake: Lake) -> None:
    _events(lake, *EVENTS[:1])
    _history(lake, HISTORY[0], (1, 1, "z", 10, 9.0, 1), (2, 2, "z", 10, 9.0, 1))
    report, found = _found(lake)
    assert [(at_, entity) for at_, entity, *_ in found] == [("epoch 1", "z")]
    assert report.moments == 2


def test_what_an_earlier_version_made_is_not_held_against_the_present_one(lake: Lake) -> None:
    _events(lake, *EVENTS)
    _history(lake, (1, 1, "a", 10, 100.0, 1), *HISTORY[1:2], HISTORY[4])
    _, found = compare_past(lake.catalog, VIEW, since_epoch=1)
    assert found == [], "the row of epoch 1 was made by another definition"
    _, found = compare_past(lake.catalog, VIEW)
    assert {each.entity["entity_id"] for each in found} == {"a"}


def test_windows_that_close_wait_for_the_slowest_partition(lake: Lake) -> None:
    offline = VIEW.offline
    assert offline is not None
    closing = replace(VIEW, offline=replace(offline, emit="window_close", watermark=timedelta(seconds=5)))
    _events(lake, (1, "a", 1, 1.0), (2, "a", 14.9, 5.0), (3, "a", 15, 2.0))
    _history(lake, (3, 1, "a", 10, 1.0, 1))
    report, found = _found(lake, closing)
    assert found == []
    assert report.compared == 2, "nothing was due before the watermark came to the window's end"
    early = replace(closing, offline=replace(offline, emit="window_close", watermark=timedelta(seconds=4)))
    assert [(at_, kind) for at_, *_, kind in _found(lake, early)[1]] == [("epoch 2", "missing online")]


@pytest.mark.parametrize(("online", "differs"), [(3.0 * (1 + 1e-12), False), (3.0 + 1e-6, True), (float("nan"), True)])
def test_sums_in_another_order_are_the_same_and_nothing_else(lake: Lake, online: float, differs: bool) -> None:
    _events(lake, *EVENTS[:1], (1, "a", 3, 2.0))
    _history(lake, (1, 1, "a", 10, online, 2))
    assert bool(_found(lake)[1]) is differs
