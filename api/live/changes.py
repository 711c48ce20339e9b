"""What a view's changes look like, and where they come from."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from core.errors import InvalidInputError

INSERTIONS = frozenset({"Insert", "UpdateInsert"})
"""Operations that bring a row; `Delete` and `UpdateDelete` take one back. RisingWave's names."""

Row = Mapping[str, Any]  # Any: whatever type the column has


class Change(NamedTuple):
    """One change of a view: the row, what happened to it, and when the stream database committed it."""

    row: Row
    op: str
    committed_at_ms: int


class Position(NamedTuple):
    """A place in a view's changes: the commit, and how many of its changes lie before or at the place.

    Changes of one commit come in the order of the primary key, so a position means the same in every process.
    """

    committed_at_ms: int
    ordinal: int

    def encode(self) -> str:
        """As the opaque cursor that clients keep."""
        return base64.urlsafe_b64encode(f"c1:{self.committed_at_ms}:{self.ordinal}".encode()).decode()

    @staticmethod
    def parse(cursor: str) -> Position:
        """Read what `encode` wrote.

        Raises:
            InvalidInputError: it is something else.
        """
        try:
            version, committed_at, ordinal = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").split(":")
            if version == "c1":
                return Position(int(committed_at), int(ordinal))
        except (ValueError, binascii.Error):
            pass
        raise InvalidInputError("that is no cursor of a subscription", fix="Use the `cursor` of a frame that you received.")


class ChangeFeed(Protocol):
    """Follows the changes of one view. Adapters: `SubscriptionCursorFeed`, and in tests a scripted one."""

    def follow(self, since_ms: int | None) -> AsyncGenerator[Sequence[Change], None]:
        """Yield batches of changes in commit order, as long as it goes; an empty batch is a sign of life.

        Args:
            since_ms: begin with the first commit at or after it; None means now.

        Raises:
            UnavailableError: the stream database is away; the caller may follow again later.
            StatementError: it refuses, e.g. because there is no such subscription yet.
        """
        ...
