"""Whether the graph answers as what it was exported from did."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from pydantic import Field

from learning.promotion.checks.requirement import Outcome, Requirement, Subject


class Parity(Requirement):
    """No probability differs by more than `tolerance` from the other side.

    `against: python` are the answers of the Python source, sealed at registration; `reference` is ONNX's own reference
    implementation, another reading of the same graph.
    """

    tolerance: float = Field(1e-4, ge=0)
    against: Literal["python", "reference"] = "python"
    rows: int = Field(256, ge=1)

    def run(self, subject: Subject) -> Outcome:
        if subject.evaluation is None:
            return Outcome(False, "no evaluation rows are sealed with the version")
        features = subject.evaluation.features[: self.rows]
        answers = subject.rehearsal.probabilities(features)
        if self.against == "python":
            if subject.evaluation.expected is None:
                return Outcome(False, "no answers of the Python source are sealed with the version")
            other = subject.evaluation.expected[: self.rows]
        else:
            evaluator = ReferenceEvaluator(onnx.load_model_from_string(subject.artifact))
            outputs: Any = evaluator.run(["probabilities"], {"features": features})  # Any: a list, whatever onnx declares
            other = np.asarray(outputs[0], np.float64)
        largest = float(np.abs(answers - other).max())
        told = {"largest_difference": largest, "rows": len(features), "against": self.against}
        return Outcome(
            largest <= self.tolerance, f"probabilities differ by {largest:.1e}, {self.tolerance:.0e} is allowed", told
        )
