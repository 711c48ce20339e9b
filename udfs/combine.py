"""Merge the answers of a route's members into label, score and members.

The rows of a call fall into few patterns: which members answered, which failed and why, which were not asked. Within one
pattern the effective weights are constants, so each pattern is computed as one block of columns:

    weight'_m = weight_m / sum of the weights of the serving members that answered
    ensemble_mean and the others   P = sum over m of weight'_m * P_m       (float64, in the order of the route)
    ensemble_vote                  P = sum over m of weight'_m * [class is the most probable one of m]
    label = the class of the largest P, the first of equals (votes: the one of the larger mean probability)
    score = P(positive class) where a model has one, else the largest P

`members` is a JSON array in the order of the route, one object for each member that was asked or could not be:
`{"model", "version", "role", "weight", "label", "value"}` with the effective weight and what this member alone would have
answered, or `{..., "weight": 0, "value": null, "error": {"code", "message"}}`. So that an answer can be scored once its label
comes, a two-class model names both classes (`positive`, whose probability `value` is, and `negative`), and another one gives
all its probabilities and the sum of their squares (`probabilities`, `sum_of_squares`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from udfs.artifact import Signature
from udfs.route import Member, Route, RowError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

ANSWERED = 0
NOT_ASKED = -1  # positive codes are positions in `Answers.errors`, plus one


@dataclass(frozen=True)
class Answers:
    """What the members of one route said about one group of rows.

    Attributes:
        codes: int32[rows, members]; ANSWERED, NOT_ASKED, or 1 + position in `errors`.
        errors: why members failed.
        probabilities: float64[rows, classes] a member; None if it could not be loaded. Rows it did not answer hold noise.
        signatures: of each member, None if it could not be loaded.
    """

    codes: npt.NDArray[np.int32]
    errors: list[RowError]
    probabilities: list[Float64 | None]
    signatures: list[Signature | None]


@dataclass(frozen=True)
class Block:
    """Results for some rows: text or float64 columns of the same length; a NULL error means that the row has an answer."""

    rows: Int64
    label: pa.Array
    score: pa.Array
    members: pa.Array
    error: pa.Array

    @classmethod
    def of_error(cls, rows: Int64, error: RowError, members: str | None = None) -> Block:
        """The same error for all rows."""
        n = len(rows)
        null = pa.nulls(n, pa.string())
        told = null if members is None else pa.array([members]).take(pa.array(np.zeros(n, np.int64)))
        why = pa.array([error.as_json()]).take(pa.array(np.zeros(n, np.int64)))
        return cls(rows, null, pa.nulls(n, pa.float64()), told, why)


def combine(route: Route, rows: Int64, answers: Answers) -> list[Block]:
    """Results of one group; `rows` are the positions in the call of the group's rows."""
    if (answers.codes == answers.codes[0]).all():
        return [_combine_pattern(route, rows, np.arange(len(rows)), answers.codes[0], answers)]
    patterns, which = np.unique(answers.codes, axis=0, return_inverse=True)
    which = which.reshape(-1)
    blocks = []
    for i, pattern in enumerate(patterns):
        within = np.flatnonzero(which == i)
        blocks.append(_combine_pattern(route, rows[within], within, pattern, answers))
    return blocks


def _combine_pattern(route: Route, rows: Int64, within: Int64, pattern: npt.NDArray[np.int32], answers: Answers) -> Block:
    voices = [i for i in route.serving if pattern[i] == ANSWERED]
    failures = {i: answers.errors[code - 1] for i, code in enumerate(pattern.tolist()) if code > 0}
    if not voices:
        return _nobody_answered(route, rows, failures)
    spoken = _signature(answers, voices[0])
    if any(set(_signature(answers, i).classes) != set(spoken.classes) for i in voices):
        told = ", ".join(f"{route.members[i].key} {list(_signature(answers, i).classes)}" for i in voices)
        return Block.of_error(rows, RowError("incompatible_members", f"The members know different classes: {told}."))
    total = sum(route.members[i].weight for i in voices)
    weights = {i: route.members[i].weight / total for i in voices}
    own = {i: _of(answers, i, within) for i in range(len(pattern)) if pattern[i] == ANSWERED}
    combined, preference = _merge(route.strategy, spoken, {i: (weights[i], own[i], _signature(answers, i)) for i in voices})
    label_index = preference.argmax(axis=1)
    return Block(
        rows,
        pa.array(spoken.classes).take(pa.array(label_index)),
        pa.array(_score(combined, label_index, spoken)),
        _members_json(route, weights, own, failures, answers),
        pa.nulls(len(rows), pa.string()),
    )


