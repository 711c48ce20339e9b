"""The gate of registration: what a version says of itself, before anything is stored (004: `min_performance`, strictly above)."""

from __future__ import annotations

from collections.abc import Mapping

from learning.promotion.checks.requirement import Outcome, Requirement, Subject


class ClaimedMetric(Requirement):
    """The registered `metric` is strictly above `above`. `when_missing: pass` lets versions through that claim none."""

    metric: str
    above: float
    when_missing: str = "refuse"

    def run(self, subject: Subject) -> Outcome:
        return self.judge(subject.version.metrics)

    def judge(self, metrics: Mapping[str, float]) -> Outcome:
        """As `run`, for a version that is not registered yet."""
        value = metrics.get(self.metric)
        if value is None:
            return Outcome(self.when_missing == "pass", f"the version claims no `{self.metric}`")
        return Outcome(value > self.above, f"{self.metric} {value:g}, more than {self.above:g} is needed", {"value": value})
