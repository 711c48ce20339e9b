"""`headrace bench anomaly`: recordings through the real pipeline, one verdict a row, scored against their labels.

    CSV files -> topic events.recordings -> features_recordings (SQL) -> predict (ONNX, a model a file) -> predictions_recordings

The protocol is SKAB's for outlier detection: the first 400 rows of a file train, without their labels, and the rest is judged; hits
and misses are counted over all files together. Nothing looks ahead: a verdict rests on rows up to its own, and the engine gives
it when the watermark has passed the row.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg

from core.clock import Clock, SystemClock
from core.errors import InvalidInputError, UnavailableError
from core.settings import Settings
from headrace.demo.csv_files import MOST_CHANNELS, Recording, number_or_text, read_folder
from headrace.demo.records import encode
from headrace.demo.replay import build_producer
from headrace.platform import running_platform
from iceberg.registry import Registry, open_registry
from learning.models.level_band import CLASSES, LevelBand, fit_level_band
from learning.train import code_hash
from pipelines import deployer, folder
from pipelines.folder import Endpoint, Route

PIPELINE = "recordings"
ENDPOINT = "recordings.anomaly"
ENTITY = "recording"
TRAIN_ROWS = 400
FEATURES = (*(f"v{i}_level" for i in range(1, MOST_CHANNELS + 1)), "rows_seen")

_START = datetime(2025, 1, 1, tzinfo=UTC)  # event times are assigned, a row a second, so that every run gives the same rows
_CLOSING = "closing"
_SILENCE_SECONDS = 60.0
_POLL_SECONDS = 0.25

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """Rows by truth and verdict."""

    hits: int = 0
    false_alarms: int = 0
    misses: int = 0
    quiet: int = 0
    no_verdict: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits,
            self.false_alarms + other.false_alarms,
            self.misses + other.misses,
            self.quiet + other.quiet,
            self.no_verdict + other.no_verdict,
        )

    def as_dict(self) -> dict[str, float | int]:
        """F1, false-alarm rate and missed-alarm rate; a rate of nothing is 0."""
        return {
            "f1": _share(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses),
            "far": _share(self.false_alarms, self.false_alarms + self.quiet),
            "mar": _share(self.misses, self.hits + self.misses),
            "rows": self.hits + self.false_alarms + self.misses + self.quiet,
            "no_verdict": self.no_verdict,
        }


def run(settings: Settings, environ: Mapping[str, str], recordings: Path, say: Callable[[str], None]) -> dict[str, object]:
    """Run the benchmark on a platform of its own in `settings.data_dir`, which must be empty.

    Args:
        recordings: folder of CSV files; those without labels are left out, and named.
        say: told what happens.

    Returns:
        `f1`, `far`, `mar`, `rows`, `no_verdict` over all files, `files` with the same for each, and `left_out`.

    Raises:
        InvalidInputError: no file has labels, or one is too short.
    """
    found = read_folder(recordings)
    labelled = [each for each in found if each.anomalous is not None]
    if not labelled:
        raise InvalidInputError("no file has a column `anomaly` or `label`", where=str(recordings), fix="Give labelled files.")
    for each in labelled:
        if len(each.cells) <= TRAIN_ROWS:
            raise InvalidInputError(f"{len(each.cells)} rows", where=each.tenant, fix=f"Give more than {TRAIN_ROWS}.")
    with running_platform(settings, environ) as platform:
        say("broker, UDF server and engine are there")
        _prepare(platform.settings, labelled, SystemClock())
        say(f"{len(labelled)} models trained on {TRAIN_ROWS} rows each, pipeline `{PIPELINE}` applied")
        sent = _send(platform.settings, labelled)
        say(f"{sent:,} rows sent")
        verdicts = _verdicts(platform.settings, sent, say)
    return _score(labelled, verdicts, [each.tenant for each in found if each.anomalous is None])


def training_readings(recording: Recording) -> npt.NDArray[np.float64]:
    """The training rows as float64[400, 8]: an unusable cell is what the channel had before, a channel that is not there is 0."""
    readings = np.zeros((TRAIN_ROWS, MOST_CHANNELS))
    last = np.zeros(MOST_CHANNELS)
    for row, cells in enumerate(recording.cells[:TRAIN_ROWS]):
        for channel, cell in enumerate(cells):
            value = number_or_text(cell)
            if isinstance(value, float) and np.isfinite(value):
                last[channel] = value
        readings[row] = last
    return readings


def score(truth: Mask, alarms: Mapping[int, bool]) -> Counts:
    """Compare verdicts by row position with the truth, from row 400 on; a row without a verdict counts as quiet, and is told."""
    counts = Counts()
    for row in range(TRAIN_ROWS, len(truth)):
        alarm = alarms.get(row)
        missing = 1 if alarm is None else 0
        if truth[row]:
            counts += Counts(hits=1) if alarm else Counts(misses=1, no_verdict=missing)
        else:
            counts += Counts(false_alarms=1) if alarm else Counts(quiet=1, no_verdict=missing)
    return counts


def _prepare(settings: Settings, recordings: Sequence[Recording], clock: Clock) -> None:
    registry = open_registry(settings)
    routes = []
    for recording in recordings:
        name = f"recording_{hashlib.sha256(recording.tenant.encode()).hexdigest()[:12]}"
        version = _register(registry, name, recording, clock)
        routes.append(Route(tenant_id=recording.tenant, endpoint=ENDPOINT, model=name, version=version))
    endpoints = [Endpoint(tenant_id=each.tenant, endpoint=ENDPOINT) for each in recordings]
    deployer.apply(
        settings.database_url, folder.find([PIPELINE]), deployer.variables(settings), endpoints=endpoints, routes=routes
    )


def _register(registry: Registry, name: str, recording: Recording, clock: Clock) -> int:
    begun = clock.monotonic_seconds()
    readings = training_readings(recording)
    model: LevelBand = fit_level_band(readings)
    return registry.register(
        name,
        model.to_onnx(),
        kind=model.kind,
        feature_names=FEATURES,
        labels=CLASSES,
        metrics={"training_rows": float(len(readings))},
        tags={"framework": "onnx", "model_type": model.kind, "recording": recording.tenant},
        training_data={"recording": recording.tenant, "sha256": hashlib.sha256(readings.tobytes()).hexdigest()},
        code_hash=code_hash(),
        duration=timedelta(seconds=clock.monotonic_seconds() - begun),
    ).version


def _send(settings: Settings, recordings: Sequence[Recording]) -> int:
    """Send all rows in the order of their assigned times, then one that lets the last windows close; returns how many rows."""
    producer = build_producer(settings.kafka)
    topic = f"events.{PIPELINE}"
    sent = 0
    for row in range(max(len(each.cells) for each in recordings)):
        for each in recordings:
            if row < len(each.cells):
                cells = {f"v{i}": number_or_text(cell) for i, cell in enumerate(each.cells[row], start=1)}
                event = {"tenant_id": each.tenant, "entity_id": ENTITY, "event_time": _time_of(row)}
                producer.produce(topic, encode({**event, **cells}), "recordings")
                sent += 1
        producer.poll(0)
    last = _time_of(max(len(each.cells) for each in recordings) + 60)
    producer.produce(topic, encode({"tenant_id": _CLOSING, "entity_id": ENTITY, "event_time": last}), "recordings")
    if producer.flush(60):
        raise UnavailableError("the broker did not acknowledge all rows in 60 s")
    return sent


def _verdicts(settings: Settings, sent: int, say: Callable[[str], None]) -> dict[str, dict[int, bool]]:
    """Wait until every row has a verdict or is in the quarantine; verdicts by tenant and row position."""
    counted = -1
    heard = time.monotonic()
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        while counted < sent:
            now = _count(connection, "SELECT count(*) FROM predictions_recordings WHERE tenant_id <> %s", (_CLOSING,))
            now += _count(connection, "SELECT count(*) FROM quarantine WHERE stream = %s", ("recordings_events",))
            if now != counted:
                counted, heard = now, time.monotonic()
                say(f"{counted:,} of {sent:,} rows judged")
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise UnavailableError(f"{sent - counted} rows have no verdict after {_SILENCE_SECONDS:g} s of silence")
            time.sleep(_POLL_SECONDS)
        rows = connection.execute(
            "SELECT tenant_id, feature_end, label FROM predictions_recordings WHERE error IS NULL"
        ).fetchall()
    found: dict[str, dict[int, bool]] = {}
    for tenant, moment, label in rows:
        row = round((moment - _START) / timedelta(seconds=1))
        found.setdefault(tenant, {})[row] = label == CLASSES[1]
    return found


def _count(connection: psycopg.Connection, query: str, parameters: tuple[str, ...]) -> int:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None, "a count is one row"
    return int(row[0])


def _score(
    recordings: Sequence[Recording], verdicts: Mapping[str, Mapping[int, bool]], left_out: Sequence[str]
) -> dict[str, object]:
    by_file = {}
    for each in recordings:
        assert each.anomalous is not None
        by_file[each.tenant] = score(np.array(each.anomalous), verdicts.get(each.tenant, {}))
    total = sum(by_file.values(), Counts())
    return {
        **total.as_dict(),
        "files": {name: counts.as_dict() for name, counts in by_file.items()},
        "left_out": list(left_out),
        "model": "level_band",
    }


def _time_of(row: int) -> datetime:
    return _START + timedelta(seconds=row)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
