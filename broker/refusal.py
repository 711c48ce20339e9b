"""A request that is answered with a Kafka error code instead of a result."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from core.errors import HeadraceError


class Refusal(HeadraceError):
    """The broker says no; `code` travels to the client, the text to clients that can carry one."""

    def __init__(self, code: ErrorCode, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what, where=where, fix=fix)
        self.code = code
        self.retryable = code.retriable
