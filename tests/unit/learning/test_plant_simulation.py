"""The simulated fleet: reproducible, physical, and hard enough to be worth a model."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.compute as pc
import pytest

from core.errors import InvalidInputError
from learning.labelled import baselines
from learning.plant import simulate_plant
from learning.plant_features import labelled_features
from learning.train import plant_rows

START = datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC)  # not at the beginning of a window


@pytest.fixture(scope="module")
def hour():
    return simulate_plant(11, START, timedelta(hours=1))


def test_the_same_seed_gives_the_same_replay_and_another_seed_another(hour):
    again = simulate_plant(11, START, timedelta(hours=1))
    assert again.events.equals(hour.events)
    assert again.truth.equals(hour.truth)
    assert not simulate_plant(12, START, timedelta(hours=1)).events.equals(hour.events)


def test_a_tenant_does_not_depend_on_the_others(hour):
    alone = simulate_plant(11, START, timedelta(hours=1), tenants=["globex"])
    assert alone.events.equals(hour.events.filter(pc.field("tenant_id") == "globex"))


def test_every_pump_reports_once_a_second_and_the_events_are_in_time_order(hour):
    assert hour.events.num_rows == 2 * 6 * 3600
    times = hour.events["event_time"].cast("int64").to_numpy()
    assert (np.diff(times) >= 0).all()
    counts = hour.events.group_by(["tenant_id", "entity_id"]).aggregate([("event_time", "count_distinct")])
    assert set(counts["event_time_count_distinct"].to_pylist()) == {3600}
    first = datetime.fromtimestamp(times[0] / 1e6, UTC)
    assert START <= first < START + timedelta(seconds=1)


def test_the_truth_has_one_row_for_each_window_with_a_reading(hour):
    windows = labelled_features(hour.events, hour.truth)
    assert windows.num_rows == hour.truth.num_rows == 2 * 6 * 361  # the hour begins and ends within a window
    assert windows["label"].null_count == 0


def test_every_kind_of_fault_occurs_in_twenty_minutes_at_both_tenants():
    truth = simulate_plant(7, START, timedelta(minutes=20)).truth.to_pylist()
    kinds = {"bearing_wear", "cavitation", "valve_closure", "sensor_dropout", "none"}
    for tenant in ("acme", "globex"):
        counts = Counter(row["fault"] for row in truth if row["tenant_id"] == tenant)
        assert set(counts) == kinds, counts
    assert {row["label"] for row in truth if row["fault"] in ("none", "sensor_dropout")} == {"healthy"}
    assert {row["label"] for row in truth if row["fault"] in ("bearing_wear", "cavitation", "valve_closure")} == {"faulty"}


def test_readings_follow_the_stated_physics(hour):
    windows = labelled_features(hour.events, hour.truth)

    def mean(fault: str, column: str) -> float:
        return pc.mean(windows.filter(pc.field("fault") == fault)[column]).as_py()

    assert mean("valve_closure", "flow_avg") < 0.7 * mean("none", "flow_avg")
    assert mean("valve_closure", "pressure_avg") < 0.8 * mean("none", "pressure_avg")
    assert mean("cavitation", "vibration_avg") > 1.2 * mean("none", "vibration_avg")
    assert mean("cavitation", "flow_avg") < mean("none", "flow_avg")
    assert mean("bearing_wear", "vibration_avg") > 1.2 * mean("none", "vibration_avg")
    assert mean("bearing_wear", "temperature_avg") > mean("none", "temperature_avg") + 1.0
    assert abs(mean("bearing_wear", "flow_avg") / mean("none", "flow_avg") - 1) < 0.05


def test_a_closing_valve_starves_all_pumps_behind_it_and_no_other(hour):
    truth = hour.truth.filter(pc.field("fault") == "valve_closure").to_pylist()
    valve_of = {(e["tenant_id"], e["downstream"]): e["upstream"] for e in hour.dependencies.to_pylist()}
    starved: dict[tuple[object, ...], set[str]] = {}
    for row in truth:
        key = (row["tenant_id"], valve_of[row["tenant_id"], row["entity_id"]], row["window_start"])
        starved.setdefault(key, set()).add(row["entity_id"])
    assert Counter(len(pumps) for pumps in starved.values()).most_common(1)[0][0] == 3
    assert {valve_of[key[0], key[1]] for key in starved} == {"tank"}


def test_only_dropouts_lose_readings_and_then_one_channel(hour):
    channels = [hour.events[name].is_null().to_numpy() for name in ("vibration", "temperature", "pressure", "flow")]
    lost = np.sum(channels, axis=0)
    assert 0 < (lost > 0).mean() < 0.1
    assert lost.max() == 1


def test_guessing_the_last_label_or_the_usual_one_is_often_wrong(hour):
    rows = plant_rows(labelled_features(hour.events, hour.truth))
    guesses = baselines(rows.labels, rows.series)
    assert 0.5 < guesses.majority_class < 0.75
    assert 0.7 < guesses.last_value < 0.88


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": datetime(2026, 1, 1)},  # noqa: DTZ001 - the point
        {"duration": timedelta(0)},
        {"entities": 0},
        {"tenants": []},
    ],
)
def test_nothing_to_simulate_is_refused(arguments):
    defaults = {"seed": 1, "start": START, "duration": timedelta(minutes=1)}
    with pytest.raises(InvalidInputError):
        simulate_plant(**(defaults | arguments))
