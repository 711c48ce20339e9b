"""`POST /predict`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.http.body import read_body
from api.identity.authenticator import Authenticator
from api.inference.service import Inference

PATH = "/predict"
MAX_BODY_BYTES = 16 * 1024 * 1024


class RowProblem(BaseModel):
    """Why a row has no prediction."""

    row: int = Field(description="Index of the row in the request, from 0.")
    code: str = Field(description="For programs, e.g. `wrong_length`, `non_finite_feature`, `null_feature`, `wrong_type`.")
    message: str = Field(description="For people.")


class PredictAnswer(BaseModel):
    """The predictions of a request, row by row; each is durable in topic `predictions.online` under its id."""

    model_config = ConfigDict(protected_namespaces=())

    predictions: list[str | None] = Field(description="The most probable class; null where the row has an error.")
    probabilities: list[float | None] = Field(
        description="The probability of the positive class where the models have one, else of the predicted class."
    )
    model_name: str | None = Field(description="The model, where one serves the endpoint; an ensemble's are in `members`.")
    model_version: str | None
    prediction_ids: list[str] = Field(description="Send labels back to `/v1/feedback` under these.")
    latency_ms: float = Field(description="In the server, from the request to the acknowledged record.")
    endpoint: str
    members: list[list[dict[str, Any]] | None] = Field(  # Any: as `udfs.combine` writes them
        description="Who answered each row: model, version, role, effective weight, own label and value, or its error."
    )
    errors: list[RowProblem] = Field(description="The rows without a prediction; all others are as they would be without them.")
    lineage: dict[str, Any] = Field(  # Any: see `api.inference.lineage`
        description="The epoch of the route, and what was sealed with each model: hashes of artifact, signature and code, training data."
    )


_RESPONSES: dict[int | str, dict[str, Any]] = {  # Any: OpenAPI
    200: {"model": PredictAnswer, "description": "At least one row has a prediction; `errors` names those without."},
    400: {"description": "The body is no request."},
    401: {"description": "No credentials, or unknown ones."},
    413: {"description": "Too many bytes or rows."},
    422: {"model": PredictAnswer, "description": "No row could be used; `errors` says why, row by row."},
    503: {"description": "`no_active_model`: nothing serves the endpoint yet; `unavailable`: try again in a moment."},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["features"],
                    "properties": {
                        "features": {
                            "type": "array",
                            "items": {"type": "array", "items": {"type": "number"}},
                            "description": "Rows of numbers, at most 10,000.",
                        },
                        "endpoint": {"type": "string", "default": "default"},
                        "keys": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "What each row is about: sticky choices and the entity of the prediction.",
                        },
                        "experiment_id": {"type": "string", "description": "Let the variants of an experiment answer."},
                    },
                },
                "example": {"features": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]},
            }
        },
    }
}


def build_router(inference: Inference, authenticator: Authenticator) -> APIRouter:
    """The route that predicts."""
    router = APIRouter(tags=["Prediction"])

    @router.post(PATH, responses=_RESPONSES, openapi_extra=_BODY, response_class=Response)
    async def predict(request: Request) -> Response:
        """Predict rows with the models that serve an endpoint now."""
        return await answer_predict(inference, authenticator, request)

    return router


async def answer_predict(inference: Inference, authenticator: Authenticator, request: Request) -> Response:
    """Answer a request; what is wrong with it is raised."""
    tenant = (await authenticator.authenticate(request, "predict")).tenant
    body = await read_body(request, max_bytes=MAX_BODY_BYTES)
    answer = await inference.predict(tenant, body)
    return Response(answer.body, answer.status, media_type="application/json")
