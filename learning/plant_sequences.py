"""Rows for the models that see a stretch of readings: a window's features, and the readings of it and of the window before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from learning import plant, plant_features
from learning.labelled import LabelledRows
from learning.models.sequence import Layout

LAYOUT = Layout(steps=20, channels=len(plant.CHANNELS), tabular=len(plant_features.FEATURES))


def sequence_rows(replay: plant.PlantReplay) -> LabelledRows:
    """One row per pump and window, in the layout `LAYOUT`; windows with a lost or missing reading are left out.

    Returns:
        features float32[rows, LAYOUT.width]: the window's features, then 20 readings, the oldest first.
    """
    windows = plant_features.labelled_features(replay.events, replay.truth)
    rows, labels, series = [], [], []
    pumps = (
        pa.TableGroupBy(replay.events, ["tenant_id", "entity_id"])
        .aggregate([])
        .sort_by([("tenant_id", "ascending"), ("entity_id", "ascending")])
    )
    for number, pump in enumerate(pumps.to_pylist()):
        readings = _of(replay.events, pump).sort_by("event_time")
        seconds = readings["event_time"].cast(pa.int64()).to_numpy() // 1_000_000
        values = np.column_stack([readings[channel].to_numpy() for channel in plant.CHANNELS])
        for window in _of(windows, pump).to_pylist():
            end = int(np.searchsorted(seconds, int(window["feature_end"].timestamp())))
            begin = end - LAYOUT.steps
            if begin < 0 or seconds[end - 1] - seconds[begin] != LAYOUT.steps - 1:
                continue
            tabular = [np.nan if window[name] is None else window[name] for name in plant_features.FEATURES]
            rows.append(np.concatenate([tabular, values[begin:end].reshape(-1)]))
            labels.append(plant.CLASSES.index(window["label"]))
            series.append(number)
    features = np.array(rows, np.float32)
    whole = np.isfinite(features).all(axis=1)
    return LabelledRows(features[whole], np.array(labels)[whole], plant.CLASSES, np.array(series)[whole])


def _of(table: pa.Table, pump: dict[str, str]) -> pa.Table:
    mine = pc.and_(pc.equal(table["tenant_id"], pump["tenant_id"]), pc.equal(table["entity_id"], pump["entity_id"]))
    return table.filter(mine)
