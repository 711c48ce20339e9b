"""A metric, measured on the sealed rows by the runtime that will serve the model: a claim is not enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from learning.promotion.checks.requirement import Outcome, Requirement, Subject

type_metric = Callable[[npt.NDArray[np.float64], Sequence[str], Sequence[str]], float]


class PerformanceThreshold(Requirement):
    """`metric` is at least `at_least` (or above `above`), and the sealed claim, if there is one, is true within a tolerance."""

    metric: str
    at_least: float | None = None
    above: float | None = None
    claim_tolerance: float = 0.01

    def run(self, subject: Subject) -> Outcome:
        measure = METRICS.get(self.metric)
        if measure is None:
            return Outcome(False, f"the metric `{self.metric}` is not known; there are {', '.join(METRICS)}")
        if (self.at_least is None) == (self.above is None):
            return Outcome(False, "the policy must say either `at_least` or `above`")
        if subject.evaluation is None:
            return Outcome(False, "no evaluation rows are sealed with the version: register it with `--evaluation FILE`")
        answers = subject.rehearsal.probabilities(subject.evaluation.features)
        value = measure(answers, subject.rehearsal.signature.classes, subject.evaluation.labels)
        claimed = subject.version.metrics.get(self.metric)
        measured = {"metric": self.metric, "value": value, "claimed": claimed, "rows": len(answers)}
        if claimed is not None and abs(claimed - value) > self.claim_tolerance:
            return Outcome(
                False, f"{self.metric} was registered as {claimed:.4f} and is {value:.4f} on the sealed rows", measured
            )
        if self.at_least is not None:
            return Outcome(value >= self.at_least, f"{self.metric} {value:.4f}, at least {self.at_least:g} is needed", measured)
        assert self.above is not None, "one of both is there"
        return Outcome(value > self.above, f"{self.metric} {value:.4f}, more than {self.above:g} is needed", measured)


def accuracy(probabilities: npt.NDArray[np.float64], classes: Sequence[str], labels: Sequence[str]) -> float:
    """Share of rows whose most probable class is the true one."""
    best = probabilities.argmax(axis=1)
    return float(np.mean([classes[i] == label for i, label in zip(best, labels, strict=True)]))


def balanced_accuracy(probabilities: npt.NDArray[np.float64], classes: Sequence[str], labels: Sequence[str]) -> float:
    """Mean over the classes that occur of the share of their rows that was found."""
    best = np.array([classes[i] for i in probabilities.argmax(axis=1)])
    truth = np.array(labels)
    return float(np.mean([(best[truth == label] == label).mean() for label in np.unique(truth)]))


def log_likelihood(probabilities: npt.NDArray[np.float64], classes: Sequence[str], labels: Sequence[str]) -> float:
    """Mean logarithm of the probability of the true class (the negative log loss: greater is better)."""
    known = {name: i for i, name in enumerate(classes)}
    true = np.array([row[known[label]] if label in known else 0.0 for row, label in zip(probabilities, labels, strict=True)])
    return float(np.log(np.maximum(true, 1e-15)).mean())


METRICS: dict[str, type_metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "log_likelihood": log_likelihood,
}
