"""The protocol byte by byte: portals, skipping to Sync, bad messages, clients that vanish, clients that do not read."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from typing import Any

import pytest

from engine.wire import messages as m


class Raw:
    """A client that sends exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.key = b""

    @classmethod
    async def connect(cls, running: Any, *, login: bool = True) -> Raw:
        client = cls(*await asyncio.open_connection("127.0.0.1", running.port))
        if login:
            client.send(startup(user="root", database="dev", options="-c search_path=x --time-zone=UTC"))
            answers = await client.until_ready()
            client.key = next(body for kind, body in answers if kind == "K")
        return client

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def receive(self) -> tuple[str, bytes]:
        async with asyncio.timeout(10):
            head = await self.reader.readexactly(5)
            return chr(head[0]), await self.reader.readexactly(int.from_bytes(head[1:]) - 4)

    async def until_ready(self) -> list[tuple[str, bytes]]:
        found = []
        while not found or found[-1][0] != "Z":
            found.append(await self.receive())
        return found

    async def closed(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()


def startup(**options: str) -> bytes:
    body = struct.pack("!I", m.PROTOCOL_3_0) + b"".join(m.zero_ended(part) for pair in options.items() for part in pair) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def parse(name: str, sql: str, *oids: int) -> bytes:
    return m.message(b"P", m.zero_ended(name), m.zero_ended(sql), struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def bind(
    portal: str, statement: str, *values: bytes | None, formats: tuple[int, ...] = (), results: tuple[int, ...] = ()
) -> bytes:
    parts = [struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values]
    return m.message(
        b"B", m.zero_ended(portal), m.zero_ended(statement), struct.pack(f"!H{len(formats)}h", len(formats), *formats),
        struct.pack("!H", len(values)), *parts, struct.pack(f"!H{len(results)}h", len(results), *results),
    )  # fmt: skip


def execute(portal: str = "", limit: int = 0) -> bytes:
    return m.message(b"E", m.zero_ended(portal), struct.pack("!i", limit))


SYNC = m.message(b"S")


def kinds(answers: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in answers)


def error(answers: list[tuple[str, bytes]]) -> dict[str, str]:
    body = next(body for kind, body in answers if kind == "E")
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


async def test_startup_announces_parameters_and_a_key(running: Any) -> None:
    client = await Raw.connect(running, login=False)
    client.send(startup(user="root", database="dev", options="-c search_path=x --time-zone=UTC"))
    answers = await client.until_ready()
    assert kinds(answers).strip("S") == "RSSSSSSSSKZ".strip("S")
    assert running.factory.options[0] == {"search_path": "x", "time_zone": "UTC"}
    client.close()


async def test_encryption_is_declined_and_the_client_goes_on(running: Any) -> None:
    client = await Raw.connect(running, login=False)
    client.send(struct.pack("!II", 8, m.GSSENC_REQUEST))
    assert await client.reader.readexactly(1) == b"N"
    client.send(struct.pack("!II", 8, m.SSL_REQUEST))
    assert await client.reader.readexactly(1) == b"N"
    client.send(startup(user="root", database="dev"))
    assert kinds(await client.until_ready())[-1] == "Z"
    client.close()


async def test_a_portal_is_read_in_steps(running: Any) -> None:
    client = await Raw.connect(running)
    client.send(m.message(b"Q", m.zero_ended("BEGIN")))
    await client.until_ready()
    client.send(parse("s", "SELECT i FROM range(5) t(i) ORDER BY i"), bind("p", "s"), execute("p", 2), SYNC)
    answers = await client.until_ready()
    assert kinds(answers) == "12DDsZ"
    client.send(execute("p", 2), execute("p", 2), SYNC)
    answers = await client.until_ready()
    assert kinds(answers) == "DDsDCZ"
    assert answers[4] == ("C", b"SELECT 1\0")
    client.send(execute("p", 2), SYNC)
    answers = await client.until_ready()
    assert kinds(answers) == "CZ"
    assert answers[0] == ("C", b"SELECT 0\0")
    client.send(m.message(b"Q", m.zero_ended("COMMIT")))
    await client.until_ready()
    client.send(execute("p"), SYNC)
    assert error(await client.until_ready())["C"] == "34000"
    client.close()


async def test_after_an_error_everything_up_to_sync_is_skipped(running: Any) -> None:
    client = await Raw.connect(running)
    client.send(
        parse("", "SELECT * FROM missing"),
        bind("", ""),
        execute(),
        parse("", "CREATE TABLE skipped (a INT)"),
        bind("", ""),
        execute(),
        SYNC,
    )
    assert kinds(await client.until_ready()) == "EZ"
    client.send(parse("", "SELECT count(*) FROM information_schema.tables"), bind("", ""), execute(), SYNC)
    answers = await client.until_ready()
    assert kinds(answers) == "12DCZ"
    assert answers[2][1].endswith(b"0")
    client.close()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (bind("", "nowhere"), "26000"),
        (execute("nowhere"), "34000"),
        (parse("", "SELECT 1; SELECT 2"), "42601"),
        (parse("", "SELECT $1::int") + bind("", ""), "08P01"),
        (parse("", "SELECT $1::int") + bind("", "", b"abc"), "22P02"),
        (parse("", "SELECT $1::int") + bind("", "", b"99999999999"), "22003"),
        (parse("", "SELECT $1::int") + bind("", "", b"\0\0\1", formats=(1,)), "22P03"),
        (parse("", "SELECT $1::timestamp") + bind("", "", b"yesterday-ish"), "22007"),
        (parse("", "SELECT $1::text") + bind("", "", b"\xff\xfe"), "22021"),
        (parse("", "SELECT $1", 2950) + bind("", "", b"\0" * 16, formats=(1,)), "42704"),
        (parse("twice", "SELECT 1") + parse("twice", "SELECT 1"), "42P05"),
        (parse("", "SELECT [[1]] AS a") + bind("", "", results=(1,)) + execute(), "0A000"),
    ],
)
async def test_a_mistake_has_its_sqlstate_and_the_connection_goes_on(running: Any, message: bytes, code: str) -> None:
    client = await Raw.connect(running)
    client.send(message, SYNC)
    assert error(await client.until_ready())["C"] == code
    client.send(m.message(b"Q", m.zero_ended("SELECT 1")))
    assert kinds(await client.until_ready()) == "TDCZ"
    client.close()


