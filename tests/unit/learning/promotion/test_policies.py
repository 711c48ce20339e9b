"""Every rule of a policy has a version that passes it and one that it refuses; whatever is not understood refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from core.errors import InvalidInputError
from core.fakes.clock import ManualClock
from iceberg.registry import ModelVersion
from learning.models.kind import seal
from learning.promotion.evaluation import Evaluation, read_evaluation, write_evaluation
from learning.promotion.lifecycle import Lifecycle
from learning.promotion.policy import load_policy, parse_policy
from learning.promotion.running import CHECKS, CheckRun, check_claims, run_requirements

add_type = Callable[..., ModelVersion]

ACCURACY = {"check": "performance_threshold", "metric": "accuracy", "at_least": 0.85}
LOAD = {"check": "load_test", "concurrency": 4, "requests": 40, "p99_ms": 5000}


def run(
    lifecycle: Lifecycle, version: ModelVersion, clock: ManualClock, *requirements: dict[str, Any], **changes: Any
) -> CheckRun:
    """The last requirement of a stage `trial`, looked at alone."""
    stage = parse_policy({"stages": {"trial": {"requirements": list(requirements)}}}, where="test").stages["trial"]
    given: dict[str, Any] = {"champion": None, "history": lifecycle.stages.history(version.name), "now": clock.now()}
    return run_requirements("trial", stage, version, lifecycle.registry, **{**given, **changes})[-1]


def with_operator(artifact: bytes, operator: str) -> bytes:
    """The model with an operator added that leads nowhere but to another output."""
    model = onnx.load_model_from_string(artifact)
    model.graph.node.append(helper.make_node(operator, ["probabilities"], ["aside"]))
    model.graph.output.append(helper.make_tensor_value_info("aside", onnx.TensorProto.FLOAT, ["batch", 2]))
    return seal(model, ("healthy", "faulty"), "faulty")


PASSES: list[dict[str, Any]] = [
    ACCURACY,
    {"check": "performance_threshold", "metric": "balanced_accuracy", "above": 0.85},
    {"check": "performance_threshold", "metric": "log_likelihood", "at_least": -0.5},
    {"check": "claimed_metric", "metric": "accuracy", "above": 0.8},
    {"check": "inference_time", "at_most_ms": 5000, "calls": 20},
    {"check": "integration_test"},
    LOAD,
    {"check": "security_scan"},
    {"check": "a_b_test_ready", "without_champion": "pass"},
    {"check": "parity"},
    {"check": "parity", "against": "reference"},
]

REFUSES: list[tuple[dict[str, Any], str]] = [
    ({**ACCURACY, "at_least": 0.999}, "at least 0.999 is needed"),
    ({"check": "performance_threshold", "metric": "log_likelihood", "above": 0.0}, "more than 0 is needed"),
    ({"check": "performance_threshold", "metric": "beauty", "at_least": 0.5}, "not known"),
    ({"check": "performance_threshold", "metric": "accuracy"}, "either"),
    ({"check": "claimed_metric", "metric": "f1", "above": 0.8}, "claims no `f1`"),
    ({"check": "inference_time", "at_most_ms": 0.0001, "calls": 20}, "are allowed"),
    ({"check": "inference_time", "at_most_ms": 5000, "calls": 20, "quantile": 0.7}, "none of"),
    ({**LOAD, "p99_ms": 0.0001}, "are allowed"),
    ({"check": "security_scan", "max_bytes": 10}, "10 are allowed"),
    ({"check": "security_scan", "operators": ["MatMul"]}, "not on the allow-list"),
    ({"check": "time_in_stage", "stage": "staging", "at_least_hours": 0}, "not in stage"),
    ({"check": "a_b_test_ready"}, "no champion"),
    ({"check": "parity", "tolerance": 0.0, "against": "reference"}, "differ by"),
    # what is not understood
    ({"check": "integration_tests_pass"}, "no check `integration_tests_pass`"),
    ({}, "no check `None`"),
    ({"check": "load_test", "concurrency": 4}, "`requests`"),
    ({**ACCURACY, "at_leat": 0.1}, "`at_leat`"),
    ({**ACCURACY, "at_least": "high"}, "`at_least`"),
]


@pytest.mark.parametrize("requirement", PASSES, ids=lambda each: "-".join(str(value) for value in each.values()))
def test_a_good_version_meets_the_requirement(requirement, lifecycle: Lifecycle, add: add_type, clock: ManualClock) -> None:
    found = run(lifecycle, add(), clock, requirement)
    assert found.ok, found.reason
    assert found.inputs["artifact_sha256"]
    assert found.reason


@pytest.mark.parametrize(("requirement", "says"), REFUSES, ids=lambda each: str(each)[:40])
def test_the_requirement_refuses(
    requirement: dict[str, Any], says: str, lifecycle: Lifecycle, add: add_type, clock: ManualClock
) -> None:
    found = run(lifecycle, add(), clock, requirement)
    assert not found.ok
    assert says in found.reason


def test_every_known_check_is_tested_both_ways() -> None:
    both = {each["check"] for each in PASSES} & {each.get("check") for each, _ in REFUSES}
    assert set(CHECKS) - both == {"integration_test", "time_in_stage"}  # below


def test_the_hours_in_staging_count_by_the_clock(lifecycle: Lifecycle, add: add_type, clock: ManualClock) -> None:
    version = add()
    assert lifecycle.promote("pump", 1, "staging", actor="t").decision.granted
    wanted = {"check": "time_in_stage", "stage": "staging", "at_least_hours": 24}
    clock.advance(timedelta(hours=23, minutes=59))
    early = run(lifecycle, version, clock, wanted)
    assert not early.ok
    assert "from 2026-01-02T00:00" in early.reason
    clock.advance(timedelta(minutes=1))
    assert run(lifecycle, version, clock, wanted).ok


def test_an_integration_test_refuses_labels_that_the_graph_does_not_know(
    lifecycle: Lifecycle, add: add_type, clock: ManualClock
) -> None:
    assert run(lifecycle, add(), clock, {"check": "integration_test"}).ok
    found = run(lifecycle, add(labels=("good", "bad")), clock, {"check": "integration_test"})
    assert not found.ok
    assert "sealed labels" in found.reason


def test_a_claim_that_is_not_true_refuses(lifecycle: Lifecycle, add: add_type, clock: ManualClock) -> None:
    found = run(lifecycle, add(metrics={"accuracy": 1.0}), clock, ACCURACY)
    assert not found.ok
    assert "was registered as 1.0000" in found.reason


def test_without_sealed_rows_a_threshold_refuses(lifecycle: Lifecycle, add: add_type, clock: ManualClock) -> None:
    found = run(lifecycle, add(evaluation=None), clock, ACCURACY)
    assert not found.ok
    assert "--evaluation" in found.reason


def test_answers_that_are_not_those_of_the_python_source_refuse(
    lifecycle: Lifecycle, add: add_type, clock: ManualClock
) -> None:
    honest = read_evaluation(lifecycle.registry.load_evaluation(add()) or b"")
    assert honest.expected is not None
    planted = honest.expected.copy()
    planted[7] += (0.01, -0.01)
    other = add(evaluation=write_evaluation(honest.features, honest.labels, planted))
    found = run(lifecycle, other, clock, {"check": "parity"})
    assert not found.ok
    assert found.measured["largest_difference"] == pytest.approx(0.01, abs=1e-4)


def test_a_random_operator_is_not_allowed_though_it_is_a_standard_one(
    lifecycle: Lifecycle, add: add_type, clock: ManualClock
) -> None:
    artifact = lifecycle.registry.load_artifact("pump", add().version)
    version = add(artifact=with_operator(artifact, "RandomNormalLike"))
    found = run(lifecycle, version, clock, {"check": "security_scan"})
    assert not found.ok
    assert "RandomNormalLike" in found.reason
    allowed = run(lifecycle, version, clock, {"check": "security_scan", "also": ["RandomNormalLike"]})
    assert allowed.ok


def test_a_challenger_must_take_and_give_what_the_champion_does(
    lifecycle: Lifecycle, add: add_type, clock: ManualClock
) -> None:
    champion, same, other = add(), add(seed=3), add(feature_names=("b", "a", "c"))
    assert run(lifecycle, same, clock, {"check": "a_b_test_ready"}, champion=champion).ok
    found = run(lifecycle, other, clock, {"check": "a_b_test_ready"}, champion=champion)
    assert not found.ok
    assert "features" in found.reason


def test_a_changed_artifact_refuses(lifecycle: Lifecycle, add: add_type, clock: ManualClock, tmp_path: Path) -> None:
    version = add()
    (tmp_path / "warehouse" / version.artifact).write_bytes(b"something else")
    found = run(lifecycle, version, clock, {"check": "integration_test"})
    assert not found.ok
    assert "SHA-256" in found.reason


@pytest.mark.parametrize(
    ("stage", "says"),
    [({}, "states no requirement"), ({"requirements": []}, "states no requirement")],
)
def test_a_stage_without_requirements_refuses(
    stage: dict[str, Any], says: str, add: add_type, with_policy: Callable[[dict[str, Any]], Lifecycle]
) -> None:
    add()
    answer = with_policy({"canary": stage}).promote("pump", 1, "canary", actor="t")
    assert not answer.decision.granted
    assert says in answer.decision.checks[-1].reason


def test_a_stage_of_ones_own_is_guarded_by_ones_own_rules(
    add: add_type, with_policy: Callable[[dict[str, Any]], Lifecycle]
) -> None:
    add()
    lifecycle = with_policy(
        {"canary": {"from": ["none"], "requirements": [{"check": "integration_test"}], "aliases": ["tried"]}}
    )
    assert lifecycle.promote("pump", 1, "canary", actor="t").decision.granted
    assert lifecycle.registry.resolve("pump", "tried").version == 1
    with pytest.raises(InvalidInputError, match="there is no stage `gamma`"):
        lifecycle.promote("pump", 1, "gamma", actor="t")


def test_the_built_in_policy_says_what_was_asked_for() -> None:
    policy = load_policy()
    staging = {each["check"]: each for each in policy.stages["staging"].requirements}
    production = {each["check"]: each for each in policy.stages["production"].requirements}
    assert (staging["performance_threshold"]["at_least"], staging["inference_time"]["at_most_ms"]) == (0.85, 100)
    assert "integration_test" in staging
    assert (production["performance_threshold"]["at_least"], production["inference_time"]["at_most_ms"]) == (0.9, 50)
    assert production["time_in_stage"]["at_least_hours"] == 24
    assert {"load_test", "security_scan"} <= production.keys()
    assert policy.stages["production"].exclusive
    assert policy.stages["production"].replaced == "archived"


def test_a_file_replaces_the_stages_that_it_names_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("stages:\n  staging:\n    requirements: [{check: integration_test}]\n", encoding="utf-8")
    policy = load_policy(file)
    assert [each["check"] for each in policy.stages["staging"].requirements] == ["integration_test"]
    assert policy.stages["production"] == load_policy().stages["production"]
    assert policy.sha256 != load_policy().sha256


CLAIM = {"check": "claimed_metric", "metric": "accuracy", "above": 0.8}


@pytest.mark.parametrize(
    ("gate", "claimed", "says"),
    [
        ([CLAIM], {"accuracy": 0.8}, "more than 0.8 is needed"),
        ([CLAIM], {}, "claims no `accuracy`"),
        ([{"check": "integration_test"}], {"accuracy": 1.0}, "needs a registered version"),
        ([{"check": "beauty"}], {"accuracy": 1.0}, "no check `beauty`"),
        ([{**CLAIM, "abov": 0.1}], {"accuracy": 1.0}, "`abov`"),
    ],
)
def test_the_gate_of_registration_refuses(gate: list[dict[str, Any]], claimed: dict[str, float], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        check_claims(parse_policy({"registration": gate}, where="test"), claimed)


def test_the_gate_of_registration_lets_through_who_claims_enough_and_is_open_by_default() -> None:
    check_claims(parse_policy({"registration": [CLAIM]}, where="test"), {"accuracy": 0.81})
    check_claims(load_policy(), {})


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"stage": {}},
        {"stages": {"x": {"unguarded": True, "requirements": [{}]}}},
        {"stages": {"deleted": {}}},
        {"stages": {"x": {"form": []}}},
    ],
)
def test_a_file_that_is_no_policy_is_an_error(document: object) -> None:
    with pytest.raises(InvalidInputError):
        parse_policy(document, where="policy.yaml")


def test_sealed_rows_are_the_same_bytes_for_the_same_rows() -> None:
    features = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = np.array([[0.1, 0.9], [0.8, 0.2]])
    content = write_evaluation(features, ["x", "y"], expected)
    assert content == write_evaluation(features, ["x", "y"], expected)
    found = read_evaluation(content)
    assert isinstance(found, Evaluation)
    assert found.features.tolist() == features.tolist()
    assert found.labels == ("x", "y")
    assert found.expected is not None
    assert found.expected.tolist() == expected.tolist()
