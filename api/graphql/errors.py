"""How failures look in a GraphQL answer: ours in full, surprises by a trace id only, never a stack."""

from __future__ import annotations

import logging

from graphql import GraphQLError
from strawberry.extensions import MaskErrors

from api.http.problems import TooManyRequestsError, status_of, trace_id
from core.errors import HeadraceError

logger = logging.getLogger(__name__)


class TellErrors(MaskErrors):
    """Replaces the error of a resolver by what the caller may know of it.

    Errors of the request itself (syntax, unknown fields, limits) have no cause of ours and stay as they are.
    """

    def __init__(self) -> None:
        super().__init__(should_mask_error=lambda error: error.original_error is not None)

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        cause = error.original_error
        if isinstance(cause, GraphQLError):  # e.g. a malformed variable
            return error
        if isinstance(cause, HeadraceError) and status_of(cause)[0] != 500:
            message = f"{cause.what} (at {cause.where})" if cause.where else cause.what
            extensions: dict[str, object] = {"code": status_of(cause)[1], "fix": cause.fix, "retryable": cause.retryable}
            if isinstance(cause, TooManyRequestsError):
                extensions["retryAfterSeconds"] = cause.retry_after_seconds
        else:
            logger.error("resolver failed", exc_info=cause)
            message = "an unexpected error; the server's log has the details"
            extensions = {"code": "internal", "retryable": False}
        extensions["traceId"] = trace_id()
        return GraphQLError(
            message,
            nodes=error.nodes,
            source=error.source,
            positions=error.positions,
            path=error.path,
            extensions={name: value for name, value in extensions.items() if value is not None},
        )
