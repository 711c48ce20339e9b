"""A GraphQL client of the demo: follows predictions as a dashboard would, over graphql-transport-ws."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from core.errors import UnavailableError

logger = logging.getLogger(__name__)

SUBSCRIPTION = """subscription Demo($after: Cursor) {
  predictions(after: $after) { seq cursor total dropped gap { from to } rows { id tenant label } }
}"""
RETRY_SECONDS = 0.5


def query(url: str, key: str, text: str, variables: Mapping[str, object] | None = None) -> Any:  # Any: whatever was asked for
    """Run one query as the tenant of `key`.

    Raises:
        UnavailableError: no answer, or errors instead of data.
    """
    request = urllib.request.Request(  # noqa: S310  # our own address
        f"{url}/graphql",
        json.dumps({"query": text, "variables": variables or {}}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # as above
            body = json.load(answer)
    except OSError as error:
        raise UnavailableError(f"GraphQL does not answer: {error}", where=url) from error
    if body.get("errors"):
        raise UnavailableError(f"GraphQL answers with errors: {body['errors'][0]['message']}", where=url)
    return body["data"]


@dataclass
class Follower:
    """Subscribes to one tenant's predictions and goes on from its cursor whenever the connection is lost.

    Attributes:
        frames: received.
        rows_told: sum of the frames' totals; `rows_dropped` of them were lost to this client, as the server says.
        holes: sequence numbers that are missing without a gap marker.
    """

    url: str
    key: str
    tenant: str
    frames: int = 0
    rows_told: int = 0
    rows_dropped: int = 0
    holes: int = 0
    foreign: int = 0
    errors: list[str] = field(default_factory=list)
    _after: str | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _connection: ClientConnection | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"graphql-{self.tenant}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._connection is not None:
            self._connection.close()
        if self._thread is not None:
            self._thread.join(10)

    def _run(self) -> None:
        address = self.url.replace("http", "ws", 1) + "/graphql"
        while not self._stop.is_set():
            try:
                with connect(address, subprotocols=[Subprotocol("graphql-transport-ws")], open_timeout=10) as connection:
                    self._connection = connection
                    self._follow(connection)
            except (OSError, WebSocketException, TimeoutError) as error:
                if not self._stop.is_set():
                    logger.info("subscription lost", extra={"tenant": self.tenant, "reason": str(error)})
            self._stop.wait(RETRY_SECONDS)

    def _follow(self, connection: ClientConnection) -> None:
        connection.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {self.key}"}}))
        last_seq: int | None = None
        while not self._stop.is_set():
            message = json.loads(connection.recv())
            if message["type"] == "connection_ack":
                payload = {"query": SUBSCRIPTION, "variables": {"after": self._after}}
                connection.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            elif message["type"] == "ping":
                connection.send(json.dumps({"type": "pong"}))
            elif message["type"] == "next" and message["payload"].get("data"):
                last_seq = self._take(message["payload"]["data"]["predictions"], last_seq)
            elif message["type"] in ("error", "complete", "next"):
                self.errors.append(json.dumps(message)[:300])
                return

    def _take(self, frame: Mapping[str, Any], last_seq: int | None) -> int:  # Any: JSON of our own query
        seq = int(frame["seq"])
        if last_seq is not None and seq != last_seq + 1 and frame["gap"] is None:
            self.holes += seq - last_seq - 1
        self.frames += 1
        self.rows_told += frame["total"]
        self.rows_dropped += frame["dropped"]
        self.foreign += sum(row["tenant"] != self.tenant for row in frame["rows"])
        self._after = frame["cursor"]
        return seq
