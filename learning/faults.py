"""When which pump of the simulated plant suffers from what.

Faults come and go within a minute or so: a replay of an hour shows every kind many times, and a guess that nothing has
changed since the last window is often wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

SEVERE = 0.25  # wear or cavitation from which a pump counts as faulty
STARVED = 0.6  # valve opening below which the pumps behind it count as faulty
NO_CHANNEL = -1


@dataclass(frozen=True)
class FaultPlan:
    """The severity of each fault, second by second and pump by pump.

    Attributes:
        wear: float64[seconds, pumps], 0 to 1.
        cavitation: float64[seconds, pumps], 0 to 1.
        opening: float64[seconds, pumps], of the valve before the pump, 0.05 to 1.
        dropout: int64[seconds, pumps], position of the channel whose sensor fails, or NO_CHANNEL.
    """

    wear: Float64
    cavitation: Float64
    opening: Float64
    dropout: Int64

    def kinds(self) -> npt.NDArray[np.str_]:
        """The worst fault at each second: text[seconds, pumps], `none` where there is none."""
        conditions = [self.opening < STARVED, self.wear >= SEVERE, self.cavitation >= SEVERE, self.dropout != NO_CHANNEL]
        return np.select(conditions, ["valve_closure", "bearing_wear", "cavitation", "sensor_dropout"], "none")


def plan_faults(rng: np.random.Generator, seconds: int, valve_of: Int64) -> FaultPlan:
    """Draw the episodes of each pump, and of each valve for all pumps behind it."""
    pumps = len(valve_of)
    wear, cavitation = np.zeros((seconds, pumps)), np.zeros((seconds, pumps))
    dropout = np.full((seconds, pumps), NO_CHANNEL, np.int64)
    for pump in range(pumps):

        def wear_out(begin: int, end: int, pump: int = pump) -> None:
            share = np.linspace(0, 1, end - begin)
            wear[begin:end, pump] = rng.uniform(0.6, 1.0) * np.expm1(3 * share) / np.expm1(3)

        def cavitate(begin: int, end: int, pump: int = pump) -> None:
            cavitation[begin:end, pump] = rng.uniform(0.2, 1.0) * _trapezium(end - begin, 3)

        def lose_a_channel(begin: int, end: int, pump: int = pump) -> None:
            dropout[begin:end, pump] = rng.integers(0, 4)

        _episodes(rng, seconds, (wear_out, cavitate, lose_a_channel), (0.3, 0.5, 0.2), ((40, 110), (20, 50), (20, 60)), 60.0)
    opening = np.ones((seconds, int(valve_of.max()) + 1))
    for valve in range(opening.shape[1]):

        def close(begin: int, end: int, valve: int = valve) -> None:
            opening[begin:end, valve] = 1 - rng.uniform(0.35, 0.95) * _trapezium(end - begin, 4)

        _episodes(rng, seconds, (close,), (1.0,), ((20, 50),), 140.0)
    return FaultPlan(wear, cavitation, opening[:, valve_of], dropout)


def _episodes(
    rng: np.random.Generator,
    seconds: int,
    faults: tuple[Callable[[int, int], None], ...],
    shares: tuple[float, ...],
    lengths: tuple[tuple[int, int], ...],
    mean_gap_seconds: float,
) -> None:
    """Fill the time with gaps and episodes, one after the other; an episode that the end cuts off is shortened."""
    now = int(rng.exponential(mean_gap_seconds))
    while now < seconds - 1:
        kind = int(rng.choice(len(faults), p=shares))
        end = min(now + int(rng.integers(*lengths[kind])), seconds)
        faults[kind](now, end)
        now = end + 10 + int(rng.exponential(mean_gap_seconds))


def _trapezium(length: int, ramp: int) -> Float64:
    """Up over `ramp` seconds, hold at 1, down again."""
    position = np.arange(length)
    shape: Float64 = np.minimum(1.0, np.minimum(position + 1, length - position) / ramp)
    return shape
