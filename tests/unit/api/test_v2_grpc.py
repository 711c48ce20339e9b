"""The V2 protocol by gRPC, with the messages as any client of it sends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from api.health import Lifecycle, Probe
from api.reading.lake import Lake
from api.v2.grpc import open_inference_pb2 as pb
from api.v2.grpc.server import SERVICE, V2Servicer, build_server
from api.v2.models import Models
from api.v2.service import V2
from core.errors import UnavailableError
from core.fakes import ManualClock
from core.settings import Settings
from iceberg.registry import Registry
from tests.unit.api.doubles import authenticator_of
from udfs.route import ModelKey
from udfs.server import UdfFlightServer
from udfs.sessions import LoadedModel, ModelSessions

ROWS = np.random.default_rng(9).normal(size=(4, 3)).astype(np.float32)


class Client:
    """Calls by name."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    async def __call__(self, name: str, request: Any, **more: Any) -> Any:
        kind = getattr(pb, f"{name}Response")
        call = self._channel.unary_unary(f"/{SERVICE}/{name}", type(request).SerializeToString, kind.FromString)
        return await call(request, **more)


@pytest.fixture
async def call(lake_settings: Settings, registry: Registry, udf_server: UdfFlightServer) -> AsyncIterator[Client]:
    v2 = V2(Models(Lake(lake_settings), ManualClock()), f"http://127.0.0.1:{udf_server.port}")

    async def fine() -> None:
        pass

    servicer = V2Servicer(v2, authenticator_of(lake_settings), [Probe("catalog", False, fine)], Lifecycle(), "9")
    server, port = build_server(servicer, "127.0.0.1", 0)
    await server.start()
    with pytest.raises(UnavailableError, match=str(port)):
        build_server(servicer, "127.0.0.1", port)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel)
    await server.stop(None)
    v2.close()


@pytest.fixture
def wanted(registry: Registry) -> np.ndarray:
    model = ModelSessions(registry).get(ModelKey("default", 1))
    assert isinstance(model, LoadedModel)
    return model.probabilities(ROWS)


def infer_request(**more: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="default", id="42", **more)
    request.inputs.add(name="features", datatype="FP32", shape=[4, 3])
    return request


async def test_health_and_metadata_are_those_of_the_protocol(call: Client) -> None:
    assert (await call("ServerLive", pb.ServerLiveRequest())).live
    assert (await call("ServerReady", pb.ServerReadyRequest())).ready
    server = await call("ServerMetadata", pb.ServerMetadataRequest())
    assert (server.name, server.version) == ("headrace", "9")
    assert (await call("ModelReady", pb.ModelReadyRequest(name="default"))).ready
    model = await call("ModelMetadata", pb.ModelMetadataRequest(name="default", version="1"))
    assert list(model.versions) == ["1"]
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [("features", "FP32", [-1, 3])]


async def test_numbers_and_bytes_are_answered_in_kind(call: Client, wanted: np.ndarray) -> None:
    request = infer_request(model_version="1")
    request.inputs[0].contents.fp32_contents.extend(ROWS.ravel().tolist())
    answer = await call("ModelInfer", request)
    assert (answer.id, answer.model_name, answer.model_version) == ("42", "default", "1")
    assert len(answer.parameters["artifact_sha256"].string_param) == 64
    probabilities, label = answer.outputs
    assert np.array_equal(np.array(probabilities.contents.fp32_contents, np.float32).reshape(4, 2), wanted)
    assert list(label.contents.bytes_contents) == [str(best).encode() for best in wanted.argmax(axis=1)]

    raw = infer_request(raw_input_contents=[ROWS.astype("<f4").tobytes()])
    raw.outputs.add(name="probabilities")
    answer = await call("ModelInfer", raw)
    assert [each.name for each in answer.outputs] == ["probabilities"]
    assert list(answer.raw_output_contents) == [wanted.astype("<f4").tobytes()]


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (
            lambda r: r.MergeFrom(pb.ModelInferRequest(model_name="absent", raw_input_contents=[ROWS.tobytes()])),
            grpc.StatusCode.NOT_FOUND,
            "no model `absent`",
        ),
        (
            lambda r: r.MergeFrom(pb.ModelInferRequest(model_version="9", raw_input_contents=[ROWS.tobytes()])),
            grpc.StatusCode.NOT_FOUND,
            "no version `9`",
        ),
        (lambda r: None, grpc.StatusCode.INVALID_ARGUMENT, "has 0 values"),
        (lambda r: r.raw_input_contents.append(b"123"), grpc.StatusCode.INVALID_ARGUMENT, "has 3 bytes"),
        (
            lambda r: r.inputs[0].contents.fp32_contents.extend([float("nan")] * 12),
            grpc.StatusCode.INVALID_ARGUMENT,
            "row 0: Feature 0 of 3 is `nan`",
        ),
    ],
)
async def test_what_cannot_be_answered_has_the_protocols_status(call: Client, change: Any, code: Any, told: str) -> None:
    request = infer_request()
    change(request)
    with pytest.raises(grpc.aio.AioRpcError, match=told) as raised:
        await call("ModelInfer", request)
    assert raised.value.code() == code


async def test_a_wrong_key_is_refused(call: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call("ModelReady", pb.ModelReadyRequest(name="default"), metadata=[("authorization", "Bearer wrong")])
    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
