"""Versions of feature views: a new one for every change, none for none, and no number twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from core.errors import NotFoundError
from core.fakes.clock import ManualClock
from features.registry import FeatureRegistry
from tests.unit.features.conftest import T0, Lake, closed


def test_applying_twice_keeps_the_version_and_a_change_makes_the_next(lake: Lake) -> None:
    clock = ManualClock(T0)
    registry = FeatureRegistry(lake.catalog, clock)
    first, is_new = registry.apply(closed(), pipeline="pumps", sql_hash="a", epoch=3)
    again, is_new_again = registry.apply(closed(), pipeline="pumps", sql_hash="a", epoch=9)
    assert (first.version, is_new, is_new_again) == (1, True, False)
    assert again == first
    clock.advance(timedelta(days=1))
    slower, _ = registry.apply(replace(closed(), ttl=timedelta(days=2)), sql_hash="a", epoch=10)
    other_sql, _ = registry.apply(replace(closed(), ttl=timedelta(days=2)), sql_hash="b", epoch=11)
    assert (slower.version, other_sql.version) == (2, 3)
    assert [found.version for found in registry.versions("pumps")] == [1, 2, 3]
    assert registry.versions("pumps")[0].view == closed(), "an earlier version stays as it was"
    assert registry.must_get("pumps", 1).applied_at == T0
    assert registry.latest()["pumps"] == other_sql


def test_two_who_apply_at_once_make_one_version(lake: Lake) -> None:
    FeatureRegistry(lake.catalog, ManualClock(T0))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: FeatureRegistry(lake.catalog, ManualClock(T0)).apply(closed()), range(4)))
    assert sorted(is_new for _, is_new in found) == [False, False, False, True]
    assert {each.version for each, _ in found} == {1}


def test_a_view_that_is_not_registered_is_told_with_those_that_are(lake: Lake) -> None:
    registry = FeatureRegistry(lake.catalog, ManualClock(T0))
    registry.apply(closed())
    with pytest.raises(NotFoundError, match="Registered: `pumps`"):
        registry.must_get("pump")
    with pytest.raises(NotFoundError, match="version 2"):
        registry.must_get("pumps", 2)
