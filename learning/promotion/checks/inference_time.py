"""How long one prediction takes by the whole path, alone."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from learning.promotion.checks.requirement import Outcome, Requirement, Subject


class InferenceTime(Requirement):
    """The stated quantile of single predictions, one after the other, is at most `at_most_ms`; no call fails."""

    at_most_ms: float = Field(gt=0)
    quantile: float = Field(0.95, description="0.5, 0.95 or 0.99")
    calls: int = Field(100, ge=20)

    def run(self, subject: Subject) -> Outcome:
        found = subject.rehearsal.measure(self.calls)
        told = {0.5: found.p50_ms, 0.95: found.p95_ms, 0.99: found.p99_ms}.get(self.quantile)
        if told is None:
            return Outcome(False, f"the quantile `{self.quantile:g}` is none of 0.5, 0.95, 0.99")
        if found.errors:
            return Outcome(False, f"{found.errors} of {found.calls} predictions failed", asdict(found))
        share = f"{self.quantile:.0%} of the predictions take at most {told:.2f} ms"
        return Outcome(told <= self.at_most_ms, f"{share}, {self.at_most_ms:g} ms are allowed", asdict(found))
