"""P(best), evidence that may be looked at all the time, allocation with its known regret, sample ratio."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from api.experiments.allocation import STRATEGIES, Strategy, choose, propensities, takes_part
from api.experiments.balance import sample_ratio
from api.experiments.evidence import ALPHA, Evidence
from api.experiments.posterior import draw, probability_best
from tests.unit.api.experiment_worlds import World, lai_robbins, regret, simulate


def test_the_probability_of_being_best_is_that_of_the_published_counts() -> None:
    """312 of 5,420 against 387 of 5,380: 0.9988, computed here by another integral."""
    best = probability_best([312, 387], [5420, 5380])
    grid = np.linspace(0.03, 0.11, 200_001)
    density = stats.beta(388, 4994).pdf(grid) * stats.beta(313, 5109).cdf(grid)
    assert best[1] == pytest.approx(np.trapezoid(density, grid), abs=1e-9)
    assert best[1] == pytest.approx(0.9988, abs=5e-5)
    assert best.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("successes", "trials"), [([0, 0, 0], [0, 0, 0]), ([3, 3], [9, 9])])
def test_equals_are_equally_likely_to_be_the_best(successes: list[int], trials: list[int]) -> None:
    assert probability_best(successes, trials) == pytest.approx(1 / len(trials), abs=1e-12)


def test_the_logged_chances_are_those_of_the_draw() -> None:
    successes, trials = np.array([8.0, 14.0, 11.0]), np.array([100.0, 110.0, 60.0])
    draws = draw(np.tile(successes, (200_000, 1)), np.tile(trials, (200_000, 1)), np.random.default_rng(1))
    wanted = propensities("thompson_sampling", successes, trials, np.ones(3))
    assert np.bincount(draws, minlength=3) / 200_000 == pytest.approx(wanted, abs=0.005)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_unit_gets_the_same_variant_each_time_and_variants_their_chances(strategy: Strategy) -> None:
    successes, trials, weights = np.array([5.0, 12.0]), np.array([100.0, 100.0]), np.array([3.0, 1.0])
    chances = propensities(strategy, successes, trials, weights)
    wanted = {"fixed_split": 0.75, "epsilon_greedy": 0.05}
    if strategy in wanted:
        assert chances[0] == pytest.approx(wanted[strategy])
    units = [f"user_{n}" for n in range(4000)]
    dealt = [choose(strategy, chances, successes, trials, experiment="exp_1", unit=unit) for unit in units]
    assert dealt == [choose(strategy, chances, successes, trials, experiment="exp_1", unit=unit) for unit in units]
    assert dealt != [choose(strategy, chances, successes, trials, experiment="exp_2", unit=unit) for unit in units]
    assert stats.binomtest(dealt.count(0), len(units), float(chances[0])).pvalue > 1e-4


def test_who_takes_part_stays_when_the_traffic_grows() -> None:
    units = [f"user_{n}" for n in range(4000)]
    some = {unit for unit in units if takes_part(10.0, experiment="exp_1", unit=unit)}
    more = {unit for unit in units if takes_part(50.0, experiment="exp_1", unit=unit)}
    assert some < more
    assert stats.binomtest(len(some), len(units), 0.1).pvalue > 1e-4
    assert all(takes_part(100.0, experiment="exp_1", unit=unit) for unit in units)


def test_the_expected_factor_of_a_bet_is_one_when_variants_convert_alike_and_below_when_worse() -> None:
    """The property that the whole guarantee rests on, in exact arithmetic over all outcomes of the next exposure."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        chances = rng.dirichlet(np.ones(2))
        history = rng.integers(0, 2, 30), rng.random(30) < 0.3
        rate, worse = sorted(rng.random(2))[::-1]
        for rates, bound in (((rate, rate), 1.0), ((worse, rate), None)):
            expected = np.zeros(8)
            for k in range(2):
                for y in (True, False):
                    evidence = Evidence.start(2)
                    evidence.fold(*history, np.tile(chances, (30, 1)))
                    before = evidence.wealth[0, 1].copy()
                    evidence.fold(np.array([k]), np.array([y]), chances[None])
                    probability = chances[k] * (rates[k] if y else 1 - rates[k])
                    expected += probability * np.exp(evidence.wealth[0, 1] - before)
            if bound is not None:
                assert expected == pytest.approx(1.0, abs=1e-9)
            else:
                assert (expected < 1.0).all()


def test_evidence_is_the_same_in_one_piece_and_in_many() -> None:
    rng = np.random.default_rng(4)
    seen, converted = rng.integers(0, 3, 500), rng.random(500) < 0.2
    chances = rng.dirichlet(np.ones(3), 500)
    whole, pieces = Evidence.start(3), Evidence.start(3)
    whole.fold(seen, converted, chances)
    for part in np.array_split(np.arange(500), 37):
        pieces.fold(seen[part], converted[part], chances[part])
    assert pieces.wealth == pytest.approx(whole.wealth)
    assert pieces.highest == pytest.approx(whole.highest)


