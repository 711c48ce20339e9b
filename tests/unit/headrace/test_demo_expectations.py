"""What the demo's check expects: judged here on rows whose verdict is known beforehand."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest

from headrace.demo.bad_rows import KINDS, mix_in
from headrace.demo.expectations import PIPELINES, Judged, closing_times, expected_rows, judge, open_windows
from headrace.demo.topics import Raw

START = datetime(2026, 1, 1, tzinfo=UTC)
PLANT = PIPELINES["plant"]


def event(second: float, **more: object) -> dict[str, object]:
    base = {"tenant_id": "t", "entity_id": "e", "event_time": START + timedelta(seconds=second)}
    return {**base, "vibration": 1.0, "temperature": 2.0, "pressure": 3.0, "flow": 4.0, **more}


def raw(offset: int, value: dict[str, object] | bytes, appended: datetime = START) -> Raw:
    text = value if isinstance(value, bytes) else json.dumps(value, default=lambda v: v.isoformat()).encode()
    return Raw(0, offset, int(appended.timestamp() * 1000) + offset, "t", text)


def verdicts(*values: dict[str, object] | bytes) -> list[tuple[int, str]]:
    return [(v.offset, v.kind) for v in judge([raw(i, value) for i, value in enumerate(values)], PLANT).bad]


def test_each_kind_of_injected_row_is_found_bad_for_its_own_reason() -> None:
    good = event(200)
    bad = [KINDS[kind](good) for kind in KINDS]
    assert verdicts(good, *bad) == [(i, kind) for i, kind in enumerate(KINDS, start=1)]


def test_mixing_in_keeps_every_good_row_and_counts_the_bad() -> None:
    events = [(float(i), event(i)) for i in range(200)]
    records, injected = mix_in(events, each=3, seed=1, from_seconds=150)
    judged = judge([raw(i, record.value) for i, record in enumerate(records)], PLANT)
    assert judged.events.num_rows == 200
    assert sum(injected.values()) == len(judged.bad) == 15


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (event(0, vibration="high"), "mistyped"),
        (event(0, vibration=True), "mistyped"),
        (event(0, tenant_id=7), "mistyped"),
        (event(0, tenant_id=None), "incomplete"),
        (b"[]", "mistyped"),
        (b"{", "broken"),
        (event(301), "early"),
    ],
)
def test_bad_rows(value: dict[str, object] | bytes, kind: str) -> None:
    assert verdicts(value) == [(0, kind)]


def test_late_is_decided_row_by_row_in_the_order_of_the_offsets() -> None:
    # the watermark is the newest event time so far less five seconds; equal to it is in time
    assert verdicts(event(0), event(10), event(5), event(4.999), event(20), event(14)) == [(3, "late"), (5, "late")]


def test_a_row_from_the_future_does_not_make_others_late() -> None:
    assert verdicts(event(0), event(3600), event(1)) == [(1, "early")]


def judged_windows() -> Judged:
    return judge([raw(i, event(second)) for i, second in enumerate((0, 4, 11, 14.9, 15, 24, 25))], PLANT)


def test_windows_close_when_the_watermark_reaches_their_end() -> None:
    rows = expected_rows("plant", judged_windows()).to_pylist()
    assert [(row["feature_end"].second, row["features"][0]) for row in rows] == [(10, 1.0), (20, 1.0)]
    assert open_windows("plant", judged_windows()) == {"t": 1}


def test_the_closing_event_is_the_first_whose_watermark_reaches_the_end() -> None:
    closing = {row["feature_end"].second: row["trigger_ms"] for row in closing_times("plant", judged_windows()).to_pylist()}
    base = int(START.timestamp() * 1000)
    assert closing == {10: base + 4, 20: base + 6}


@pytest.mark.parametrize(
    ("microsecond", "text"), [(0, "00:00:00+00:00"), (20_000, "00:00:00.020+00:00"), (20_010, "00:00:00.020010+00:00")]
)
def test_prediction_ids_are_those_of_the_sql(microsecond: int, text: str) -> None:
    row = {"tenant_id": "t", "entity_id": "e", "event_time": START.replace(microsecond=microsecond)}
    judged = judge([raw(0, row | {f"f{i}": 0.0 for i in range(1, 10)})], PIPELINES["telemetry"])
    (found,) = expected_rows("telemetry", judged).to_pylist()
    assert found["prediction_id"] == hashlib.md5(f"t/telemetry/e/2026-01-01 {text}".encode()).hexdigest()


def test_image_bytes_become_pixels() -> None:
    row = {
        "tenant_id": "t",
        "entity_id": "e",
        "event_time": START,
        "payload": "AAECAwQFBgcICQoLDA0ODxAAAQIDBAUGBwgJCgsMDQ4PEAABAgMEBQYHCAkKCwwNDg8QAAECAwQFBgcICQoLDA==",
    }
    judged = judge([raw(0, row)], PIPELINES["vision"])
    (found,) = expected_rows("vision", judged).to_pylist()
    assert found["features"] == [float(i % 17) for i in range(64)]
