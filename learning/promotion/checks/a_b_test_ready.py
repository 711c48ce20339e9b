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
        champion = subject.champion
        unlike = subject.version.signature.differences(champion.signature)
        told = {"champion": champion.reference, "champion_signature_hash": champion.signature_hash}
        return Outcome(not unlike, "; ".join(unlike) or f"its signature fits that of {champion.reference}", told)
