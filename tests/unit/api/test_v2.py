"""The V2 protocol by REST, around the real UDF server and registry."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from api.fast_paths import FastPaths
from api.health import Lifecycle, Probe
from api.reading.lake import Lake
from api.v2.models import FRESH_SECONDS, Models
from api.v2.routes import build_router
from api.v2.service import V2
from core.fakes import ManualClock
from core.settings import Settings
from iceberg.registry import Registry
from tests.unit.api.doubles import authenticator_of, connected
from udfs.route import ModelKey
from udfs.server import UdfFlightServer
from udfs.sessions import LoadedModel, ModelSessions

ROWS = np.random.default_rng(8).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture(params=["routes", "fast path"])
async def caller(
    request: pytest.FixtureRequest, lake_settings: Settings, registry: Registry, udf_server: UdfFlightServer
) -> AsyncIterator[httpx.AsyncClient]:
    v2 = V2(Models(Lake(lake_settings), ManualClock()), f"http://127.0.0.1:{udf_server.port}")

    async def fine() -> None:
        pass

    probes = [Probe(name, False, fine) for name in ("udf_server", "catalog")]
    app = FastAPI()
    app.include_router(build_router(v2, authenticator_of(lake_settings), probes, Lifecycle(), "9"))
    if request.param == "fast path":
        app.add_middleware(FastPaths, inference=None, v2=v2, authenticator=authenticator_of(lake_settings))
    async with connected(app) as client:
        yield client
    v2.close()


@pytest.fixture
def wanted(registry: Registry) -> np.ndarray:
    model = ModelSessions(registry).get(ModelKey("default", 1))
    assert isinstance(model, LoadedModel)
    return model.probabilities(ROWS)


def body(data: Any, shape: list[int], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "features", "shape": shape, "datatype": datatype, "data": data}], **more}


async def test_health_server_and_model_metadata_are_as_the_protocol_says(caller: httpx.AsyncClient) -> None:
    assert (await caller.get("/v2/health/live")).json() == {"live": True}
    ready = await caller.get("/v2/health/ready")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert (await caller.get("/v2")).json() == {"name": "headrace", "version": "9", "extensions": ["binary_tensor_data"]}
    told = (await caller.get("/v2/models/default")).json()
    assert told == {
        "name": "default",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }
    assert (await caller.get("/v2/models/default/versions/1")).json() == told
    for path in ("/v2/models/default/ready", "/v2/models/default/versions/1/ready"):
        answer = await caller.get(path)
        assert (answer.status_code, answer.json()) == (200, {"name": "default", "ready": True})


@pytest.mark.parametrize("path", ["/v2/models/default/infer", "/v2/models/default/versions/1/infer"])
async def test_a_tensor_of_numbers_flat_or_nested_is_answered(caller: httpx.AsyncClient, wanted: np.ndarray, path: str) -> None:
    for data in (ROWS.ravel().tolist(), ROWS.tolist()):
        answer = await caller.post(path, json=body(data, [5, 3], id="42"))
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["id"], told["model_name"], told["model_version"]) == ("42", "default", "1")
        assert len(told["parameters"]["artifact_sha256"]) == 64
        probabilities, label = told["outputs"]
        assert (probabilities["name"], probabilities["datatype"], probabilities["shape"]) == ("probabilities", "FP32", [5, 2])
        assert np.array_equal(np.array(probabilities["data"], np.float32).reshape(5, 2), wanted)
        assert label["data"] == [str(best) for best in wanted.argmax(axis=1)]


async def test_binary_tensors_come_and_go_as_bytes(caller: httpx.AsyncClient, wanted: np.ndarray) -> None:
    raw = ROWS.astype("<f4").tobytes()
    one = {"name": "features", "shape": [5, 3], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    head = json.dumps({"inputs": [one], "outputs": outputs}).encode()
    answer = await caller.post(
        "/v2/models/default/infer", content=head + raw, headers={"Inference-Header-Content-Length": str(len(head))}
    )
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    probabilities, label = json.loads(answer.content[:length])["outputs"]
    assert probabilities["parameters"]["binary_data_size"] == wanted.nbytes
    assert answer.content[length:] == wanted.astype("<f4").tobytes()
    assert label["data"] == [str(best) for best in wanted.argmax(axis=1)]
    everything = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    answer = await caller.post(
        "/v2/models/default/infer", content=everything + raw, headers={"Inference-Header-Content-Length": str(len(everything))}
    )
    texts = answer.content[int(answer.headers["inference-header-content-length"]) + wanted.nbytes :]
    assert texts == b"".join(b"\x01\x00\x00\x00" + str(best).encode() for best in wanted.argmax(axis=1))


@pytest.mark.parametrize("datatype", ["FP64", "FP16", "INT32", "UINT8", "BOOL"])
async def test_other_numeric_types_are_taken(caller: httpx.AsyncClient, registry: Registry, datatype: str) -> None:
    rows = np.array([[1, 0, 1], [0, 1, 1]])
    data = rows.astype(bool).tolist() if datatype == "BOOL" else rows.tolist()
    answer = await caller.post(
        "/v2/models/default/infer", json=body(data, [2, 3], datatype, outputs=[{"name": "probabilities"}])
    )
    assert answer.status_code == 200, answer.text
    (only,) = answer.json()["outputs"]
    model = ModelSessions(registry).get(ModelKey("default", 1))
    assert isinstance(model, LoadedModel)
    assert np.array_equal(np.array(only["data"], np.float32).reshape(2, 2), model.probabilities(rows.astype(np.float32)))


@pytest.mark.parametrize(
    ("request_body", "status", "told"),
    [
        (body([[1, 2]], [1, 2]), 400, "row 0: Model `default@1` takes 3 features, the row has 2"),
        (body([1, 2, 3], [1, 4]), 400, "its shape [1, 4] means 4"),
        (body([1, 2, 3], [3]), 400, "has shape [3]"),
        (body(["a", 2, 3], [1, 3]), 400, "no number"),
        (body([1, 2, 3], [1, 3], "BYTES"), 400, "datatype `BYTES`"),
        (body([1, 2, 300], [1, 3], "UINT8"), 400, "does not fit"),
        (body([1, 2, 3], [1, -3]), 400, "shape"),
        (body([1, 2, 3], [1, 3], outputs=[{"name": "absent"}]), 400, "no output `absent`"),
        ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}, 400, "got inputs ['x']"),
        ({"inputs": []}, 400, "got inputs []"),
        ({"inputs": 3}, 400, "no array `inputs`"),
        ({"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP32"}]}, 400, "has no `data`"),
    ],
)  # fmt: skip
async def test_what_a_model_does_not_take_is_an_error_with_its_reason(
    caller: httpx.AsyncClient, request_body: dict[str, Any], status: int, told: str
) -> None:
    answer = await caller.post("/v2/models/default/infer", json=request_body)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert told in answer.json()["error"]


async def test_a_row_that_is_not_finite_is_named(caller: httpx.AsyncClient) -> None:
    rows = ROWS.copy()
    rows[3, 1] = np.nan
    answer = await caller.post("/v2/models/default/infer", content=json.dumps(body(rows.tolist(), [5, 3])))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("row 3: Feature 1 of 3 is `nan`")


@pytest.mark.parametrize("path", ["/v2/models/absent", "/v2/models/default/versions/7", "/v2/models/default/versions/latest"])
async def test_what_is_not_there_is_404_and_never_another_version(caller: httpx.AsyncClient, path: str) -> None:
    for answer in (await caller.get(path), await caller.post(f"{path}/infer", json=body([1, 2, 3], [1, 3]))):
        assert answer.status_code == 404
        assert "error" in answer.json()


async def test_without_a_version_the_production_alias_decides_and_else_the_newest(
    lake_settings: Settings, registry: Registry
) -> None:
    clock = ManualClock()
    models = Models(Lake(lake_settings), clock)
    artifact = registry.load_artifact("other", 1)
    sealed = {"kind": "random_forest", "labels": ("0", "1"), "metrics": {}, "tags": {}, "training_data": {}, "code_hash": "x"}
    for _ in range(2):
        registry.register("moving", artifact, **sealed, duration=timedelta(seconds=1))  # type: ignore[arg-type]
    tenant: Any = "acme"
    assert (await models.must_find(tenant, "moving", None)).version.version == 2
    registry.set_alias("moving", "production", 1)
    assert (await models.must_find(tenant, "moving", None)).version.version == 2, "kept for a moment"
    clock.advance(timedelta(seconds=FRESH_SECONDS))
    assert (await models.must_find(tenant, "moving", None)).version.version == 1


async def test_models_need_credentials_where_everything_does(caller: httpx.AsyncClient) -> None:
    answer = await caller.get("/v2/models/default", headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 401
