"""Follows `model_events` in the stream database: each version that comes into a stage is loaded beside those that serve, and
acknowledged. Routes change after that, so the first row of the new version finds it warm.

The database starts after this server and may go away: then nothing is known, and it is looked for again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg

logger = logging.getLogger(__name__)

EVERY_SECONDS = 0.5
_AWAY_SECONDS = 2.0


class ModelWatcher:
    """A thread that follows events until `close`.

    Args:
        database_url: of the stream database.
        server_id: names this server in `model_servers` and `model_acks`.
        url: where others reach it.
        warm: loads a version: `{"ready": bool, "message": text}`; raises when that is not known now.
        every_seconds: between two looks.
    """

    def __init__(
        self,
        database_url: str,
        *,
        server_id: str,
        url: str,
        warm: Callable[[str, int], Mapping[str, Any]],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._database_url, self._server_id, self._url = database_url, server_id, url
        self._warm, self._every_seconds = warm, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="model-watcher")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._database_url, autocommit=True, connect_timeout=5) as connection:
                    self._follow(connection)
            except psycopg.Error as problem:
                logger.debug("stream database is away", extra={"reason": str(problem)})
                self._stop.wait(_AWAY_SECONDS)

    def _follow(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        connection.execute("DELETE FROM model_servers WHERE server_id = %s", (self._server_id,))
        connection.execute(
            "INSERT INTO model_servers (server_id, url, since) VALUES (%s, %s, now())", (self._server_id, self._url)
        )
        # What was decided before this server began is loaded when it is asked for; only what others may wait for matters.
        row = connection.execute("SELECT max(told_at) FROM model_events").fetchone()
        seen = row[0] if row and row[0] is not None else datetime.min.replace(tzinfo=UTC)
        handled = {row[0] for row in connection.execute("SELECT promotion_id FROM model_events WHERE told_at = %s", (seen,))}
        logger.info("model events are followed", extra={"from": str(seen)})
        while not self._stop.wait(self._every_seconds):
            # Events of one epoch have one time, and the last one may still have grown when it was looked at.
            events = connection.execute(
                "SELECT told_at, promotion_id, name, version FROM model_events WHERE told_at >= %s ORDER BY told_at, sequence",
                (seen,),
            ).fetchall()
            for told_at, promotion_id, name, version in events:
                if promotion_id in handled:
                    continue
                if not self._acknowledge(connection, promotion_id, name, version):
                    break  # asked again at the next look
                handled = {promotion_id} if told_at > seen else handled | {promotion_id}
                seen = told_at
        connection.execute("DELETE FROM model_servers WHERE server_id = %s", (self._server_id,))

    def _acknowledge(self, connection: psycopg.Connection[tuple[Any, ...]], promotion_id: str, name: str, version: int) -> bool:
        try:
            answer = self._warm(name, version)
        except Exception as problem:  # noqa: BLE001  the last frame of a loop: nothing is known about the model now
            logger.warning("model not warmed", extra={"model": f"{name}@{version}", "reason": str(problem)})
            return False
        connection.execute(
            "INSERT INTO model_acks (promotion_id, server_id, ready, message) VALUES (%s, %s, %s, %s)",
            (promotion_id, self._server_id, bool(answer["ready"]), answer.get("message")),
        )
        logger.info("model acknowledged", extra={"model": f"{name}@{version}", "ready": answer["ready"]})
        return True
