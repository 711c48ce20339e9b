"""Errors that say what was wrong, where, and what to do.

One base class; a subclass exists when somebody catches it. `retryable` is the one thing that a supervisor must know:
whether the same call can succeed later without anybody changing anything.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Something went wrong that a person can understand and mend.

    Args:
        what: what was wrong, the offending value in backticks, without a final period.
        where: the place, e.g. `pipelines/plant/01_source.sql:14:9`, or None.
        fix: what to do, as a sentence, or None.
    """

    retryable: bool = False

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f" (at {self.where})"
        if self.fix:
            text += f". {self.fix}"
        return text


class ConfigError(HeadraceError):
    """A setting is unknown, malformed or contradicts another."""


class InvalidInputError(HeadraceError):
    """The caller's data or arguments are wrong; the same call will fail again."""


class NotFoundError(HeadraceError):
    """The named thing does not exist."""


class ConflictError(HeadraceError):
    """The thing exists already, or somebody else changed it first."""


class UnavailableError(HeadraceError):
    """Something we depend on does not answer now; the same call may succeed later."""

    retryable = True


class CorruptDataError(HeadraceError):
    """Stored bytes are not what we wrote; never served, never guessed at."""
