"""A simulated fleet of pumps, from stated physics, with injected faults and the truth about every window.

Simulated, and always called so. One reading a second and pump: vibration (mm/s), temperature (deg C), pressure (bar), flow
(litres a second). Each pump draws its own constants within a few per cent, so that no threshold fits all of them.

    tank -> valve -> pump, pump, pump        the dependency graph: a closing valve starves every pump behind it

    speed        n = 1 + 0.05 sin(2 pi t / 900 + phase) + Ornstein-Uhlenbeck noise           (relative to nominal)
    pump curve   head = H0 n^2 (1 - 0.18 c) - a Q^2                                          (bar; c = cavitation, 0 to 1)
    system       head = Hs + k Q^2 + kv (1 / theta^2 - 1) Q^2                                 (theta = valve opening, 0 to 1)
    flow         Q = sqrt((H0 n^2 (1 - 0.18 c) - Hs) / (a + k + kv (1 / theta^2 - 1)))
    pressure     p = Hs + k Q^2                                                              (behind the pump)
    vibration    v = sqrt((u n^2)^2 + (2.2 w b)^2 + (1.5 c b')^2 + (0.5 (1 - Q / Q0))^2)     (imbalance, bearing, bubbles,
                                                                                              recirculation at part load)
                 b, b' impulsive: folded normal numbers around 1, new each second
    temperature  dT/dt = (T_inf - T) / 60 s,  T_inf = T_air + r (0.5 n^3 + 0.5 (1 - Q / Q0) + 1.6 w)
    wear         w grows as (e^(3 s) - 1) / (e^3 - 1) over an episode, s = elapsed share; then the bearing is exchanged

A reading is the state plus sensor noise. In a sensor dropout one channel of a sound pump reads NULL four times of five.

A window is `faulty` when, for at least half of its readings, wear or cavitation is at least 0.25 or the valve is less than
60 % open. A dropout is a fault of the sensor, not of the pump: `healthy`, with `fault = sensor_dropout`.

The forms of the pump and the system curve are the usual quadratic ones (e.g. Gulich, "Centrifugal Pumps"); the constants and
the vibration terms are our own, chosen for plausible sizes, not fitted to any machine.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.errors import InvalidInputError
from learning.faults import FaultPlan, plan_faults

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

CHANNELS = ("vibration", "temperature", "pressure", "flow")
CLASSES = ("healthy", "faulty")
WINDOW = timedelta(seconds=10)
PUMPS_PER_VALVE = 3

_DROPOUT_SHARE = 0.8
_SENSOR_NOISE = {"vibration": 0.08, "temperature": 0.15, "pressure": 0.03, "flow": 0.12}


@dataclass(frozen=True)
class PlantReplay:
    """What the fleet sent, and what was really going on.

    Attributes:
        events: tenant_id, entity_id, event_time, vibration, temperature, pressure, flow; by event time.
        truth: tenant_id, entity_id, window_start, window_end, label, fault; a row for each window with a reading.
        dependencies: tenant_id, upstream, downstream; what feeds what.
    """

    events: pa.Table
    truth: pa.Table
    dependencies: pa.Table


def simulate_plant(
    seed: int,
    start: datetime,
    duration: timedelta,
    *,
    entities: int = 6,
    tenants: Sequence[str] = ("acme", "globex"),
) -> PlantReplay:
    """Simulate each tenant's pumps; a tenant's pumps depend on the seed and its name, not on the other tenants.

    Args:
        seed: the same seed gives the same replay, to the bit.
        start: event time of the first second, with a time zone.
        duration: at least a second; the last second is cut off.
        entities: pumps a tenant.
        tenants: their names.
    """
    seconds = int(duration.total_seconds())
    if start.tzinfo is None:
        raise InvalidInputError(f"start `{start}` has no time zone", fix="Give an instant in UTC.")
    if seconds < 1 or entities < 1 or not tenants:
        raise InvalidInputError(f"nothing to simulate: {seconds} seconds, {entities} pumps, {len(tenants)} tenants")
    fleets = [_simulate_fleet(seed, tenant, start, seconds, entities) for tenant in tenants]
    events = pa.concat_tables([fleet.events for fleet in fleets])
    return PlantReplay(
        events.sort_by([("event_time", "ascending"), ("tenant_id", "ascending"), ("entity_id", "ascending")]),
        pa.concat_tables([fleet.truth for fleet in fleets]),
        pa.concat_tables([fleet.dependencies for fleet in fleets]),
    )


def _simulate_fleet(seed: int, tenant: str, start: datetime, seconds: int, pumps: int) -> PlantReplay:
    rng = np.random.default_rng([seed, zlib.crc32(tenant.encode())])
    names = [f"pump-{i + 1:02d}" for i in range(pumps)]
    valve_of = np.arange(pumps) // PUMPS_PER_VALVE
    plan = plan_faults(rng, seconds, valve_of)
    channels = _simulate_channels(rng, plan)
    _drop_readings(rng, channels, plan)
    # Each pump reports at its own moment of the second.
    phase_us = rng.integers(0, 1_000_000, pumps)
    times = int(start.timestamp()) * 1_000_000 + np.arange(seconds)[:, None] * 1_000_000 + phase_us
    return PlantReplay(
        _events(tenant, names, times, channels), _truth(tenant, names, times, plan), _dependencies(tenant, names, valve_of)
    )


def _simulate_channels(rng: np.random.Generator, plan: FaultPlan) -> dict[str, Float64]:
    """Readings without dropouts: float64[seconds, pumps] a channel."""
    seconds, pumps = plan.wear.shape

    def spread(nominal: float, share: float) -> Float64:
        return rng.normal(nominal, nominal * share, (pumps,))

    h0, hs, a, k, kv = spread(6.0, 0.04), spread(1.5, 0.04), spread(0.010, 0.05), spread(0.018, 0.05), spread(0.012, 0.05)
    imbalance, air, rise = spread(1.1, 0.15), spread(24.0, 0.08), spread(22.0, 0.08)
    speed = _speed(rng, seconds, pumps)
    resistance = a + k + kv * (1 / plan.opening**2 - 1)
    flow = np.sqrt(np.maximum(h0 * speed**2 * (1 - 0.18 * plan.cavitation) - hs, 0.0) / resistance)
    part_load = 1 - np.minimum(flow / np.sqrt((h0 - hs) / (a + k)), 1.0)
    # Bubbles collapse unevenly: the flow itself becomes rough.
    flow = flow * (1 + 0.05 * plan.cavitation * rng.standard_normal((seconds, pumps)))
    vibration = np.sqrt(
        (imbalance * speed**2) ** 2
        + (2.2 * plan.wear * _impulses(rng, seconds, pumps)) ** 2
        + (1.5 * plan.cavitation * _impulses(rng, seconds, pumps)) ** 2
        + (0.5 * part_load) ** 2
    )
    target = air + rise * (0.5 * speed**3 + 0.5 * part_load + 1.6 * plan.wear)
    exact = {"vibration": vibration, "temperature": _lag(target, 60.0), "pressure": hs + k * flow**2, "flow": flow}
    return {name: exact[name] + _SENSOR_NOISE[name] * rng.standard_normal((seconds, pumps)) for name in CHANNELS}


def _speed(rng: np.random.Generator, seconds: int, pumps: int) -> Float64:
    phase = rng.uniform(0, 2 * np.pi, pumps)
    slow = 0.05 * np.sin(2 * np.pi * np.arange(seconds)[:, None] / 900 + phase)
    noise = np.empty((seconds, pumps))
    noise[0] = 0.0
    steps = rng.standard_normal((seconds, pumps))
    for second in range(1, seconds):  # Ornstein-Uhlenbeck: 30 s of memory, standard deviation 0.015
        noise[second] = noise[second - 1] * (1 - 1 / 30) + 0.015 * np.sqrt(2 / 30) * steps[second]
    speed: Float64 = 1 + slow + noise
    return speed


def _impulses(rng: np.random.Generator, seconds: int, pumps: int) -> Float64:
    return np.abs(1 + 0.35 * rng.standard_normal((seconds, pumps)))


def _lag(target: Float64, time_constant_seconds: float) -> Float64:
    """First-order lag with one step a second, started at rest."""
    state = np.empty_like(target)
    state[0] = target[0]
    for second in range(1, len(target)):
        state[second] = state[second - 1] + (target[second] - state[second - 1]) / time_constant_seconds
    return state


def _drop_readings(rng: np.random.Generator, channels: dict[str, Float64], plan: FaultPlan) -> None:
    """Turn readings of a failing sensor into NaN, in place; they become NULL."""
    lost = rng.random(plan.dropout.shape) < _DROPOUT_SHARE
    for position, name in enumerate(CHANNELS):
        channels[name][lost & (plan.dropout == position)] = np.nan


def _events(tenant: str, names: list[str], times: Int64, channels: dict[str, Float64]) -> pa.Table:
    seconds, pumps = times.shape
    columns = {
        "tenant_id": pa.array([tenant] * (seconds * pumps)),
        "entity_id": pa.array(names * seconds),
        "event_time": pa.array(times.ravel(), pa.timestamp("us", "UTC")),
    }
    # Six decimals are far below the noise, and the same text in every format.
    columns |= {name: pa.array(values.ravel().round(6), from_pandas=True) for name, values in channels.items()}
    return pa.table(columns)


def _truth(tenant: str, names: list[str], times: Int64, plan: FaultPlan) -> pa.Table:
    width = int(WINDOW.total_seconds()) * 1_000_000
    rows: list[tuple[str, int, str, str]] = []
    kinds = plan.kinds()
    for pump, name in enumerate(names):
        windows, which = np.unique(times[:, pump] // width, return_inverse=True)
        for i, window in enumerate(windows.tolist()):
            inside = kinds[which == i, pump]
            faulty = inside[(inside != "none") & (inside != "sensor_dropout")]
            label = CLASSES[int(2 * len(faulty) >= len(inside))]
            told = faulty if label == "faulty" else inside[inside == "sensor_dropout"]
            found, counts = np.unique(told, return_counts=True)
            rows.append((name, window * width, label, str(found[counts.argmax()]) if len(found) else "none"))
    starts = np.array([row[1] for row in rows], np.int64)
    instant = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "tenant_id": pa.array([tenant] * len(rows)),
            "entity_id": pa.array([row[0] for row in rows]),
            "window_start": pa.array(starts, instant),
            "window_end": pa.array(starts + width, instant),
            "label": pa.array([row[2] for row in rows]),
            "fault": pa.array([row[3] for row in rows]),
        }
    )


def _dependencies(tenant: str, names: list[str], valve_of: Int64) -> pa.Table:
    valves = [f"valve-{valve + 1}" for valve in valve_of.tolist()]
    edges = [("tank", valve) for valve in dict.fromkeys(valves)] + list(zip(valves, names, strict=True))
    return pa.table(
        {
            "tenant_id": pa.array([tenant] * len(edges)),
            "upstream": pa.array([edge[0] for edge in edges]),
            "downstream": pa.array([edge[1] for edge in edges]),
        }
    )
