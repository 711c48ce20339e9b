"""The real data: whole, divided without overlap, and dealt out with times that name a prediction."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from core.errors import InvalidInputError
from learning.labelled import baselines
from learning.telemetry import FEATURES, load_telemetry, telemetry_stream
from learning.vision import load_vision, vision_stream

START = datetime(2026, 3, 1, tzinfo=UTC)


def test_all_shuttle_rows_are_there_and_no_streamed_row_was_trained_on():
    rows = load_telemetry()
    parts = (rows.train, rows.validate, rows.stream)
    assert sum(part.num_rows for part in parts) == 49_097
    assert sum(part["label"].to_pylist().count("anomaly") for part in parts) == 3_511
    known, validated, streamed = ({tuple(row[name] for name in FEATURES) for row in part.to_pylist()} for part in parts)
    assert not known & streamed
    assert not validated & streamed
    assert not known & validated


def test_all_digits_are_there_and_divided():
    images = load_vision()
    assert [len(part.digits) for part in (images.train, images.validate, images.stream)] == [700, 197, 900]
    assert max(part.pixels.max() for part in (images.train, images.stream)) == 16


@pytest.mark.parametrize("build", [telemetry_stream, vision_stream])
def test_a_stream_deals_rows_to_the_tenants_and_names_each_once(build):
    table = build(START, 300, interval=timedelta(milliseconds=20), tenants=("a", "b"))
    assert table["tenant_id"].to_pylist() == ["a", "b"] * 150
    names = list(zip(*(table[name].to_pylist() for name in ("tenant_id", "entity_id", "event_time")), strict=True))
    assert len(set(names)) == 300
    assert table["event_time"][0].as_py() == START
    assert table["event_time"][299].as_py() == START + timedelta(milliseconds=20 * 299)
    assert table.schema.field("event_time").type == pa.timestamp("us", "UTC")
    assert build(START, 300, interval=timedelta(milliseconds=20), tenants=("a", "b")).equals(table)


def test_an_image_is_sixty_four_raw_bytes():
    row = vision_stream(START, 1).to_pylist()[0]
    assert len(row["image"]) == 64
    assert base64.b64decode(row["payload"]) == row["image"]
    assert list(row["image"]) == load_vision().stream.pixels[0].tolist()


@pytest.mark.parametrize(("build", "rows"), [(telemetry_stream, 50_000), (vision_stream, 901), (vision_stream, 0)])
def test_more_rows_than_there_are_is_refused(build, rows):
    with pytest.raises(InvalidInputError, match=str(rows)):
        build(START, rows)


def test_baselines_are_counted_within_each_series():
    labels = np.array([0, 1, 0, 1, 0, 1])
    assert baselines(labels).last_value == 0.0
    assert baselines(labels, np.array([0, 1, 0, 1, 0, 1])).last_value == pytest.approx(4 / 6)
    assert baselines(np.array([1, 1, 1, 0])).majority_class == 0.75
