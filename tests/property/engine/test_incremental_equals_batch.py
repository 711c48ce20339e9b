"""After every epoch each view equals its query run from scratch by plain DuckDB, and its changelog adds up.

Each example has four views, so 50 examples are 200 pairs of a query and a stream. A failure prints the shrunk example as a
script: keep it as a file in tests/sql/regress before the engine is mended.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.property.engine.cases import SEEN, Case, cases, check
from tests.property.engine.harness import EXERCISED, EngineBox, Oracle
from tests.property.engine.profiles import NIGHTLY, QUICK

pytestmark = pytest.mark.xdist_group("oracle")

_SEEDS = tuple(range(8))  # nightly: 8 x 65 examples of four views are 2,080 pairs, each seed with reopening on every fourth


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@QUICK
@given(case=cases())
def test_every_epoch_equals_the_batch_query(case: Case, box: EngineBox, oracle: Oracle) -> None:
    check(case, box, oracle)


@settings(QUICK, max_examples=8)
@given(case=cases(view_count=3))
def test_every_epoch_equals_the_batch_query_when_the_engine_is_reopened(case: Case, box: EngineBox, oracle: Oracle) -> None:
    check(case, box, oracle, reopen=True)


@settings(QUICK, max_examples=8)
@given(case=cases(view_count=3))
def test_every_epoch_equals_the_batch_query_when_it_is_tried_twice(case: Case, box: EngineBox, oracle: Oracle) -> None:
    """An epoch that cannot be committed is rolled back and tried again, with nothing left of the first time."""
    with box.failing():
        check(case, box, oracle)


def test_operators_were_exercised(capsys: pytest.CaptureFixture[str]) -> None:
    """Says which operators the examples above went through; the run is worth little if one is missing."""
    if not EXERCISED:
        pytest.skip("counts what the tests above did; run the whole file")
    with capsys.disabled():
        print(f"\noperators exercised: {dict(EXERCISED.most_common())}; comparisons: {dict(SEEN)}")
    expected = {
        "RelationLeaf", "ValuesLeaf", "Project", "Filter", "Join", "HashAggregate", "RecomputeAggregate", "OverWindow", "TopN",
        "UnionAll", "WindowTable",
    }  # fmt: skip
    assert expected <= set(EXERCISED), f"never exercised: {expected - set(EXERCISED)}"
    assert SEEN["filled"] > SEEN["empty"] / 2, f"most comparisons were of nothing with nothing: {SEEN}"


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", _SEEDS)
def test_every_epoch_equals_the_batch_query_for_long(number: int, box: EngineBox, oracle: Oracle) -> None:
    @seed(number)
    @NIGHTLY
    @given(case=cases(), reopen=st.integers(0, 3).map(lambda n: n == 3))
    def run(case: Case, reopen: bool) -> None:
        check(case, box, oracle, reopen=reopen)

    run()
