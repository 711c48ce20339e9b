"""`POST /v1/ingest/{stream}`, `POST /ingest/batch` and `POST /v1/feedback`."""

from __future__ import annotations

from fastapi import APIRouter, Query, Request, Response

from api.http.body import read_body
from api.identity.authenticator import Authenticator
from api.ingest.batches import BatchAnswer, Batches, BatchInput
from api.ingest.service import Ingestion
from api.ingest.verdicts import IngestAnswer

MAX_BODY_BYTES = 4 * 1024 * 1024  # in base64, as a refused body is kept, still below the broker's 8 MiB
MAX_BATCH_BYTES = 16 * 1024 * 1024  # 10,000 rows of 80 numbers as they are usually written
MAX_BINARY_BYTES = 512 * 1024  # a payload travels inside its event until there is a blob store

_RESPONSES: dict[int | str, dict[str, object]] = {
    202: {"description": "At least one row was taken and is durable; the others are named, and kept in the quarantine."},
    401: {"description": "No credentials, or unknown ones."},
    404: {"description": "There is no such stream."},
    413: {"description": "Too many bytes or rows."},
    422: {"description": "Every row was refused; each is named, and kept in the quarantine.", "model": IngestAnswer},
    503: {"description": "The broker did not acknowledge; send the same rows again."},
}
_BATCH_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": BatchInput.model_json_schema()}}}}
_BATCH_RESPONSES: dict[int | str, dict[str, object]] = {
    202: {"description": "At least one row was taken and is committed; the others are named, and kept in the quarantine."},
    401: {"description": "No credentials, or unknown ones."},
    409: {"description": "Other rows were sent under this id."},
    413: {"description": "Too many bytes or rows."},
    422: {"description": "The body is no batch, or every row was refused.", "model": BatchAnswer},
    503: {"description": "The broker did not commit; send the same batch again, it counts once."},
}
_JSON_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}
_JSON_OR_BINARY_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **_JSON_BODY["requestBody"]["content"],  # type: ignore[dict-item]  # a literal just above
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def build_batch_router(batches: Batches, authenticator: Authenticator) -> APIRouter:
    """The route that takes batches."""
    router = APIRouter(tags=["Ingestion"])

    @router.post("/ingest/batch", status_code=202, responses=_BATCH_RESPONSES, openapi_extra=_BATCH_BODY)
    async def batch(request: Request, response: Response) -> BatchAnswer:
        """Send rows of numbers with their labels; a batch that is sent again under its id counts once."""
        tenant = (await authenticator.authenticate(request, "ingest")).tenant
        answer = await batches.take(tenant, await read_body(request, max_bytes=MAX_BATCH_BYTES))
        if answer.rejected and not answer.accepted:
            response.status_code = 422
        return answer

    return router


def build_router(ingestion: Ingestion, authenticator: Authenticator) -> APIRouter:
    """The routes that take rows."""
    router = APIRouter(prefix="/v1", tags=["Ingestion"])

    @router.post("/ingest/{stream}", status_code=202, responses=_RESPONSES, openapi_extra=_JSON_OR_BINARY_BODY)
    async def ingest(
        stream: str,
        request: Request,
        response: Response,
        entity_id: str | None = Query(None, max_length=1024, description="Binary only: what the payload is about."),
        event_time: str | None = Query(None, max_length=64, description="Binary only: when it was made; default now."),
    ) -> IngestAnswer:
        """Send events to a stream: a JSON object, an array, one object a line, or one raw binary payload."""
        tenant = (await authenticator.authenticate(request, "ingest")).tenant
        content_type = _media_type(request)
        if _is_binary(content_type):
            payload = await read_body(request, max_bytes=MAX_BINARY_BYTES)
            answer = await ingestion.binary(
                stream, tenant, payload, entity_id=entity_id, event_time=event_time, content_type=content_type
            )
        else:
            body = await read_body(request, max_bytes=MAX_BODY_BYTES)
            answer = await ingestion.events(stream, tenant, body, content_type)
        return _with_status(answer, response)

    @router.post("/feedback", status_code=202, responses=_RESPONSES, openapi_extra=_JSON_BODY)
    async def feedback(request: Request, response: Response) -> IngestAnswer:
        """Send labels: rows `{prediction_id, label, labelled_at?, source?}`, in any order, late or corrected."""
        tenant = (await authenticator.authenticate(request, "feedback")).tenant
        body = await read_body(request, max_bytes=MAX_BODY_BYTES)
        return _with_status(await ingestion.feedback(tenant, body, _media_type(request)), response)

    return router


def _with_status(answer: IngestAnswer, response: Response) -> IngestAnswer:
    if answer.rejected and not answer.accepted:
        response.status_code = 422
    return answer


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "application/json").split(";")[0].strip().lower()


def _is_binary(media_type: str) -> bool:
    return media_type == "application/octet-stream" or media_type.startswith(("image/", "audio/", "video/"))
