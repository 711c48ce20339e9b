"""The REST door, used as a camera would use it: one raw payload a request."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from datetime import UTC
from urllib.parse import urlencode, urlsplit

from headrace.demo.records import Record

TIMEOUT_SECONDS = 30.0


class Door:
    """Uploads payloads over one kept-alive connection. For one thread.

    Args:
        url: of the API.
        keys: the API key of each tenant.
    """

    def __init__(self, url: str, keys: Mapping[str, str]) -> None:
        self._address = urlsplit(url)
        self._keys = keys
        self._connection: http.client.HTTPConnection | None = None

    def upload(self, stream: str, record: Record) -> str | None:
        """Send one payload; None when it is durable in the log, else what the API said.

        Nothing is sent twice: after a connection was lost nobody knows whether the payload arrived.
        """
        assert record.uploaded_at is not None
        moment = record.uploaded_at.astimezone(UTC).isoformat()
        path = f"/v1/ingest/{stream}?{urlencode({'entity_id': record.entity_id, 'event_time': moment})}"
        headers = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {self._keys[record.tenant]}"}
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._address.hostname or "", self._address.port, timeout=TIMEOUT_SECONDS
            )
        try:
            self._connection.request("POST", path, record.value, headers)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._connection = None
            return f"connection lost: {error}"
        return None if answer.status == http.HTTPStatus.ACCEPTED else f"{answer.status} {body[:300].decode(errors='replace')}"
