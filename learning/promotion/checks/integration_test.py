"""The version answers by the real path: Arrow Flight, `predict`, a route, a session of the UDF runtime."""

from __future__ import annotations

import math

import numpy as np

from learning.promotion.checks.requirement import Outcome, Requirement, Subject


class IntegrationTest(Requirement):
    """Typical rows get a known label and a finite score, the same ones twice; a broken row beside them gets a typed error alone."""

    rows: int = 16

    def run(self, subject: Subject) -> Outcome:
        rehearsal = subject.rehearsal
        sealed = subject.version.signature
        if sealed.labels and set(sealed.labels) != set(rehearsal.signature.classes):
            return Outcome(False, f"the graph's classes are {rehearsal.signature.classes}, the sealed labels {sealed.labels}")
        if sealed.feature_names and len(sealed.feature_names) != rehearsal.signature.n_features:
            return Outcome(
                False, f"{len(sealed.feature_names)} features are sealed, the graph takes {rehearsal.signature.n_features}"
            )
        good = rehearsal.samples[: self.rows]
        broken = np.full((1, good.shape[1]), np.nan, np.float32)
        first = rehearsal.predict(np.vstack([good, broken]))
        again = rehearsal.predict(good)
        measured = {"rows": len(good), "labels": sorted({each["label"] for each in first[:-1] if each["label"]})}
        for position, answer in enumerate(first[:-1]):
            if answer["error"] is not None:
                return Outcome(False, f"row {position} is answered with `{answer['error']}`", measured)
            if answer["label"] not in rehearsal.signature.classes or not math.isfinite(answer["score"]):
                return Outcome(False, f"row {position} is answered with `{answer['label']}`, {answer['score']}", measured)
        if first[-1]["error"] is None:
            return Outcome(False, "a row of NaN is not answered with an error", measured)
        if [each["score"] for each in first[:-1]] != [each["score"] for each in again]:
            return Outcome(False, "the same rows give other scores the second time", measured)
        return Outcome(True, f"{len(good)} rows are answered alike twice, a broken one with a typed error", measured)
