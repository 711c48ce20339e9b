"""How long the version has been watched in an earlier stage."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from iceberg.stages import entered_stage
from learning.promotion.checks.requirement import Outcome, Requirement, Subject


class TimeInStage(Requirement):
    """The version has been in `stage` for `at_least_hours`, without a break, until now."""

    stage: str
    at_least_hours: float = Field(ge=0)

    def run(self, subject: Subject) -> Outcome:
        since = entered_stage(subject.history, subject.version.version, self.stage)
        if since is None:
            return Outcome(False, f"it is not in stage `{self.stage}`")
        spent = subject.now - since
        told = {"since": since.isoformat(), "hours": spent / timedelta(hours=1)}
        wanted = timedelta(hours=self.at_least_hours)
        return Outcome(
            spent >= wanted,
            f"{spent / timedelta(hours=1):.1f} h in `{self.stage}`, {self.at_least_hours:g} h are needed"
            + ("" if spent >= wanted else f": from {(since + wanted).isoformat(timespec='minutes')} on"),
            told,
        )
