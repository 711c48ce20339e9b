"""Calls of users' functions from an epoch: clients kept by address, and rows that a function cannot take split off.

A server that does not answer is an UnavailableError: the epoch is rolled back and tried again. A function that raises is
called with halves of the batch until the rows at fault are alone; those get NULL and a line in the log, and their neighbours
their answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyarrow as pa

from engine.connectors.arrow_types import physical_type
from engine.connectors.udf_client import UdfClient, UdfFailed
from engine.sql.types import SqlType

logger = logging.getLogger(__name__)


class UdfCaller:
    """Holds one client a server."""

    def __init__(self) -> None:
        self._clients: dict[str, UdfClient] = {}
        self.failed_rows = 0

    def client(self, link: str) -> UdfClient:
        if link not in self._clients:
            self._clients[link] = UdfClient(link)
        return self._clients[link]

    def call(
        self, link: str, function: str, arguments: pa.Table, types: Sequence[SqlType], returns: SqlType
    ) -> pa.ChunkedArray:
        """Evaluate `function` on every row of `arguments`."""
        batches = arguments.combine_chunks().to_batches()
        if not batches:
            return pa.chunked_array([], physical_type(returns))
        chunks = [chunk for batch in batches for chunk in self._call(link, function, batch, types, returns)]
        return pa.chunked_array(chunks, type=chunks[0].type)

    def _call(
        self, link: str, function: str, batch: pa.RecordBatch, types: Sequence[SqlType], returns: SqlType
    ) -> list[pa.Array]:
        try:
            return [self.client(link).call(function, batch, types, returns)]
        except UdfFailed as error:
            if batch.num_rows == 1:
                self.failed_rows += 1
                logger.warning("function failed on a row", extra={"function": function, "error": str(error)})
                return [pa.nulls(1, physical_type(returns))]
            half = batch.num_rows // 2
            first = self._call(link, function, batch.slice(0, half), types, returns)
            return first + self._call(link, function, batch.slice(half), types, returns)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