def _merge(strategy: str, spoken: Signature, voices: dict[int, tuple[float, Float64, Signature]]) -> tuple[Float64, Float64]:
    """The combined distribution, and the values whose argmax is the label: both float64[rows, classes]."""
    aligned = [(weight, _align(own, signature, spoken)) for weight, own, signature in voices.values()]
    mean = aligned[0][0] * aligned[0][1]
    for weight, own in aligned[1:]:
        mean = mean + weight * own
    if strategy != "ensemble_vote":
        return mean, mean
    votes = np.zeros_like(mean)
    every_row = np.arange(len(mean))
    for weight, own in aligned:
        votes[every_row, own.argmax(axis=1)] += weight
    leading = votes >= votes.max(axis=1, keepdims=True) - 1e-12  # equal but for the order of summation
    return votes, np.where(leading, mean, -1.0)


def _align(own: Float64, signature: Signature, spoken: Signature) -> Float64:
    if signature.classes == spoken.classes:
        return own
    reordered: Float64 = own[:, [signature.classes.index(label) for label in spoken.classes]]
    return reordered


def _score(combined: Float64, label_index: Int64, signature: Signature) -> Float64:
    if signature.positive_index is not None:
        return np.ascontiguousarray(combined[:, signature.positive_index])
    best: Float64 = np.take_along_axis(combined, label_index[:, None], axis=1)[:, 0]
    return best


def _nobody_answered(route: Route, rows: Int64, failures: dict[int, RowError]) -> Block:
    told = "[" + ", ".join(_failed_json(route.members[i], error) for i, error in sorted(failures.items())) + "]"
    serving = [(route.members[i], error) for i, error in sorted(failures.items()) if i in route.serving]
    codes = {error.code for _, error in serving}
    # One reason for all is the row's reason, e.g. a vector of the wrong length.
    code = codes.pop() if len(codes) == 1 else "members_failed"
    why = " ".join(f"{member.key}: {error.message}" for member, error in serving) or "no member was asked"
    return Block.of_error(rows, RowError(code, f"No member of the route answered. {why}"), told)


def _members_json(
    route: Route,
    weights: dict[int, float],
    own: dict[int, Float64],
    failures: dict[int, RowError],
    answers: Answers,
) -> pa.Array:
    """The `members` of each row: string[rows], built by columns from constant pieces of text; somebody answered."""
    pieces: list[Any] = []  # Any: text, or an Arrow array of text
    before = "["
    for i, member in enumerate(route.members):
        if i in own:
            signature = _signature(answers, i)
            best = own[i].argmax(axis=1)
            head = _head(member, weights.get(i, 0.0))
            # All that comes before the number, once for each class: as few pieces to join as possible.
            told = _class_names(signature)
            openings = pa.array([f'{before}{head}, "label": {json.dumps(c)}{told}, "value": ' for c in signature.classes])
            pieces += [openings.take(pa.array(best)), pc.cast(pa.array(_score(own[i], best, signature)), pa.string())]
            if signature.positive_index is None:
                pieces += _distribution(own[i], signature)
            before = "}, "
        elif i in failures:
            told = _failed_json(member, failures[i])
            pieces.append(before + told.removesuffix("}"))
            before = "}, "
    return pc.binary_join_element_wise(*pieces, "}]", "")


def _class_names(signature: Signature) -> str:
    if signature.positive_index is None:
        return ""
    negative = signature.classes[1 - signature.positive_index]
    return f', "positive": {json.dumps(signature.positive)}, "negative": {json.dumps(negative)}'


def _distribution(own: Float64, signature: Signature) -> list[Any]:  # Any: text, or an Arrow array of text
    """All probabilities, in the digits of the float32 that the model gave."""
    pieces: list[Any] = [', "sum_of_squares": ', pc.cast(pa.array((own * own).sum(axis=1)), pa.string())]
    before = ', "probabilities": {'
    for i, label in enumerate(signature.classes):
        column = np.ascontiguousarray(own[:, i], np.float32)
        pieces += [f"{before}{json.dumps(label)}: ", pc.cast(pa.array(column), pa.string())]
        before = ", "
    return [*pieces, "}"]


def _head(member: Member, weight: float) -> str:
    return (
        f'{{"model": {json.dumps(member.key.model)}, "version": {member.key.version}, '
        f'"role": "{member.role}", "weight": {json.dumps(weight)}'
    )


def _failed_json(member: Member, error: RowError) -> str:
    return f'{_head(member, 0.0)}, "value": null, "error": {error.as_json()}}}'


def _signature(answers: Answers, i: int) -> Signature:
    signature = answers.signatures[i]
    assert signature is not None, "a member that answered was loaded"
    return signature


def _of(answers: Answers, i: int, within: Int64) -> Float64:
    everything = answers.probabilities[i]
    assert everything is not None, "a member that answered has probabilities"
    return everything if len(within) == len(everything) else everything[within]
