"""The bounded queue of frames before one client, and what happens when it is full."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum

from api.live.frames import Frame, fold
from core.errors import HeadraceError


class OverflowPolicy(Enum):
    """What to do for a client that reads too slowly."""

    COALESCE = "coalesce"
    """Merge the two oldest frames: sums stay, some sampled rows go."""
    DROP_OLDEST = "drop_oldest"
    """Discard the oldest frame's rows; the next frame carries its sums and a gap marker."""
    DISCONNECT = "disconnect"
    """End the subscription with an error; the client may resume by its last cursor."""


class SlowConsumerError(HeadraceError):
    """The client's queue was full and its policy is to be disconnected."""

    retryable = True


class ClosedError(HeadraceError):
    """The server ends the subscription, e.g. because it shuts down."""

    retryable = True


class Mailbox:
    """Takes frames without ever waiting, hands them to one reader.

    Memory is bounded by `capacity` frames, whose rows are shared with all other mailboxes of the channel.
    """

    def __init__(self, capacity: int, policy: OverflowPolicy) -> None:
        self._capacity = capacity
        self._policy = policy
        self._frames: deque[Frame] = deque()
        self._wake = asyncio.Event()
        self._failure: HeadraceError | None = None

    def offer(self, frame: Frame) -> None:
        """Put a frame in; a full queue is relieved as the policy says."""
        if self._failure is not None:
            return
        if len(self._frames) < self._capacity:
            self._frames.append(frame)
        elif self._policy is OverflowPolicy.DISCONNECT:
            self.fail(
                SlowConsumerError(
                    f"the client did not read {self._capacity} frames in time",
                    fix="Subscribe again with `after` set to the last cursor, or with another overflow policy.",
                )
            )
        else:
            self._frames.append(frame)
            oldest, second = self._frames.popleft(), self._frames.popleft()
            self._frames.appendleft(fold(oldest, second, keep_rows=self._policy is OverflowPolicy.COALESCE))
        self._wake.set()

    def fail(self, error: HeadraceError) -> None:
        """End the reader with an error; what is queued is given up."""
        self._failure = error
        self._frames.clear()
        self._wake.set()

    async def next(self) -> Frame:
        """The oldest frame; waits for one.

        Raises:
            SlowConsumerError, ClosedError: there will be no more.
        """
        while not self._frames:
            if self._failure is not None:
                raise self._failure
            self._wake.clear()
            await self._wake.wait()
        return self._frames.popleft()

    def __len__(self) -> int:
        return len(self._frames)