async def test_describe_gives_parameter_and_column_types(running: Any) -> None:
    client = await Raw.connect(running)
    client.send(parse("s", "SELECT $1::int AS a, $2 AS b"), m.message(b"D", b"S", b"s\0"), SYNC)
    answers = await client.until_ready()
    assert kinds(answers) == "1tTZ"
    assert struct.unpack("!HII", answers[1][1]) == (2, 23, 25)
    client.send(m.message(b"D", b"S", b"s\0"), parse("n", "CREATE TABLE d (a INT)"), m.message(b"D", b"S", b"n\0"), SYNC)
    assert kinds(await client.until_ready()) == "tT1tnZ"
    client.send(parse("", ""), bind("", ""), m.message(b"D", b"P", b"\0"), execute(), SYNC)
    assert kinds(await client.until_ready()) == "12nIZ"
    client.close()


async def test_deallocate_frees_a_prepared_statement(running: Any) -> None:
    client = await Raw.connect(running)
    client.send(parse("s", "SELECT 1"), SYNC)
    await client.until_ready()
    client.send(m.message(b"Q", m.zero_ended("DEALLOCATE s")))
    await client.until_ready()
    client.send(bind("", "s"), SYNC)
    assert error(await client.until_ready())["C"] == "26000"
    client.close()


async def test_an_unknown_message_ends_this_connection_only(running: Any) -> None:
    other = await Raw.connect(running)
    client = await Raw.connect(running)
    client.send(m.message(b"~", b"nonsense"))
    assert b"C08P01\0" in await client.closed()
    other.send(m.message(b"Q", m.zero_ended("SELECT 1")))
    assert kinds(await other.until_ready()) == "TDCZ"
    await running.until(lambda: running.server.connections == 1)
    other.close()


async def test_a_length_beyond_reason_ends_the_connection(running: Any) -> None:
    for length in (0, 3, 0xFFFFFFFF):
        client = await Raw.connect(running)
        client.send(b"Q" + struct.pack("!I", length))
        assert b"C08P01\0" in await client.closed()
    client = await Raw.connect(running, login=False)
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"C08P01\0" in await client.closed()


