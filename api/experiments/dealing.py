"""Deals units to variants, the same variant each time.

What a unit saw first is in the stream database (`experiment_units`); what was dealt a moment ago and is still on its way
there is remembered here. Counts are read again when they are older than `COUNTS_SECONDS`, once for all who ask.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from api.experiments import allocation
from api.experiments.model import Experiment, Variant
from api.experiments.store import Counts, Store
from core.clock import Clock
from core.ids import TenantId

Float64 = npt.NDArray[np.float64]

COUNTS_SECONDS = 1.0
REMEMBERED = 100_000  # units; an exposure is in the stream database within a second
_LOOK_UP = 1000  # units a statement


@dataclass(frozen=True)
class Share:
    """What one unit gets.

    Attributes:
        variant: None for a unit outside of the experiment's traffic.
        propensities: the chances of all variants when it was dealt.
    """

    unit: str
    variant: Variant | None
    propensities: tuple[float, ...]

    @property
    def route(self) -> str | None:
        """The route on which the variant's model answers alone; None outside of the experiment."""
        return None if self.variant is None else route_of(self.variant)

    @property
    def label(self) -> str | None:
        """The variant's id; None outside of the experiment."""
        return None if self.variant is None else self.variant.variant_id

    @property
    def propensity(self) -> float | None:
        """The chance with which the unit got what it got."""
        if self.variant is None:
            return None
        return self.propensities[int(self.variant.variant_id.removeprefix("var_"))]


def route_of(variant: Variant) -> str:
    """A route with one member, as `udfs.route` reads it."""
    member = {"model": variant.model, "version": variant.version, "role": "champion", "weight": 1.0, "fraction": None}
    return json.dumps({"strategy": "ensemble_mean", "members": [member]})


class Dealer:
    """Deals the units of running experiments."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._dealt: OrderedDict[tuple[TenantId, str, str], Share] = OrderedDict()
        self._counts: dict[tuple[TenantId, str], tuple[Counts, float]] = {}

    async def deal(self, tenant: TenantId, experiment: Experiment, units: Sequence[str]) -> list[Share]:
        """A share for each unit, in their order."""
        fresh = [unit for unit in dict.fromkeys(units) if (tenant, experiment.experiment_id, unit) not in self._dealt]
        inside = [unit for unit in fresh if self._takes_part(experiment, unit)]
        for unit in set(fresh).difference(inside):
            self._remember(tenant, experiment, Share(unit, None, ()))
        if inside:
            await self._deal_fresh(tenant, experiment, inside)
        return [self._dealt[tenant, experiment.experiment_id, unit] for unit in units]

    async def _deal_fresh(self, tenant: TenantId, experiment: Experiment, units: Sequence[str]) -> None:
        counts = await self._counted(tenant, experiment)
        successes = counts.conversions.astype(np.float64)
        weights = np.array([variant.weight for variant in experiment.variants])
        chances = allocation.propensities(experiment.strategy, successes, counts.trials, weights)
        logged = tuple(chances.tolist())
        seen: dict[str, str] = {}
        if experiment.strategy != "fixed_split":  # whose choice does not depend on when it is made
            for start in range(0, len(units), _LOOK_UP):
                seen |= await self._store.variants_of(tenant, experiment.experiment_id, units[start : start + _LOOK_UP])
        for unit in units:
            if unit in seen:
                at = experiment.position(seen[unit])
            else:
                at = allocation.choose(
                    experiment.strategy, chances, successes, counts.trials, experiment=experiment.experiment_id, unit=unit
                )
            self._remember(tenant, experiment, Share(unit, experiment.variants[at], logged))

    async def _counted(self, tenant: TenantId, experiment: Experiment) -> Counts:
        place = (tenant, experiment.experiment_id)
        known = self._counts.get(place)
        now = self._clock.monotonic_seconds()
        if known is not None and now < known[1]:
            return known[0]
        counts = await self._store.counts(tenant, experiment, self._clock.now())
        self._counts[place] = (counts, now + COUNTS_SECONDS)
        return counts

    def _takes_part(self, experiment: Experiment, unit: str) -> bool:
        return allocation.takes_part(experiment.traffic_percentage, experiment=experiment.experiment_id, unit=unit)

    def _remember(self, tenant: TenantId, experiment: Experiment, share: Share) -> None:
        self._dealt[tenant, experiment.experiment_id, share.unit] = share
        while len(self._dealt) > REMEMBERED:
            self._dealt.popitem(last=False)
