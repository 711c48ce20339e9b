"""The oracle is worth something: a bug planted in any operator is found by the same generated tests.

Three mutants of every operator: it swallows retractions, it swallows some rows, it forgets every third epoch.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import engine.operators
from engine.operators.base import Delta, EpochContext, Operator, no_change
from tests.property.engine.cases import cases, check
from tests.property.engine.harness import EngineBox, Oracle
from tests.property.engine.profiles import QUICK
from tests.property.engine.test_changelog import changelog_cases, check_changelog
from tests.property.engine.test_temporal_join import check_temporal, temporal_cases
from tests.property.engine.test_window_close import check_closing, closing_cases

pytestmark = [pytest.mark.nightly, pytest.mark.xdist_group("oracle"), pytest.mark.timeout(1200)]

_EXAMPLES = 400  # the rarest operator is in every hundredth generated query or so
_HUNT = settings(QUICK, max_examples=_EXAMPLES, phases=[Phase.generate])


def _operator_classes() -> list[type[Operator]]:
    modules = [
        importlib.import_module(f"engine.operators.{found.name}") for found in pkgutil.iter_modules(engine.operators.__path__)
    ]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Operator)
        and value.__module__ == module.__name__
        and "step" in vars(value)
    }
    return sorted(found - {Operator}, key=lambda c: c.__name__)


OPERATORS = _operator_classes()
_ELSEWHERE = {
    "UdfCalls": "its functions live on a server; tests/contract/connectors and tests/e2e have it",
    "NowFilter": "its answer depends on the clock, which the generated cases do not move",
}
Step = Callable[[Operator, EpochContext, Sequence[Delta]], Delta]


def _swallow_retractions(step: Step) -> Step:
    def mutant(self: Operator, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        delta = step(self, epoch, deltas)
        return delta if delta.empty else replace(delta, source=f"(SELECT * FROM {delta.source} AS mutant WHERE d > 0)")

    return mutant


def _swallow_rows(step: Step) -> Step:
    def mutant(self: Operator, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        delta = step(self, epoch, deltas)
        if delta.empty or not self.visible:
            return delta
        row = ", ".join(f"c{i}" for i in range(self.visible))
        return replace(delta, source=f"(SELECT * FROM {delta.source} AS mutant WHERE hash({row}) % 3 <> 0)")

    return mutant


def _forget_epochs(step: Step) -> Step:
    calls = 0

    def mutant(self: Operator, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        nonlocal calls
        delta = step(self, epoch, deltas)
        if delta.empty:
            return delta
        calls += 1
        return no_change(delta.watermarks) if calls % 3 == 0 else delta

    return mutant


_MUTANTS = {"retractions": _swallow_retractions, "rows": _swallow_rows, "epochs": _forget_epochs}
_APPEND_ONLY = {"Changelog", "WindowCloseAggregate", "WindowCloseSort", "WindowCloseOver", "ValuesLeaf", "Deduplicate"}


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


def _hunt(operator: type[Operator], box: EngineBox) -> None:
    """Run the generated tests that reach the operator until one fails."""
    if operator.__name__.startswith("WindowClose"):

        @_HUNT
        @given(case=closing_cases())
        def closing(case: object) -> None:
            check_closing(case, box, None)  # type: ignore[arg-type]

        closing()
    elif operator.__name__ == "TemporalJoin":

        @_HUNT
        @given(case=temporal_cases())
        def temporal(case: object) -> None:
            check_temporal(case, box, None)  # type: ignore[arg-type]

        temporal()
    elif operator.__name__ == "Changelog":

        @_HUNT
        @given(case=changelog_cases())
        def changelog(case: object) -> None:
            check_changelog(case, box, None)  # type: ignore[arg-type]

        changelog()
    else:
        oracle = Oracle()

        @_HUNT
        @given(case=cases(), _more=st.just(None))
        def general(case: object, _more: None) -> None:
            check(case, box, oracle)  # type: ignore[arg-type]

        general()


@pytest.mark.parametrize("bug", _MUTANTS)
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda c: c.__name__)
def test_planted_bug_is_found(operator: type[Operator], bug: str, box: EngineBox, monkeypatch: pytest.MonkeyPatch) -> None:
    if operator.__name__ in _ELSEWHERE:
        pytest.skip(_ELSEWHERE[operator.__name__])
    if bug == "retractions" and operator.__name__ in _APPEND_ONLY:
        pytest.skip("it never retracts")
    if operator.__name__ == "ValuesLeaf":
        pytest.skip("it has no step, only a beginning")
    monkeypatch.setattr(operator, "step", _MUTANTS[bug](operator.step))
    try:
        with pytest.raises(BaseException) as caught:  # noqa: PT011  a bug may show as a wrong row, or as a failed epoch
            _hunt(operator, box)
        assert not isinstance(caught.value, KeyboardInterrupt)
    finally:
        monkeypatch.undo()
        box.start_over()
