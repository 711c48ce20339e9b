"""Experiments by REST in a running platform: the promised words, assignment, exposure, conversion, verdict, tenants."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

BASE = "/api/v1/mlops/experiments"
PROMISED = {
    "name": "LightGBM vs Neural CF",
    "description": "Compare traditional vs deep learning approach",
    "variants": [
        {"name": "champion", "model_path": "/app/models/lgbm_v1.pkl", "model_version": "v1.0"},
        {"name": "challenger", "model_path": "/app/models/neural_cf_v2.pkl", "model_version": "v2.0"},
    ],
    "allocation_strategy": "thompson_sampling",
    "traffic_percentage": 50.0,
}
ROW = [50.0, 21.0, 77.0, 0.0, 28.0, 0.0, 27.0, 48.0, 22.0]


def wanted(**more: object) -> dict[str, object]:
    variants = [
        {"name": "champion", "model_path": "telemetry_anomaly", "model_version": "1"},
        {"name": "challenger", "model_path": "telemetry_anomaly@2"},
    ]
    return {"name": "trees against echo", "variants": variants, **more}


@pytest.fixture
def api(platform: dict[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform["api"], timeout=30) as client:
        yield client


def started(api: httpx.Client, **more: object) -> str:
    created = api.post(BASE, json=wanted(**more))
    assert created.status_code == 201, created.text
    identifier: str = created.json()["experiment_id"]
    answer = api.post(f"{BASE}/{identifier}/start")
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"experiment_id", "status", "message"}
    assert answer.json()["status"] == "running"
    return identifier


def eventually(ask: Callable[[], Any], holds: Callable[[Any], bool], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not holds(found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def assign(api: httpx.Client, identifier: str, units: list[str]) -> list[dict[str, Any]]:
    answer = api.post(f"{BASE}/{identifier}/assignments", json={"unit_ids": units})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["assignments"]
    return found


def convert(api: httpx.Client, identifier: str, units: list[str]) -> None:
    answer = api.post(f"{BASE}/{identifier}/conversions", json={"conversions": [{"unit_id": unit} for unit in units]})
    assert (answer.status_code, answer.json()["accepted"]) == (202, len(units))


def result(api: httpx.Client, identifier: str) -> dict[str, Any]:
    answer = api.get(f"{BASE}/{identifier}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_promised_request_is_taken_with_a_warning_and_its_pickles_are_refused_at_the_start(api: httpx.Client) -> None:
    created = api.post(BASE, json=PROMISED)
    assert created.status_code == 201
    told = created.json()
    assert told["message"] == "Experiment 'LightGBM vs Neural CF' created successfully"
    assert told["experiment_id"].startswith("exp_")
    assert len(told["experiment_id"]) == len("exp_a1b2c3d4e5f6")
    assert ["/app/models/lgbm_v1.pkl" in told["warnings"][0], "/app/models/neural_cf_v2.pkl" in told["warnings"][1]] == [
        True
    ] * 2
    refused = api.post(f"{BASE}/{told['experiment_id']}/start")
    assert (refused.status_code, refused.json()["code"]) == (422, "model_refused")
    assert "`/app/models/lgbm_v1.pkl` is a pickle" in refused.json()["detail"]
    assert result(api, told["experiment_id"])["status"] == "created"
    assert told["experiment_id"] in [each["experiment_id"] for each in api.get(BASE).json()]


@pytest.mark.parametrize(
    ("path", "version", "why"),
    [
        ("../../etc/passwd.onnx", "1", "outside of the registry"),
        ("/etc/model.onnx", "1", "outside of the registry"),
        ("models/absent.onnx", "1", "no artifact of the registry"),
        ("absent_model", "1", "names no registered model"),
        ("telemetry_anomaly", "99", "has no version `99`"),
        ("telemetry_anomaly", None, "names no version"),
        ("telemetry_anomaly", "v1.0", "has no version `v1.0`"),
        ("telemetry_anomaly@1", "2", "names version 1"),
        ("/app/models/net.pt", "1", "is no ONNX model"),
    ],
)
def test_what_is_no_registered_model_is_refused_at_the_start(
    api: httpx.Client, path: str, version: str | None, why: str
) -> None:
    variants = [{"name": "odd", "model_path": path, "model_version": version}, wanted()["variants"][1]]  # type: ignore[index]
    identifier = api.post(BASE, json=wanted(variants=variants)).json()["experiment_id"]
    refused = api.post(f"{BASE}/{identifier}/start")
    assert refused.status_code == 422
    assert why in refused.json()["detail"]


def test_units_are_dealt_once_convert_later_and_the_verdict_has_the_promised_fields(api: httpx.Client) -> None:
    identifier = started(api, allocation_strategy="fixed_split")
    units = [f"user_{n}" for n in range(400)]
    dealt = assign(api, identifier, units)
    assert {each["propensity"] for each in dealt} == {0.5}
    assert {each["model"] for each in dealt} == {"telemetry_anomaly@1", "telemetry_anomaly@2"}
    assert assign(api, identifier, units[::-1])[::-1] == dealt, "the same variant each time"
    better = [each["unit_id"] for each in dealt if each["variant"] == "challenger"]
    worse = [each["unit_id"] for each in dealt if each["variant"] == "champion"]
    convert(api, identifier, better[: len(better) // 2] + worse[: len(worse) // 10])
    convert(api, identifier, better[:5])  # twice counts once
    conversions = len(better) // 2 + len(worse) // 10
    told = eventually(
        lambda: result(api, identifier), lambda r: (r["total_impressions"], r["total_conversions"]) == (400, conversions)
    )
    first, second = told["variants"]
    assert (first["variant_id"], first["name"], second["variant_id"]) == ("var_0", "champion", "var_1")
    assert (first["impressions"], second["impressions"]) == (len(worse), len(better))
    assert first["conversion_rate"] == round(len(worse) // 10 / len(worse), 4)
    assert told["winning_variant"] == "challenger"
    assert told["confidence"] > 0.99
    assert told["confidence_method"].startswith("posterior probability of being best")
    assert second["always_valid_confidence"] >= told["confidence_level"] == 0.95
    assert told["decision"] == "promote"
    assert told["sample_ratio"]["mismatch"] is False
    assert told["sample_ratio"]["observed"] == [len(worse), len(better)]

    stopped = api.post(f"{BASE}/{identifier}/stop").json()
    assert (stopped["experiment_id"], stopped["status"]) == (identifier, "stopped")
    late = api.post(f"{BASE}/{identifier}/assignments", json={"unit_ids": ["late"]})
    assert late.status_code == 409
    assert api.post(f"{BASE}/{identifier}/start").status_code == 409
    convert(api, identifier, worse[-3:])
    eventually(lambda: result(api, identifier), lambda r: r["total_conversions"] == conversions + 3)


def test_thompson_sampling_moves_the_traffic_and_keeps_who_was_dealt(api: httpx.Client) -> None:
    identifier = started(api, allocation_strategy="thompson_sampling", conversion_window_seconds=0)
    early = assign(api, identifier, [f"early_{n}" for n in range(200)])
    convert(api, identifier, [each["unit_id"] for each in early if each["variant"] == "challenger"])
    told = eventually(lambda: result(api, identifier), lambda r: r["variants"][1]["propensity"] > 0.999)
    assert told["sample_ratio"]["p_value"] is not None
    later = eventually(
        lambda: assign(api, identifier, [f"later_{time.monotonic_ns()}_{n}" for n in range(50)]),
        lambda dealt: all(each["propensity"] > 0.999 for each in dealt if each["variant"] == "challenger"),
    )
    assert sum(each["variant"] == "challenger" for each in later) >= 48
    again = assign(api, identifier, [each["unit_id"] for each in early])
    assert [each["variant"] for each in again] == [each["variant"] for each in early]


def test_predict_answers_with_the_variants_of_an_experiment_and_others_with_the_endpoint(api: httpx.Client) -> None:
    identifier = started(api, allocation_strategy="epsilon_greedy", traffic_percentage=50.0, endpoint="telemetry.anomaly")
    users = [f"user_{n}" for n in range(60)]
    body = {"features": [ROW] * 60, "keys": users, "experiment_id": identifier, "endpoint": "telemetry.anomaly"}
    answer = api.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    served = {"var_0": [("telemetry_anomaly", 1)], "var_1": [("telemetry_anomaly", 2)]}
    for variant, members in zip(told["variant_ids"], told["members"], strict=True):
        models = [(each["model"], each["version"]) for each in members]
        assert models == served[variant] if variant else len(models) == 2
    inside = sum(variant is not None for variant in told["variant_ids"])
    assert 10 < inside < 50
    found = eventually(lambda: result(api, identifier), lambda r: r["total_impressions"] == inside)
    assert all(each["avg_latency_ms"] > 0 for each in found["variants"] if each["impressions"])
    missing = api.post("/predict", json={"features": [ROW], "experiment_id": identifier})
    assert missing.status_code == 400


def test_an_experiment_is_its_tenants_alone(api: httpx.Client) -> None:
    identifier = started(api)
    other = {"x-headrace-tenant": "somebody-else"}
    units = {"unit_ids": ["a"]}
    assert api.get(f"{BASE}/{identifier}", headers=other).status_code == 404
    assert api.post(f"{BASE}/{identifier}/stop", headers=other).status_code == 404
    assert api.post(f"{BASE}/{identifier}/assignments", json=units, headers=other).status_code == 404
    assert (
        api.post(f"{BASE}/{identifier}/conversions", json={"conversions": [{"unit_id": "a"}]}, headers=other).status_code == 404
    )
    assert api.get(BASE, headers=other).json() == []
    assert api.get(f"{BASE}/{identifier}'; DROP TABLE experiments; --").status_code == 404
    assert api.get(BASE).status_code == 200
