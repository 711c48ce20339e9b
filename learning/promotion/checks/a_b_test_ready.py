"""Whether the version can stand beside the champion in one route: same features in the same order, same classes."""

from __future__ import annotations

from typing import Literal

from learning.promotion.checks.requirement import Outcome, Requirement, Subject


class AbTestReady(Requirement):
    """The signature is compatible with the champion's. `without_champion: pass` is for the first one of a name."""

    without_champion: Literal["pass", "refuse"] = "refuse"

    def run(self, subject: Subject) -> Outcome:
        if subject.champion is None:
            return Outcome(self.without_champion == "pass", "there is no champion to stand beside")
        mine, theirs = subject.version.signature, subject.champion.signature
        told = {"champion": subject.champion.reference, "champion_signature_hash": subject.champion.signature_hash}
        if mine.inputs != theirs.inputs:
            return Outcome(False, f"its inputs are {mine.inputs}, the champion's {theirs.inputs}", told)
        if mine.feature_names != theirs.feature_names:
            return Outcome(False, f"its features are {mine.feature_names}, the champion's {theirs.feature_names}", told)
        if set(mine.labels) != set(theirs.labels):
            return Outcome(False, f"its classes are {mine.labels}, the champion's {theirs.labels}", told)
        return Outcome(True, f"its signature fits that of {subject.champion.reference}", told)
