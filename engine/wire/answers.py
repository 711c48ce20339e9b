"""Sends what a statement gave back: row descriptions, rows, tags, notices, changed parameters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pyarrow as pa

from engine.session import Field, Result
from engine.wire import messages
from engine.wire.channel import Channel
from engine.wire.oids import column_oid, column_size
from engine.wire.reports import notice_fields
from engine.wire.rows import chunks, encode_rows

_INLINE_ROWS = 512
"""Results up to this size are encoded on the event loop; a thread would cost more than it spares the others."""


class Answers:
    """The answering half of one connection.

    Attributes:
        status: what ReadyForQuery says: `I`, `T` or `E`.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.status = "I"

    def describe(self, fields: Sequence[Field] | None, formats: Sequence[int]) -> None:
        """RowDescription, or NoData for a statement without rows."""
        if fields is None:
            self._channel.write(messages.NO_DATA)
            return
        columns = [
            (field.name, column_oid(field.type), column_size(field.type), format_)
            for field, format_ in zip(fields, formats, strict=True)
        ]
        self._channel.write(messages.row_description(columns))

    async def rows(self, fields: Sequence[Field], formats: Sequence[int], table: pa.Table) -> None:
        """DataRow messages, no faster than the client takes them."""
        for part in chunks(table):
            if part.num_rows <= _INLINE_ROWS:
                data = encode_rows(fields, formats, part)
            else:
                data = await asyncio.to_thread(encode_rows, fields, formats, part)
            self._channel.write(data)
            if part.num_rows < table.num_rows:
                await self._channel.drain()

    def began(self, result: Result) -> None:
        """What belongs before the rows: notices."""
        for text in result.notices:
            self._channel.write(messages.notice_response(notice_fields(text)))

    def completed(self, result: Result, tag: str | None = None) -> None:
        """The end of one statement."""
        self._channel.write(messages.command_complete(result.tag if tag is None else tag))
        for name, value in result.parameters.items():
            self._channel.write(messages.parameter_status(name, value))
        self.status = result.transaction_status

    def failed(self, fields: dict[str, str]) -> None:
        """An error: inside a transaction block it leaves a failed one."""
        self._channel.write(messages.error_response(fields))
        if self.status == "T":
            self.status = "E"

    async def ready(self) -> None:
        self._channel.write(messages.ready_for_query(self.status))
        self._channel.flush()
        await self._channel.drain()
