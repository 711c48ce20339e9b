"""The V2 protocol by gRPC, beside the same by REST: one service, another transport.

Credentials come as metadata `authorization: Bearer KEY`; on loopback in development none are needed. Texts and numbers go out
as bytes where they came as bytes (`raw_input_contents`), else as repeated fields.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from starlette.requests import HTTPConnection

from api.health import Lifecycle, Probe, check_health
from api.http.problems import ForbiddenError, TooLargeError, TooManyRequestsError, UnauthenticatedError
from api.identity.authenticator import Authenticator
from api.identity.identity import Permission
from api.v2.grpc import open_inference_pb2 as pb
from api.v2.service import EXTENSIONS, NAME, PLATFORM, V2, Inferred, TensorInfo
from api.v2.tensors import Array, Output, from_bytes, from_values, to_bytes
from core.errors import HeadraceError, InvalidInputError, NotFoundError, UnavailableError
from core.ids import TenantId

logger = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_CODES: tuple[tuple[type[HeadraceError], Any], ...] = (  # Any: grpc publishes no types
    (UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (ForbiddenError, grpc.StatusCode.PERMISSION_DENIED),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (TooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (TooManyRequestsError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (HeadraceError, grpc.StatusCode.INTERNAL),
)

# Datatype to the repeated field that holds it; FP16 has none and comes as bytes only.
_FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class V2Servicer:
    """The six calls of the protocol."""

    def __init__(self, v2: V2, authenticator: Authenticator, probes: list[Probe], lifecycle: Lifecycle, version: str) -> None:
        self._v2 = v2
        self._authenticator = authenticator
        self._probes = [probe for probe in probes if probe.name in ("udf_server", "catalog")]
        self._lifecycle = lifecycle
        self._version = version

    async def server_live(self, _request: pb.ServerLiveRequest, _context: Any) -> pb.ServerLiveResponse:  # Any: grpc's
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _request: pb.ServerReadyRequest, _context: Any) -> pb.ServerReadyResponse:
        found = await check_health(self._probes)
        return pb.ServerReadyResponse(ready=found.status == "ok" and not self._lifecycle.draining)

    async def server_metadata(self, _request: pb.ServerMetadataRequest, _context: Any) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=NAME, version=self._version, extensions=EXTENSIONS)

    async def model_ready(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:
        tenant = await self._tenant(context, "read")
        return pb.ModelReadyResponse(ready=await self._v2.is_ready(tenant, request.name, request.version or None))

    async def model_metadata(self, request: pb.ModelMetadataRequest, context: Any) -> pb.ModelMetadataResponse:
        info = await self._v2.describe(await self._tenant(context, "read"), request.name, request.version or None)
        return pb.ModelMetadataResponse(
            name=info.name,
            versions=info.versions,
            platform=PLATFORM,
            inputs=[_tensor(each) for each in info.inputs],
            outputs=[_tensor(each) for each in info.outputs],
        )

    async def model_infer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        inputs = _inputs(request)
        wanted = [each.name for each in request.outputs]
        tenant = await self._tenant(context, "predict")
        found = await self._v2.infer(tenant, request.model_name, request.model_version or None, inputs, wanted or None)
        return _answer(request, found, raw=bool(request.raw_input_contents))

    def handlers(self) -> Mapping[str, Any]:
        """Names of the protocol's calls to their handlers."""
        calls: Sequence[tuple[str, Callable[[Any, Any], Awaitable[Any]], Any, Any]] = (
            ("ServerLive", self.server_live, pb.ServerLiveRequest, pb.ServerLiveResponse),
            ("ServerReady", self.server_ready, pb.ServerReadyRequest, pb.ServerReadyResponse),
            ("ServerMetadata", self.server_metadata, pb.ServerMetadataRequest, pb.ServerMetadataResponse),
            ("ModelReady", self.model_ready, pb.ModelReadyRequest, pb.ModelReadyResponse),
            ("ModelMetadata", self.model_metadata, pb.ModelMetadataRequest, pb.ModelMetadataResponse),
            ("ModelInfer", self.model_infer, pb.ModelInferRequest, pb.ModelInferResponse),
        )
        return {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(call), request_deserializer=taken.FromString, response_serializer=given.SerializeToString
            )
            for name, call, taken, given in calls
        }

    async def _tenant(self, context: Any, needs: Permission) -> TenantId:
        headers = [(name.encode(), _bytes(value)) for name, value in context.invocation_metadata() or ()]
        scope = {"type": "http", "headers": headers, "client": (_host_of(context.peer()), 0)}
        return (await self._authenticator.authenticate(HTTPConnection(scope), needs)).tenant


def build_server(servicer: V2Servicer, host: str, port: int) -> tuple[Any, int]:
    """A server that is bound and not yet started, and its port (0 takes a free one). Call it in the event loop.

    Raises:
        UnavailableError: somebody else has the port.
    """
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, servicer.handlers()),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise UnavailableError(
            f"cannot listen on `{address}`", where="v2_grpc_port", fix="Stop who has the port, or choose another."
        ) from error
    return server, bound


def _guarded(call: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        try:
            return await call(request, context)
        except HeadraceError as error:
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            if code is grpc.StatusCode.INTERNAL:
                logger.error("request failed", exc_info=error)
            await context.abort(code, str(error))

    return answer


def _inputs(request: pb.ModelInferRequest) -> dict[str, Array]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(f"{len(raw)} raw contents for {len(request.inputs)} inputs")
    found: dict[str, Array] = {}
    for at, each in enumerate(request.inputs):
        shape = list(each.shape)
        if raw:
            found[each.name] = from_bytes(each.name, each.datatype, shape, raw[at])
        elif each.datatype not in _FIELDS:
            raise InvalidInputError(f"tensor `{each.name}` of {each.datatype} can only come as raw contents")
        else:
            found[each.name] = from_values(
                each.name, each.datatype, shape, list(getattr(each.contents, _FIELDS[each.datatype]))
            )
    return found


def _answer(request: pb.ModelInferRequest, found: Inferred, *, raw: bool) -> pb.ModelInferResponse:
    answer = pb.ModelInferResponse(model_name=request.model_name, model_version=str(found.named.version.version), id=request.id)
    for name, text in found.parameters.items():
        answer.parameters[name].string_param = text
    for output in found.outputs:
        told = answer.outputs.add(name=output.name, datatype=output.datatype, shape=output.values.shape)
        if raw:
            answer.raw_output_contents.append(to_bytes(output))
        else:
            getattr(told.contents, _FIELDS[output.datatype]).extend(_values(output))
    return answer


def _values(output: Output) -> list[Any]:
    flat = output.values.ravel().tolist()
    return [str(text).encode() for text in flat] if output.datatype == "BYTES" else flat


def _tensor(info: TensorInfo) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=info.name, datatype=info.datatype, shape=info.shape)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


def _host_of(peer: str) -> str:
    """`ipv4:127.0.0.1:4711` or `ipv6:[::1]:4711`, percent-encoded, to the address."""
    kind, _, address = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return address.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]").strip("[]")
