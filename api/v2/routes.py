"""`/v2`: the protocol by REST, with the binary tensor extension. Errors are `{"error": ...}`, as the protocol says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api.health import Lifecycle, Probe, check_health
from api.http.body import read_body
from api.http.problems import retry_after, status_of
from api.identity.authenticator import Authenticator
from api.inference.routes import MAX_BODY_BYTES
from api.v2.service import EXTENSIONS, NAME, PLATFORM, V2, Inferred, ModelInfo, TensorInfo
from api.v2.tensors import Array, from_bytes, from_values, to_bytes
from core.errors import HeadraceError, InvalidInputError

HEADER_LENGTH = "inference-header-content-length"
_INLINE_BYTES = 64 * 1024  # reading more than this takes longer than other requests should wait

_Json = Mapping[str, Any]  # Any: JSON


def build_router(v2: V2, authenticator: Authenticator, probes: list[Probe], lifecycle: Lifecycle, version: str) -> APIRouter:
    """The routes of the protocol."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol V2"])

    @router.get("/health/live")
    async def live() -> Response:
        """Whether the server answers."""
        return JSONResponse({"live": True})

    @router.get("/health/ready", responses={503: {"description": "Not ready."}})
    async def ready() -> Response:
        """Whether models can be asked: the UDF server and the catalog answer."""
        needed = [probe for probe in probes if probe.name in ("udf_server", "catalog")]
        found = await check_health(needed)
        is_ready = not lifecycle.draining and found.status == "ok"
        return JSONResponse({"ready": is_ready, "live": True}, status_code=200 if is_ready else 503)

    @router.get("")
    async def server() -> Response:
        """Name, version and extensions of the server."""
        return JSONResponse({"name": NAME, "version": version, "extensions": list(EXTENSIONS)})

    @router.get("/models/{name}")
    @router.get("/models/{name}/versions/{model_version}")
    async def metadata(request: Request, name: str, model_version: str | None = None) -> Response:
        """What a model takes and gives."""

        async def answer() -> Response:
            tenant = (await authenticator.authenticate(request, "read")).tenant
            return JSONResponse(_metadata_json(await v2.describe(tenant, name, model_version)))

        return await _told(answer)

    @router.get("/models/{name}/ready")
    @router.get("/models/{name}/versions/{model_version}/ready")
    async def model_ready(request: Request, name: str, model_version: str | None = None) -> Response:
        """Whether a model answers a row."""

        async def answer() -> Response:
            tenant = (await authenticator.authenticate(request, "read")).tenant
            is_ready = await v2.is_ready(tenant, name, model_version)
            return JSONResponse({"name": name, "ready": is_ready}, status_code=200 if is_ready else 503)

        return await _told(answer)

    @router.post("/models/{name}/infer")
    @router.post("/models/{name}/versions/{model_version}/infer")
    async def infer(request: Request, name: str, model_version: str | None = None) -> Response:
        """Run a model on tensors."""
        return await answer_infer(v2, authenticator, request, name, model_version)

    return router


async def answer_infer(v2: V2, authenticator: Authenticator, request: Request, name: str, version: str | None) -> Response:
    """Answer an inference request, also with what is wrong with it."""

    async def answer() -> Response:
        tenant = (await authenticator.authenticate(request, "predict")).tenant
        body = await read_body(request, max_bytes=MAX_BODY_BYTES)
        length = request.headers.get(HEADER_LENGTH)
        asked, inputs = _parse(body, length) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(_parse, body, length)
        wanted = _wanted(asked)
        found = await v2.infer(tenant, name, version, inputs, list(wanted) if wanted else None)
        return _answer(name, asked, found, wanted)

    return await _told(answer)


async def _told(answer: Callable[[], Awaitable[Response]]) -> Response:
    try:
        return await answer()
    except HeadraceError as error:
        status, _ = status_of(error)
        return JSONResponse({"error": str(error)}, status_code=status, headers=retry_after(error))


def _metadata_json(info: ModelInfo) -> dict[str, object]:
    def tensors(infos: Sequence[TensorInfo]) -> list[dict[str, object]]:
        return [{"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in infos]

    return {
        "name": info.name,
        "versions": list(info.versions),
        "platform": PLATFORM,
        "inputs": tensors(info.inputs),
        "outputs": tensors(info.outputs),
    }


def _parse(body: bytes, header_length: str | None) -> tuple[_Json, dict[str, Array]]:
    """The JSON of a request and its input tensors, from the JSON or from the bytes behind it."""
    head, tail = body, b""
    if header_length is not None:
        if not header_length.isdigit() or int(header_length) > len(body):
            raise InvalidInputError(f"`{header_length}` is no length of the JSON", where="Inference-Header-Content-Length")
        head, tail = body[: int(header_length)], body[int(header_length) :]
    try:
        asked = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"the request is no JSON: {error}") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("inputs"), list):
        raise InvalidInputError("the request has no array `inputs`")
    inputs: dict[str, Array] = {}
    start = 0
    for each in asked["inputs"]:
        if not isinstance(each, dict) or not isinstance(each.get("name"), str) or not isinstance(each.get("shape"), list):
            raise InvalidInputError("an input needs `name`, `shape` and `datatype`")
        size = _parameters(each).get("binary_data_size")
        name, datatype = each["name"], str(each.get("datatype"))
        if size is None:
            if "data" not in each:
                raise InvalidInputError(f"input `{name}` has no `data`")
            inputs[name] = from_values(name, datatype, each["shape"], each["data"])
        else:
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail) - start:
                raise InvalidInputError(f"input `{name}` has `binary_data_size` {size}, {len(tail) - start} bytes are there")
            inputs[name] = from_bytes(name, datatype, each["shape"], tail[start : start + size])
            start += size
    if start != len(tail):
        raise InvalidInputError(f"{len(tail) - start} bytes belong to no input")
    return asked, inputs


def _wanted(asked: _Json) -> dict[str, bool]:
    """Output to whether it shall come as bytes; empty when the request names none."""
    by_default = _parameters(asked).get("binary_data_output") is True
    outputs = asked.get("outputs")
    if not outputs:
        return {}
    if not isinstance(outputs, list) or not all(
        isinstance(each, dict) and isinstance(each.get("name"), str) for each in outputs
    ):
        raise InvalidInputError("`outputs` is no array of objects with a `name`")
    return {each["name"]: bool(_parameters(each).get("binary_data", by_default)) for each in outputs}


def _answer(name: str, asked: _Json, found: Inferred, wanted: Mapping[str, bool]) -> Response:
    all_binary = _parameters(asked).get("binary_data_output") is True
    told, blobs = [], []
    for output in found.outputs:
        each: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.values.shape)}
        if wanted.get(output.name, all_binary):
            blobs.append(to_bytes(output))
            each["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            each["data"] = output.values.ravel().tolist()
        told.append(each)
    answer: dict[str, Any] = {
        "model_name": name,
        "model_version": str(found.named.version.version),
        "parameters": dict(found.parameters),
        "outputs": told,
    }
    if isinstance(asked.get("id"), str):
        answer["id"] = asked["id"]
    head = json.dumps(answer).encode()
    if not blobs:
        return Response(head, media_type="application/json")
    return Response(
        head + b"".join(blobs),
        media_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(head))},
    )


def _parameters(part: _Json) -> _Json:
    found = part.get("parameters")
    return found if isinstance(found, dict) else {}
