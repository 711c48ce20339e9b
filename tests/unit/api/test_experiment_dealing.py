"""Dealing units over a scripted store: sticky, by the counts, with the settings' defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from api.experiments.dealing import COUNTS_SECONDS, Dealer
from api.experiments.model import Experiment, ExperimentInput, Variant
from api.experiments.service import Experiments
from api.experiments.store import Counts
from core.fakes import ManualClock
from core.ids import TenantId
from core.settings import ExperimentSettings
from tests.unit.api.doubles import ListLog

ACME = TenantId("acme")


@dataclass
class ListStore:
    """Keeps experiments in a list; what units saw and what was counted is set by a test."""

    experiments: list[Experiment] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    conversions: tuple[int, int] = (0, 0)
    asked: int = 0

    async def insert(self, _tenant: TenantId, experiment: Experiment) -> None:
        self.experiments.append(experiment)

    async def counts(self, _tenant: TenantId, _experiment: Experiment, _now: datetime) -> Counts:
        self.asked += 1
        shown = np.array([100, 100])
        return Counts(shown, np.array(self.conversions), shown.astype(float), shown / 1.0, np.full(2, np.nan))

    async def variants_of(self, _tenant: TenantId, _experiment_id: str, units: Sequence[str]) -> dict[str, str]:
        return {unit: self.seen[unit] for unit in units if unit in self.seen}


def experiment(**more: Any) -> Experiment:
    variants = (Variant("var_0", "champion", "m", "1", 1.0, "m", 1), Variant("var_1", "challenger", "m", "2", 1.0, "m", 2))
    given: dict[str, Any] = {
        "experiment_id": "exp_1", "name": "n", "description": "", "endpoint": "default", "strategy": "thompson_sampling",
        "traffic_percentage": 100.0, "conversion_window_seconds": 0.0, "variants": variants, "status": "running",
        "created_at": datetime(2026, 1, 1),  # noqa: DTZ001 - nobody reads it
    }  # fmt: skip
    return Experiment(**given | more)


async def test_what_a_unit_saw_first_is_what_it_gets_whatever_the_counts_say_now() -> None:
    store = ListStore(seen={"old": "var_0"}, conversions=(0, 90))
    dealer = Dealer(store, ManualClock())  # type: ignore[arg-type]
    shares = await dealer.deal(ACME, experiment(), ["old", "new", "old"])
    assert [share.label for share in shares] == ["var_0", "var_1", "var_0"]


async def test_what_was_dealt_a_moment_ago_stays_before_the_stream_database_has_it() -> None:
    store, clock = ListStore(conversions=(90, 0)), ManualClock()
    dealer = Dealer(store, clock)  # type: ignore[arg-type]
    (first,) = await dealer.deal(ACME, experiment(), ["ann"])
    store.conversions = (0, 90)
    clock.advance(timedelta(seconds=COUNTS_SECONDS))
    ann, bob = await dealer.deal(ACME, experiment(), ["ann", "bob"])
    assert (first.label, ann.label, bob.label) == ("var_0", "var_0", "var_1")
    assert ann.propensities == first.propensities, "logged with the chances of its own choice"


async def test_counts_are_read_once_for_many_and_again_when_they_are_old() -> None:
    store, clock = ListStore(), ManualClock()
    dealer = Dealer(store, clock)  # type: ignore[arg-type]
    for n in range(5):
        await dealer.deal(ACME, experiment(), [f"unit-{n}"])
    assert store.asked == 1
    clock.advance(timedelta(seconds=COUNTS_SECONDS))
    await dealer.deal(ACME, experiment(), ["late"])
    assert store.asked == 2


async def test_a_unit_of_another_tenant_or_experiment_is_another_unit() -> None:
    store = ListStore(conversions=(50, 50))
    dealer = Dealer(store, ManualClock())  # type: ignore[arg-type]
    units = [f"unit-{n}" for n in range(200)]
    one = await dealer.deal(ACME, experiment(), units)
    other = await dealer.deal(ACME, experiment(experiment_id="exp_2"), units)
    assert [share.label for share in one] != [share.label for share in other]


async def test_units_outside_of_the_traffic_leave_no_exposure() -> None:
    log = ListLog()
    service = Experiments(ListStore(), log, None, "", ManualClock())  # type: ignore[arg-type]
    dealer = Dealer(ListStore(), ManualClock())  # type: ignore[arg-type]
    shares = await dealer.deal(ACME, experiment(traffic_percentage=30.0), [f"unit-{n}" for n in range(100)])
    inside = [share for share in shares if share.variant is not None]
    assert 10 < len(inside) < 55
    _, records = service.exposures(ACME, "exp_1", shares, [None] * 100, None)
    assert len(records) == len(inside)
    assert all(share.propensity is None and share.route is None for share in shares if share.variant is None)


async def test_what_a_request_does_not_say_comes_from_the_settings() -> None:
    store = ListStore()
    defaults = ExperimentSettings(allocation_strategy="epsilon_greedy", traffic_percentage=10.0)
    service = Experiments(store, ListLog(), None, "", ManualClock(), defaults=defaults)  # type: ignore[arg-type]
    variants = [{"name": "a", "model_path": "m@1"}, {"name": "b", "model_path": "m@2"}]
    made, warnings = await service.create(ACME, ExperimentInput.model_validate({"name": "n", "variants": variants}))
    assert (made.strategy, made.traffic_percentage, warnings) == ("epsilon_greedy", 10.0, [])
    asked = {"name": "n", "variants": variants, "allocation_strategy": "fixed_split", "traffic_percentage": 100.0}
    made, warnings = await service.create(ACME, ExperimentInput.model_validate(asked))
    assert (made.strategy, made.traffic_percentage) == ("fixed_split", 100.0)
    assert "10 percent" in warnings[0]
    assert [each.experiment_id for each in store.experiments][-1] == made.experiment_id
