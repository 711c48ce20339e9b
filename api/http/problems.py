"""Failures as `application/problem+json` (RFC 9457): what was wrong, what to do, a code; never a stack."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from opentelemetry import trace
from starlette.exceptions import HTTPException

from core.errors import ConflictError, HeadraceError, InvalidInputError, NotFoundError, UnavailableError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class UnauthenticatedError(HeadraceError):
    """Nobody we know: no credentials where they are required, or wrong ones."""


class ForbiddenError(HeadraceError):
    """We know who it is, and that they may not."""


class TooLargeError(HeadraceError):
    """The body is larger than we take."""


class TooManyRequestsError(HeadraceError):
    """The tenant calls more often than it may.

    Attributes:
        retry_after_seconds: when the next call may come.
    """

    retryable = True

    def __init__(self, what: str, *, retry_after_seconds: int) -> None:
        super().__init__(what, fix=f"Call again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


class ModelRefusedError(InvalidInputError):
    """What a caller named is no model that we serve."""


class NoActiveModelError(UnavailableError):
    """Nothing serves the endpoint yet; as soon as something does, the same call succeeds."""


# Looked up along the class's ancestors, so the nearest one counts.
STATUS_OF: Mapping[type[HeadraceError], tuple[int, str]] = {
    UnauthenticatedError: (401, "unauthenticated"),
    ForbiddenError: (403, "forbidden"),
    NotFoundError: (404, "not_found"),
    ConflictError: (409, "conflict"),
    TooLargeError: (413, "too_large"),
    TooManyRequestsError: (429, "too_many_requests"),
    ModelRefusedError: (422, "model_refused"),
    InvalidInputError: (400, "invalid_input"),
    NoActiveModelError: (503, "no_active_model"),
    UnavailableError: (503, "unavailable"),
    HeadraceError: (500, "internal"),
}

RETRY_AFTER_SECONDS = "1"


def status_of(error: HeadraceError) -> tuple[int, str]:
    """The HTTP status and the code of an error."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def trace_id() -> str | None:
    """The current trace, as hexadecimal digits, if there is one."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def problem(
    status: int, code: str, detail: str, *, fix: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Build the answer that tells a failure."""
    body = {"status": status, "code": code, "detail": detail, "fix": fix, "trace_id": trace_id()}
    present = {name: value for name, value in body.items() if value is not None}
    return JSONResponse(present, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def problem_of(error: HeadraceError) -> JSONResponse:
    """Tell one of our own errors."""
    status, code = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else retry_after(error)
    detail = f"{error.what} (at {error.where})" if error.where else error.what
    return problem(status, code, detail, fix=error.fix, headers=headers)


def retry_after(error: HeadraceError) -> dict[str, str]:
    """The header that says when to call again, of an error that passes."""
    if isinstance(error, TooManyRequestsError):
        return {"Retry-After": str(error.retry_after_seconds)}
    return {"Retry-After": RETRY_AFTER_SECONDS} if status_of(error)[0] == 503 else {}


def install(app: FastAPI) -> None:
    """Make `app` answer every failure as a problem."""

    @app.exception_handler(HeadraceError)
    async def _ours(_: Request, error: HeadraceError) -> JSONResponse:
        if status_of(error)[0] == 500:
            logger.error("request failed", exc_info=error)
        return problem_of(error)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, "http", str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(422, "invalid_parameter", f"`{where}`: {first['msg']}")

    @app.exception_handler(Exception)
    async def _surprise(_: Request, error: Exception) -> JSONResponse:
        logger.error("request failed unexpectedly", exc_info=error)
        return problem(500, "internal", "an unexpected error; the server's log has the details")
