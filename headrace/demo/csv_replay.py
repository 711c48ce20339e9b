"""A demo made of CSV files: a tenant a file, a model of its own normal for each, labels held back and returned.

A row is one second of event time, as recorded if it was one a second: times are scaled so that the usual distance between
two rows is a second, which keeps gaps, and lets hourly series run through ten-second windows too.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.clock import Clock
from core.errors import InvalidInputError
from headrace.demo.csv_files import MOST_CHANNELS, Recording, number_or_text, read_folder
from headrace.demo.records import FeatureKey, Record, Stream, encode
from headrace.demo.scenario import Scenario
from iceberg.registry import Registry
from learning.models.principal_residual import CLASSES, ResidualModel, fit_residual
from learning.train import code_hash
from pipelines.folder import Endpoint, Route

PIPELINE = "replay"
ENDPOINT = "replay.anomaly"
ENTITY = "recording"
WINDOW_SECONDS = 10
CHANNELS = tuple(f"v{i}" for i in range(1, MOST_CHANNELS + 1))
FEATURES = tuple(f"{channel}_{kind}" for kind in ("avg", "std") for channel in CHANNELS)


def csv_scenario(folder: Path) -> Scenario:
    """Read the files and say what is to be trained and sent.

    Raises:
        NotFoundError, InvalidInputError: see `csv_files.read_folder`.
    """
    recordings = read_folder(folder)
    models = {
        recording.tenant: f"replay_{hashlib.sha256(recording.tenant.encode()).hexdigest()[:12]}" for recording in recordings
    }

    def train(registry: Registry, clock: Clock) -> Mapping[str, Sequence[int]]:
        return {models[each.tenant]: [_register(registry, models[each.tenant], each, clock)] for each in recordings}

    return Scenario(
        pipelines=[PIPELINE],
        tenants=list(models),
        endpoint_of={PIPELINE: ENDPOINT},
        endpoints=[Endpoint(tenant_id=tenant, endpoint=ENDPOINT) for tenant in models],
        routes=[Route(tenant_id=tenant, endpoint=ENDPOINT, model=model, version=1) for tenant, model in models.items()],
        train=train,
        build=lambda start, seconds: [build_stream(recordings, start, seconds)],
        known_data=False,
    )


def build_stream(recordings: Sequence[Recording], start: datetime, seconds: float) -> Stream:
    """Deal the rows behind the training part over `seconds`; all files begin together, the longest one ends the replay."""
    offsets = {recording.tenant: _offsets(recording) for recording in recordings}
    longest = max(each[-1] for each in offsets.values())
    speed = max(longest, 1.0) / seconds  # below 1 for a recording that is shorter than the replay
    end = start + timedelta(seconds=longest / speed)
    first = datetime.fromtimestamp((end.timestamp() - longest) // WINDOW_SECONDS * WINDOW_SECONDS, UTC)
    records: list[Record] = []
    truth: dict[FeatureKey, str] = {}
    for recording in recordings:
        own = offsets[recording.tenant]
        for row, offset in enumerate(own, start=recording.train_rows):
            moment = first + timedelta(seconds=offset)
            written, parsed = recording.times[row]
            event = {"tenant_id": recording.tenant, "entity_id": ENTITY, "event_time": moment if parsed else written}
            cells = zip(CHANNELS, recording.cells[row], strict=False)
            event |= {channel: number_or_text(cell) for channel, cell in cells}  # type: ignore[misc]  # a wider value type
            records.append(Record(offset / speed, recording.tenant, ENTITY, encode(event)))
        truth |= _truth(recording, own, first)
    records.sort(key=lambda record: record.at_seconds)
    return Stream(PIPELINE, tuple(offsets), first, tuple(records), truth, speed, Counter())


def training_windows(recording: Recording) -> npt.NDArray[np.float32]:
    """Window features of the training part, a window beginning at each row: float32[rows, 16]."""
    cells = [[number_or_text(cell) for cell in row] for row in recording.cells[: recording.train_rows]]
    values = np.array([[cell if isinstance(cell, float) else np.nan for cell in row] for row in cells])
    # A long series is thinned out: neighbouring windows tell the same.
    starts = range(0, len(values) - WINDOW_SECONDS + 1, max(1, len(values) // 2000))
    windows = [values[start : start + WINDOW_SECONDS] for start in starts]
    features = np.zeros((len(windows), 2 * MOST_CHANNELS), np.float32)
    for i, window in enumerate(windows):
        whole = window[~np.isnan(window).any(axis=1)]
        if len(whole) < 2:
            raise InvalidInputError("the training part has too many empty cells", where=recording.tenant)
        features[i, : whole.shape[1]] = whole.mean(axis=0)
        features[i, MOST_CHANNELS : MOST_CHANNELS + whole.shape[1]] = whole.std(axis=0, ddof=1)
    return features


def _register(registry: Registry, name: str, recording: Recording, clock: Clock) -> int:
    begun = clock.monotonic_seconds()
    features = training_windows(recording)
    model: ResidualModel = fit_residual(features)
    return registry.register(
        name,
        model.to_onnx(),
        kind=model.kind,
        feature_names=FEATURES,
        labels=CLASSES,
        metrics={"training_windows": float(len(features))},
        tags={"framework": "onnx", "model_type": model.kind, "recording": recording.tenant},
        training_data={
            "recording": recording.tenant,
            "rows": recording.train_rows,
            "sha256": hashlib.sha256(features.tobytes()).hexdigest(),
        },
        code_hash=code_hash(),
        duration=timedelta(seconds=clock.monotonic_seconds() - begun),
    ).version


def _offsets(recording: Recording) -> list[float]:
    """Seconds of event time of each streamed row since the first; never backwards, so that the order of the file stays."""
    times = [parsed for _, parsed in recording.times[recording.train_rows :]]
    known = [moment for moment in times if moment is not None]
    if not known:
        return [float(i) for i in range(len(times))]
    steps = [(b - a).total_seconds() for a, b in pairwise(known) if b > a]
    unit = statistics.median(steps) if steps else 1.0
    result: list[float] = []
    for moment in times:
        last = result[-1] if result else 0.0
        result.append(max(last, (moment - known[0]).total_seconds() / unit) if moment is not None else last)
    return result


def _truth(recording: Recording, offsets: Sequence[float], first: datetime) -> dict[FeatureKey, str]:
    """The label of each window: an anomaly when at least half of its rows are."""
    if recording.anomalous is None:
        return {}
    rows: dict[int, list[bool]] = {}
    for anomalous, offset in zip(recording.anomalous[recording.train_rows :], offsets, strict=True):
        rows.setdefault(int(offset // WINDOW_SECONDS), []).append(anomalous)
    return {
        FeatureKey(recording.tenant, ENTITY, first + timedelta(seconds=(window + 1) * WINDOW_SECONDS)): CLASSES[
            2 * sum(own) >= len(own)
        ]
        for window, own in rows.items()
    }
