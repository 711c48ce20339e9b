"""The three streams of the demo: what is sent when, and what is true about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from headrace.demo.bad_rows import mix_in
from headrace.demo.records import FeatureKey, Stream
from learning.plant import simulate_plant
from learning.telemetry import telemetry_stream
from learning.vision import vision_stream

PLANT_SPEED = 20.0  # twenty minutes of the fleet in a minute
TELEMETRY_PER_SECOND = 100
IMAGES_PER_SECOND = 12  # 900 images are kept for the stream
BAD_ROWS_EACH = 4  # of each kind and stream
FIRST_BAD_SECONDS = 8.0  # by then every source has a watermark, two minutes of event time from its start or not


@dataclass(frozen=True)
class Share:
    """A tenant's relative weights for version 1 and version 2 of a pipeline's model."""

    tenant: str
    weights: tuple[float, float]


@dataclass(frozen=True)
class DemoPipeline:
    """One pipeline of the demo: whose it is, and which models answer with which weights."""

    name: str
    endpoint: str
    model: str
    shares: tuple[Share, ...]

    @property
    def tenants(self) -> tuple[str, ...]:
        return tuple(share.tenant for share in self.shares)


PIPELINES: tuple[DemoPipeline, ...] = (
    DemoPipeline("plant", "plant.health", "plant_health", (Share("acme", (0.7, 0.3)), Share("globex", (0.4, 0.6)))),
    DemoPipeline(
        "telemetry", "telemetry.anomaly", "telemetry_anomaly", (Share("apollo", (0.8, 0.2)), Share("gemini", (0.5, 0.5)))
    ),
    DemoPipeline("vision", "vision.digit", "vision_digit", (Share("lumen", (0.6, 0.4)), Share("pixel", (0.3, 0.7)))),
)


def build_streams(start: datetime, seconds: float, *, seed: int, names: Sequence[str] | None = None) -> list[Stream]:
    """Build the streams of a replay that begins at `start` and lasts `seconds`; the last event happens about at its end.

    Args:
        names: which pipelines; default all.
    """
    chosen = [pipeline for pipeline in PIPELINES if names is None or pipeline.name in names]
    return [_BUILDERS[pipeline.name](pipeline.tenants, start, seconds, seed) for pipeline in chosen]


def _plant(tenants: Sequence[str], start: datetime, seconds: float, seed: int) -> Stream:
    duration = timedelta(seconds=seconds * PLANT_SPEED)
    # Whole windows from the first one on: the fleet starts at a full ten seconds.
    first = datetime.fromtimestamp((start + timedelta(seconds=seconds) - duration).timestamp() // 10 * 10, UTC)
    replay = simulate_plant(seed, first, duration, tenants=tenants)
    truth = {
        FeatureKey(row["tenant_id"], row["entity_id"], row["window_end"]): row["label"] for row in replay.truth.to_pylist()
    }
    return _stream("plant", tenants, replay.events, first, PLANT_SPEED, truth, seed)


def _telemetry(tenants: Sequence[str], start: datetime, seconds: float, seed: int) -> Stream:
    interval = timedelta(seconds=1 / TELEMETRY_PER_SECOND)
    table = telemetry_stream(start, int(seconds * TELEMETRY_PER_SECOND), interval=interval, tenants=tenants)
    return _stream("telemetry", tenants, table.drop_columns("label"), start, 1.0, _row_truth(table), seed + 1)


def _vision(tenants: Sequence[str], start: datetime, seconds: float, seed: int) -> Stream:
    interval = timedelta(seconds=1 / IMAGES_PER_SECOND)
    table = vision_stream(start, min(900, int(seconds * IMAGES_PER_SECOND)), interval=interval, tenants=tenants)
    payloads = table["image"].to_pylist()
    return _stream("vision", tenants, table.drop_columns(["label", "image"]), start, 1.0, _row_truth(table), seed + 2, payloads)


_BUILDERS: Mapping[str, Callable[[Sequence[str], datetime, float, int], Stream]] = {
    "plant": _plant,
    "telemetry": _telemetry,
    "vision": _vision,
}


def _row_truth(table: pa.Table) -> dict[FeatureKey, str]:
    columns = [table[name].to_pylist() for name in ("tenant_id", "entity_id", "event_time", "label")]
    return {FeatureKey(tenant, entity, moment): label for tenant, entity, moment, label in zip(*columns, strict=True)}


def _stream(
    name: str,
    tenants: Sequence[str],
    events: pa.Table,
    first: datetime,
    speed: float,
    truth: Mapping[FeatureKey, str],
    seed: int,
    payloads: Sequence[bytes] | None = None,
) -> Stream:
    timed = [((row["event_time"] - first).total_seconds() / speed, row) for row in events.to_pylist()]
    records, injected = mix_in(timed, each=BAD_ROWS_EACH, seed=seed, from_seconds=FIRST_BAD_SECONDS, payloads=payloads)
    return Stream(name, tuple(tenants), first, records, truth, speed, injected)
