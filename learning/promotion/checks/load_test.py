"""How the model does when many ask at once."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from learning.promotion.checks.requirement import Outcome, Requirement, Subject


class LoadTest(Requirement):
    """So many requests from so many clients at once: none fails (but for `errors`), and the 99th percentile is in bounds."""

    concurrency: int = Field(ge=1, le=256)
    requests: int = Field(ge=1, le=1_000_000)
    p99_ms: float = Field(gt=0)
    errors: int = Field(0, ge=0)

    def run(self, subject: Subject) -> Outcome:
        found = subject.rehearsal.press(self.concurrency, self.requests)
        measured = {**asdict(found), "concurrency": self.concurrency}
        if found.errors > self.errors:
            return Outcome(False, f"{found.errors} of {found.calls} requests failed, {self.errors} may", measured)
        told = f"p99 {found.p99_ms:.1f} ms with {self.concurrency} clients at once ({found.calls_per_second:.0f} requests/s)"
        return Outcome(found.p99_ms <= self.p99_ms, f"{told}, {self.p99_ms:g} ms are allowed", measured)
