"""The copy mode of the protocol, both ways, for the simple and the extended query.

Source: PostgreSQL documentation, section 55.2.6 "COPY Operations".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pyarrow as pa

from engine.session import Prepared, Result, Session
from engine.sql.errors import SqlError
from engine.sql.statements import Copy
from engine.wire import messages
from engine.wire.channel import Channel
from engine.wire.copy_format import copy_format
from engine.wire.copy_in import CopyReader
from engine.wire.copy_out import BINARY_END, copy_header, copy_rows, with_signature
from engine.wire.messages import ProtocolViolation, Reader
from engine.wire.rows import chunks


async def receive_copy(channel: Channel, session: Session, prepared: Prepared) -> Result:
    """COPY ... FROM STDIN: ask for the data and hand it to the session as it comes."""
    assert isinstance(prepared.statement, Copy)
    assert prepared.copy_fields is not None
    format_ = copy_format(prepared.statement.options)
    channel.write(messages.copy_response(b"G", format_.code, len(prepared.copy_fields)))
    channel.flush()
    return await session.copy_in(prepared, _batches(channel, CopyReader(prepared.copy_fields, format_)))


async def send_copy(channel: Channel, statement: Copy, result: Result) -> None:
    """COPY ... TO STDOUT: the rows of the result as copy data."""
    assert result.fields is not None
    format_ = copy_format(statement.options)
    channel.write(messages.copy_response(b"H", format_.code, len(result.fields)))
    channel.write(copy_header(result.fields, format_))
    signed = format_.kind != "binary"
    for part in chunks(result.rows) if result.rows is not None else ():
        data: bytes | memoryview = await asyncio.to_thread(copy_rows, result.fields, format_, part)
        channel.write(data if signed else with_signature(data))
        signed = True
        await channel.drain()
    if format_.kind == "binary":
        channel.write(BINARY_END if signed else with_signature(BINARY_END))
    channel.write(messages.COPY_DONE)


async def _batches(channel: Channel, reader: CopyReader) -> AsyncIterator[pa.Table]:
    while True:
        kind, body = await channel.read_message()
        if kind in (b"d", b"c"):
            last = kind == b"c"
            if reader.feed(b"" if last else body) or last:
                table = await asyncio.to_thread(reader.take, last=last)
                if table is not None:
                    yield table
            if last:
                return
        elif kind == b"f":
            reason = Reader(body).text()
            raise SqlError(f"COPY from stdin failed: {reason}", sqlstate="57014")
        elif kind not in (b"H", b"S"):
            # Flush and Sync are to be ignored here; anything else means that the client and we are out of step.
            raise ProtocolViolation(f"unexpected message type {kind[0]} during COPY from stdin")