async def test_random_bytes_never_harm_the_server(running: Any) -> None:
    dice = random.Random(20261)
    good = [
        parse("s", "SELECT $1::int"), bind("", "s", b"1"), execute(), SYNC, m.message(b"D", b"S", b"s\0"), m.message(b"C", b"P", b"\0"),
        m.message(b"Q", m.zero_ended("SELECT 1")), m.message(b"H"), m.message(b"d", b"x"),
    ]  # fmt: skip
    for _ in range(150):
        client = await Raw.connect(running, login=dice.random() < 0.8)
        stream = bytearray(b"".join(dice.choices(good, k=dice.randint(1, 6))))
        for _ in range(dice.randint(1, 4)):
            stream[dice.randrange(len(stream))] = dice.randrange(256)
        client.send(bytes(stream[: dice.randint(1, len(stream))]))
        client.writer.write_eof()
        await client.closed()
        client.close()
    await running.until(lambda: running.server.connections == 0)
    client = await Raw.connect(running)
    client.send(m.message(b"Q", m.zero_ended("SELECT 1")))
    assert kinds(await client.until_ready()) == "TDCZ"
    client.close()


async def test_a_client_that_vanishes_during_a_statement_is_cleaned_up(running: Any) -> None:
    client = await Raw.connect(running)
    client.send(m.message(b"Q", m.zero_ended("wait")))
    session = running.factory.sessions[0]
    await running.until(lambda: bool(session.executed))
    client.writer.transport.abort()
    await running.until(lambda: session.closed and running.server.connections == 0)


async def test_cancel_needs_the_right_secret(running: Any) -> None:
    client = await Raw.connect(running)
    client.send(m.message(b"Q", m.zero_ended("wait")))
    session = running.factory.sessions[0]
    await running.until(lambda: bool(session.executed))
    process_id, secret = struct.unpack("!II", client.key)
    for guess, cancelled in ((secret ^ 1, False), (secret, True)):
        other = await Raw.connect(running, login=False)
        other.send(struct.pack("!IIII", 16, m.CANCEL_REQUEST, process_id, guess))
        assert await other.closed() == b""
        other.close()
        assert session.cancelled.is_set() == cancelled
    assert error(await client.until_ready())["C"] == "57014"
    client.close()


async def test_a_client_that_does_not_read_holds_no_more_than_a_little_memory(running: Any) -> None:
    client = await Raw.connect(running)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a selector transport has it
    client.send(m.message(b"Q", m.zero_ended("SELECT repeat('x', 1000) AS a, i FROM range(60000) t(i)")))
    session = running.factory.sessions[0]
    await running.until(lambda: bool(session.executed))
    connection = next(iter(running.server._connections.values()))
    transport = connection._channel._transport
    highest, deadline = 0, time.monotonic() + 1.0
    while time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        highest = max(highest, transport.get_write_buffer_size())
    assert 0 < highest < 6_000_000, "60 MB are waiting, and the server must not hold them encoded"
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    answers = await client.until_ready()
    assert len(answers) == 60003
    client.close()


async def test_other_clients_are_answered_while_a_big_answer_is_under_way(running: Any) -> None:
    big, small = await Raw.connect(running), await Raw.connect(running)
    big.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a selector transport has it
    big.send(m.message(b"Q", m.zero_ended("SELECT i, repeat('x', 1000) AS a FROM range(20000) t(i)")))
    transport = running.server._connections[1]._channel._transport
    await running.until(lambda: transport.get_write_buffer_size() > 0)
    for _ in range(20):
        small.send(m.message(b"Q", m.zero_ended("SELECT 1")))
        assert kinds(await small.until_ready()) == "TDCZ"
    assert transport.get_write_buffer_size() > 0, "the big answer was over before the small ones were asked for"
    big.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await big.until_ready()) == 20003
    big.close()
    small.close()


async def test_stop_tells_the_clients_and_closes_their_sessions(running: Any) -> None:
    idle, busy = await Raw.connect(running), await Raw.connect(running)
    busy.send(m.message(b"Q", m.zero_ended("wait")))
    await running.until(lambda: bool(running.factory.sessions[1].executed))
    await running.server.stop()
    assert b"C57P01\0" in await idle.closed()
    await busy.closed()
    assert all(session.closed for session in running.factory.sessions)


async def test_an_idle_server_uses_no_processor_time(running: Any) -> None:
    clients = [await Raw.connect(running) for _ in range(20)]
    await asyncio.sleep(0.1)
    # Of this thread, in which the server runs: others of the process may be left from other tests.
    before = time.thread_time()
    await asyncio.sleep(1.0)
    assert time.thread_time() - before < 0.02
    for client in clients:
        client.close()
