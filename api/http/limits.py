"""How often a tenant may do something: an exact moving window for each kind of call, by the library `limits`.

The windows are of this process: with several API processes a tenant may do that many times as much. A call that is refused
counts for nothing, and the answer says when the next one may come. The library has a clock of its own, the machine's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from api.http.problems import TooManyRequestsError
from core.errors import ConfigError
from core.ids import TenantId


class RateLimits:
    """Counts calls.

    Args:
        limits: kind of call to what is allowed, e.g. `100/second; 1000/minute`; kinds that are missing are not limited.

    Raises:
        ConfigError: a limit cannot be read.
    """

    def __init__(self, limits: Mapping[str, str | None]) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._items: dict[str, list[RateLimitItem]] = {}
        for kind, text in limits.items():
            if text is None:
                continue
            try:
                self._items[kind] = parse_many(text)
            except ValueError as problem:
                raise ConfigError(
                    f"limit `{text}` cannot be read", where=f"limits.{kind}", fix="Write e.g. `100/second; 1000/minute`."
                ) from problem

    def take(self, kind: str, tenant: TenantId) -> None:
        """Count a call.

        Raises:
            TooManyRequestsError: the tenant made as many as it may.
        """
        items = self._items.get(kind, ())
        for item in items:
            if not self._limiter.test(item, kind, tenant):
                wait = self._limiter.get_window_stats(item, kind, tenant).reset_time - time.time()
                raise TooManyRequestsError(
                    f"tenant `{tenant}` may make {item.amount} calls of kind `{kind}` in {item.get_expiry()} s",
                    retry_after_seconds=max(1, math.ceil(wait)),
                )
        for item in items:
            self._limiter.hit(item, kind, tenant)