def assert_at_or_below_the_level(false_winners: int, experiments: int) -> None:
    """The observed rate is at or below the level: not merely not significantly above it."""
    print(f"{false_winners} false winners in {experiments} A/A experiments")
    assert false_winners / experiments <= ALPHA


@pytest.mark.timeout(280)
def test_a_thousand_experiments_of_equals_looked_at_every_minute_have_few_false_winners() -> None:
    found = simulate(World((0.1, 0.1), minutes=60, units_a_minute=20, strategy="fixed_split", drift=0.5), 1000, seed=11)
    assert_at_or_below_the_level(int((found.winner >= 0).sum()), 1000)


def test_looking_every_minute_at_a_plain_z_test_would_be_wrong_far_more_often() -> None:
    """So the test above can fail: the same looks with p < 0.05 of a fixed-sample test."""
    rng = np.random.default_rng(11)
    n = np.arange(1, 61) * 20
    a, b = (np.cumsum(rng.binomial(20, 0.1, (1000, 60)), axis=1) for _ in range(2))
    pooled = (a + b) / (2 * n)
    z = np.abs(a - b) / n / np.sqrt(np.maximum(pooled * (1 - pooled) * 2 / n, 1e-12))
    assert ((z > 1.96).any(axis=1)).mean() > 3 * ALPHA


def test_equals_under_thompson_sampling_with_late_conversions_have_few_false_winners() -> None:
    world = World((0.2, 0.2), 30, 20, "thompson_sampling", drift=0.3, mean_delay_minutes=3.0, window_minutes=5)
    found = simulate(world, 200, seed=12)
    assert_at_or_below_the_level(int((found.winner >= 0).sum()), 200)


def test_a_better_variant_wins_and_thompson_sampling_gives_it_the_traffic() -> None:
    fixed = simulate(World((0.1, 0.2), 60, 50, "fixed_split"), 40, seed=13)
    assert (fixed.winner == 1).mean() > 0.9
    thompson = simulate(World((0.1, 0.2), 60, 50, "thompson_sampling"), 40, seed=13)
    assert (thompson.winner != 0).all()
    assert thompson.shares[:, 1].mean() > 0.85
    assert fixed.shares[:, 1].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("variants", [2, 3])
def test_long_experiments_of_equals_have_few_false_winners(strategy: Strategy, variants: int) -> None:
    world = World((0.08,) * variants, 240, 20, strategy, drift=0.5, mean_delay_minutes=10.0, window_minutes=20)
    found = simulate(world, 1000, seed=21)
    assert_at_or_below_the_level(int((found.winner >= 0).sum()), 1000)


def check_regret(steps: int, runs: int, seed: int) -> None:
    """Thompson sampling loses about what nobody can avoid, and grows as its logarithm; a fixed split loses in proportion."""
    rates = (0.1, 0.3)
    unavoidable = lai_robbins(rates)
    thompson, fixed = regret(rates, steps, runs, seed), regret(rates, steps, runs, seed, fixed=True)
    slope = (thompson[-1] - thompson[steps // 10]) / np.log(10)
    print(
        f"regret after {steps}: {thompson[-1]:.1f}, fixed split {fixed[-1]:.1f}; {slope:.2f} ln T against {unavoidable:.2f} ln T"
    )
    assert fixed[-1] == pytest.approx(0.1 * steps, rel=0.05)
    assert thompson[-1] < fixed[-1] / 10
    # Agrawal and Goyal: (1 + eps) c ln T plus a constant; Lai and Robbins: asymptotically not below c ln T.
    assert 0.5 * unavoidable < slope < 1.5 * unavoidable
    assert thompson[-1] < 2.0 * unavoidable * np.log(steps)


def test_thompson_sampling_reaches_its_known_regret() -> None:
    check_regret(steps=5_000, runs=300, seed=31)


@pytest.mark.nightly
def test_thompson_sampling_reaches_its_known_regret_in_the_long_run() -> None:
    check_regret(steps=100_000, runs=400, seed=32)


def test_a_mismatch_of_the_sample_ratio_is_an_alarm_and_chance_is_none() -> None:
    assert not sample_ratio([5013, 4987], [5000, 5000]).mismatch
    lost = sample_ratio([5300, 4700], [5000, 5000])
    assert lost.mismatch
    assert lost.p_value == pytest.approx(stats.chisquare([5300, 4700]).pvalue)
    assert sample_ratio([1, 3], [2, 2]).p_value is None
