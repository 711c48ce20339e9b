"""Tells others of a decision by HTTP, signed as the Standard Webhooks specification has it, at least once.

    webhook-id         the decision's id: the same one on every attempt, so that a receiver can drop what it has
    webhook-timestamp  seconds since 1970, of this attempt
    webhook-signature  v1,BASE64(HMAC-SHA256(secret, id.timestamp.body))

What is not delivered stays in the outbox (a decision without a row in `registry.deliveries`), also over a restart.

Source: https://www.standardwebhooks.com, "Symmetric".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from core.clock import Clock
from core.errors import ConfigError, UnavailableError

ATTEMPTS = 4
"""At once; what is still not delivered then waits for the next round of the outbox."""
_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 2.0


class Webhooks:
    """Posts events to URLs.

    Args:
        urls: who is told.
        secret: signs; needed where there are URLs.
        clock: stamps each attempt.
        attempts: for one delivery.

    Raises:
        ConfigError: a URL is none, or there is no secret.
    """

    def __init__(self, urls: Sequence[str], secret: str | None, clock: Clock, *, attempts: int = ATTEMPTS) -> None:
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise ConfigError(
                    f"`{url}` is no address of a webhook", where="registry.webhooks", fix="Write https://HOST/PATH."
                )
        if urls and not secret:
            raise ConfigError(
                "webhooks have no secret", where="registry.webhook_secret", fix="Set it: receivers check the signature."
            )
        self.urls = tuple(urls)
        self._secret, self._clock, self._attempts = (secret or "").encode(), clock, attempts
        self._opener = urllib.request.build_opener(_NoRedirect())

    def post(self, url: str, event_id: str, event: Mapping[str, Any]) -> int:
        """Deliver an event, and return the status.

        Raises:
            UnavailableError: nobody took it, after some attempts.
        """
        body = json.dumps(event, sort_keys=True, separators=(",", ":"), default=str).encode()
        retrying = Retrying(
            retry=retry_if_exception_type(UnavailableError),
            stop=stop_after_attempt(self._attempts),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_WAIT_SECONDS),
            reraise=True,
        )
        return retrying(self._post_once, url, event_id, body)

    def _post_once(self, url: str, event_id: str, body: bytes) -> int:
        timestamp = str(int(self._clock.now().timestamp()))
        request = urllib.request.Request(  # noqa: S310  the scheme was checked when it was configured
            url,
            data=body,
            method="POST",
            headers={
                "content-type": "application/json",
                "user-agent": "headrace",
                "webhook-id": event_id,
                "webhook-timestamp": timestamp,
                "webhook-signature": sign(self._secret, event_id, timestamp, body),
            },
        )
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                status: int = answer.status
        except urllib.error.HTTPError as error:
            raise UnavailableError(f"the webhook answers {error.code}", where=_place(url)) from error
        except (OSError, ValueError) as error:
            raise UnavailableError(f"the webhook does not answer: {error}", where=_place(url)) from error
        return status


def sign(secret: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    """The value of `webhook-signature`."""
    digest = hmac.new(secret, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A signed event goes where the operator said, not where an answer points."""

    def redirect_request(self, *_: Any) -> None:  # Any: urllib's own
        return None


def _place(url: str) -> str:
    """The address without query and credentials: these may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
