"""Delivery: sends a sink's outbox, epoch by epoch, on a thread of its own.

Rows are in the outbox from the commit of their epoch until their delivery is known; they are deleted by a later epoch. After
a crash the sink itself tells the last epoch that it has, so nothing is sent twice and nothing is left out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import duckdb
import pyarrow as pa

from core.errors import ConflictError, HeadraceError
from engine.catalog.objects import Sink
from engine.connectors.base import SinkWriter
from engine.connectors.operations import EPOCH, OPERATION

logger = logging.getLogger(__name__)


def nowhere(_step: str) -> None:
    """The failpoint of every day: nothing happens."""


_BATCH_ROWS = 200_000  # a delivery is held in memory; more epochs than this go in several deliveries
_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
# A lake commit writes files; one a second keeps their number low (RisingWave's checkpoint interval is a second, too), and
# `commit_checkpoint_interval` counts checkpoints as there.
_PACE_SECONDS = {"iceberg": 1.0}


class Delivery:
    """One sink's deliverer.

    Args:
        sink: of the catalog.
        names: the visible columns' names.
        writer: not opened yet.
        connect: gives a connection to the store for this thread.
        failpoint: see `Engine`.
    """

    def __init__(
        self,
        sink: Sink,
        names: list[str],
        writer: SinkWriter,
        connect: Callable[[], duckdb.DuckDBPyConnection],
        failpoint: Callable[[str], None] = nowhere,
    ) -> None:
        self._failpoint = failpoint
        self.sink = sink
        self._names = names
        self._writer = writer
        self._connect = connect
        self._wake = threading.Event()
        self._stop = threading.Event()
        self.delivered = 0
        self.purged = self.purging = 0
        self.problem: str | None = None
        self._pace = _PACE_SECONDS.get(sink.options.get("connector", ""), 0.0)
        if self._pace:
            self._pace *= int(sink.options.get("commit_checkpoint_interval", "1"))
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """An epoch was committed."""
        self._wake.set()

    def stop(self, timeout_seconds: float) -> None:
        """Deliver what is committed if that is quick, then end."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        failures = 0
        opened = False
        connection = self._connect()
        while True:
            try:
                if not opened:
                    self.delivered = self._writer.open()
                    opened = True
                while self._deliver_some(connection):
                    failures, self.problem = 0, None
                    if self._pace and self._stop.wait(self._pace):
                        break
                failures, self.problem = 0, None
            except ConflictError as error:
                # Another engine delivers for this sink now; taking it back would start a quarrel.
                self._complain(error, 0)
                break
            except HeadraceError as error:
                self._complain(error, failures)
                failures, opened = failures + 1, False
            except Exception as error:  # noqa: BLE001  last frame of a worker loop: log, count, go on
                self._complain(error, failures)
                failures, opened = failures + 1, False
            if self._stop.is_set():
                break
            if failures:
                self._stop.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])
            else:
                self._wake.wait()
                self._wake.clear()
        self._writer.close()
        connection.close()

    def _deliver_some(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Deliver the next epochs; False if there were none."""
        outbox = self.sink.outbox
        ((cut,),) = connection.execute(
            f"SELECT coalesce(max(epoch) FILTER (WHERE total <= {_BATCH_ROWS}), min(epoch)) FROM (SELECT epoch,"
            f" sum(count(*)) OVER (ORDER BY epoch) AS total FROM {outbox} WHERE epoch > {self.delivered} GROUP BY epoch) AS e"
        ).fetchall()
        if cut is None:
            return False
        epoch = int(cut)
        columns = "".join(f", c{i}" for i in range(len(self._names)))
        rows: pa.Table = connection.sql(
            f"SELECT op, epoch{columns} FROM {outbox} WHERE epoch > {self.delivered} AND epoch <= {epoch} ORDER BY epoch, seq"
        ).to_arrow_table()
        named = pa.table(
            [rows.column(i + 2) for i in range(len(self._names))] + [rows.column(0).cast(pa.int8()), rows.column(1)],
            names=[*self._names, OPERATION, EPOCH],
        )
        self._failpoint("sink: before delivery")
        self._writer.deliver(epoch, named)
        self._failpoint("sink: after delivery")
        self.delivered = epoch
        return True

    def _complain(self, error: Exception, failures: int) -> None:
        self.problem = str(error)
        level = logging.WARNING if isinstance(error, HeadraceError) else logging.ERROR
        if failures < 3 or failures % 20 == 0:
            logger.log(
                level,
                "sink cannot deliver, rows wait in the outbox",
                extra={"sink": self.sink.name, "error": str(error), "failures": failures},
            )
