"""Malformed messages, byte by byte: each closes its own connection at most, while another one goes on working."""

from __future__ import annotations

import asyncio
import random
import re
import resource
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine
from engine.wire.auth import Authenticator, Scram
from engine.wire.scram import ScramSecret
from engine.wire.server import WireServer

_TYPES = (16, 17, 20, 21, 23, 25, 700, 701, 1043, 1082, 1083, 1114, 1184, 1186, 1700, 3802, 1007, 1009, 1231, 0, 999_999)
_MOST_GROWTH_KB = 150_000
_PATIENCE_SECONDS = 0.5


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _startup(**options: str) -> bytes:
    body = struct.pack("!I", 196608) + b"".join(_text(name) + _text(value) for name, value in options.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


_HELLO = _startup(user="root", database="dev")
_SYNC = _message(b"S", b"")


class Garbage:
    """Bytes that no well-behaved client sends.

    Args:
        seed: the same seed gives the same bytes.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def session(self) -> bytes:
        """All that one client sends."""
        makers: tuple[Callable[[], bytes], ...] = (
            self._before_startup, self._startup_packet, self._messages, self._messages, self._mangled, self._bind, self._bind, self._bind, self._copy, self._copy,
        )  # fmt: skip
        return self._random.choice(makers)()

    def _bytes(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randint(0, most))

    def _before_startup(self) -> bytes:
        ssl, gss, cancel = (struct.pack("!II", 8, code) for code in (80877103, 80877104, 80877102))
        choices = (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01" + self._bytes(200), ssl + ssl + ssl + ssl, ssl + b"Q" + self._bytes(50),
            gss + gss + _HELLO, ssl + _HELLO, cancel, struct.pack("!IIII", 16, 80877102, self._random.getrandbits(31), self._random.getrandbits(32)),
            struct.pack("!III", 12, 80877102, 1), self._bytes(400), struct.pack("!I", 0), struct.pack("!I", 0x7FFFFFFF) + b"x" * 100, b"\0" * 50, b"",
        )  # fmt: skip
        return self._random.choice(choices)

    def _startup_packet(self) -> bytes:
        version = self._random.choice((196608, 196609, 131072, 0, 0xFFFFFFFF, self._random.getrandbits(32)))
        pairs = self._random.choice(
            (b"", _text("user"), _text("user") + _text("root"), b"user\0root", self._bytes(60), _text("user") + b"\xff\xfe\0")
        )
        end = self._random.choice((b"\0", b"", b"\0\0", b"x"))
        body = struct.pack("!I", version) + pairs + end
        return struct.pack("!I", max(0, len(body) + 4 + self._random.choice((0, 0, 0, -3, 5, 4000)))) + body

    def _messages(self) -> bytes:
        sent = _HELLO
        for _ in range(self._random.randint(1, 6)):
            kind = self._random.choice((*(bytes([c]) for c in b"QPBDECHSXdcfpF"), self._random.randbytes(1)))
            body = self._random.choice(
                (b"", b"\0", self._bytes(80), _text("SELECT 1"), _text("SELECT 1") + b"x", _text("s") + self._bytes(10))
            )
            sent += (
                kind
                + struct.pack("!I", (len(body) + 4 + self._random.choice((0, 0, 0, 0, -5, 1, 2**31, 2**29))) & 0xFFFFFFFF)
                + body
            )
        return sent

    def _mangled(self) -> bytes:
        """A right conversation in which some bytes are others."""
        right = bytearray(
            _HELLO
            + _message(b"Q", _text("SELECT 1, 'a'"))
            + self._statement("SELECT $1::int + 1", (23,))
            + self._bound((b"\0\0\0\1",), (1,))
            + _SYNC
        )
        for _ in range(self._random.randint(1, 4)):
            right[self._random.randrange(len(right))] = self._random.randrange(256)
        return bytes(right[: self._random.choice((len(right), self._random.randrange(len(right))))])

    def _statement(self, sql: str, types: tuple[int, ...]) -> bytes:
        oids = struct.pack(f"!H{len(types)}I", len(types), *types)
        return _message(b"P", _text("") + _text(sql) + oids)

    def _bound(
        self,
        values: tuple[bytes | None, ...],
        formats: tuple[int, ...],
        count: int | None = None,
        results: tuple[int, ...] = (),
    ) -> bytes:
        body = _text("") + _text("") + struct.pack(f"!H{len(formats)}h", len(formats), *formats)
        body += struct.pack("!H", len(values) if count is None else count)
        body += b"".join(struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in values)
        body += struct.pack(f"!H{len(results)}h", len(results), *results)
        return _message(b"B", body) + _message(b"E", _text("") + struct.pack("!i", self._random.choice((0, 1, -1, 2**31 - 1))))

    def _bind(self) -> bytes:
        """Counts, format codes, lengths and binary values that do not belong together."""
        oid = self._random.choice(_TYPES)
        sql = self._random.choice(
            (
                "SELECT $1",
                "SELECT $1::int[]",
                "SELECT $1::numeric",
                "SELECT $1::jsonb",
                "SELECT $1::timestamptz",
                "SELECT $1, $2",
            )
        )
        value = self._random.choice(
            (
                None,
                b"",
                self._bytes(4),
                self._bytes(8),
                self._bytes(30),
                struct.pack("!HHHH", 65535, 0, 0, 0),
                struct.pack("!iiiii", 6, 0, 23, 2**31 - 1, 1),
            )
        )
        formats = self._random.choice(((), (0,), (1,), (1, 0), (2,), (-1,)))
        results = self._random.choice(((), (0,), (1,), (1, 1, 1), (7,)))
        return (
            _HELLO
            + self._statement(sql, (oid,))
            + self._bound((value,), formats, self._random.choice((None, None, None, 0, 2, 65535)), results)
            + _SYNC
        )

    def _copy(self) -> bytes:
        form = self._random.choice(("", " WITH (FORMAT csv)", " WITH (FORMAT binary)"))
        data = self._random.choice(
            (b"1\tx\n", b"\\N\n", b'1,"x', b"PGCOPY\n\xff\r\n\0" + self._bytes(40), self._bytes(200), b"\\.\n1\n", b"a,b,c,d\n")
        )
        end = self._random.choice(
            (
                _message(b"c", b""),
                _message(b"f", _text("no")),
                _message(b"f", b""),
                _message(b"Q", _text("SELECT 1")),
                _SYNC,
                b"",
            )
        )
        return (
            _HELLO
            + _message(b"Q", _text(f"COPY t FROM STDIN{form}"))
            + b"".join(_message(b"d", part) for part in (data[:7], data[7:]))
            + end
        )


class _Served:
    """An engine behind the wire, and a client that must never notice what the others do."""

    def __init__(self, folder: Path, authenticator: Authenticator | None = None) -> None:
        self.engine = Engine(folder, EngineSettings(memory_limit="500MB"), SystemClock())
        self._authenticator = authenticator
        self.endings: Counter[str] = Counter()

    async def __aenter__(self) -> _Served:
        self.engine.start()
        self.server = WireServer(
            EngineSessions(self.engine), "127.0.0.1", 0, authenticator=self._authenticator, max_message_bytes=1 << 20
        )
        self.port = await self.server.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.server.stop()
        await asyncio.to_thread(self.engine.close)

    async def send(self, data: bytes) -> bytes:
        """Send all of it and a farewell, and give what came back until the server hangs up, or waits for more that never comes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = b""
        try:
            writer.write(data + _message(b"X", b""))
            await writer.drain()
            while part := await asyncio.wait_for(reader.read(1 << 16), _PATIENCE_SECONDS):
                answer += part
        except (ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()
        self.endings[_ending(answer)] += 1
        return answer


def _ending(answer: bytes) -> str:
    """The last SQLSTATE that was told, or what else came."""
    codes = [code.decode() for code in re.findall(rb"\0C([0-9A-Z]{5})\0", answer)]
    return codes[-1] if codes else "answered" if answer else "nothing"


class _Neighbour:
    """A plain connection that asks for one number again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> _Neighbour:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        neighbour = cls(reader, writer)
        writer.write(_HELLO)
        await neighbour._ready()
        return neighbour

    async def asks(self) -> None:
        self._writer.write(_message(b"Q", _text("SELECT 41 + 1")))
        assert b"\x0042" in (await self._ready()).replace(b"\0\0\0\x02", b"\0")

    async def _ready(self) -> bytes:
        got = b""
        async with asyncio.timeout(20):
            while True:
                kind, length = struct.unpack("!cI", await self._reader.readexactly(5))
                got += await self._reader.readexactly(length - 4)
                if kind == b"Z":
                    return got

    def close(self) -> None:
        self._writer.close()


async def _fuzz(folder: Path, seed: int, count: int) -> Counter[str]:
    garbage = Garbage(seed)
    async with _Served(folder) as served:
        neighbour = await _Neighbour.open(served.port)
        setup = _HELLO + _message(b"Q", _text("CREATE TABLE t (a INT, b VARCHAR)"))
        await served.send(setup)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            sent = garbage.session()
            answer = await served.send(sent)
            assert b"internal error" not in answer, sent
            assert b"XX000" not in answer, sent
            if number % 10 == 0:
                await neighbour.asks()
        await neighbour.asks()
        async with asyncio.timeout(20):
            while served.server.connections > 1:
                await asyncio.sleep(0.01)
        neighbour.close()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < _MOST_GROWTH_KB, f"{grown} kB more"
        assert served.engine.problem is None
        return served.endings


async def test_hundreds_of_malformed_clients_leave_another_one_alone(tmp_path: Path) -> None:
    endings = await _fuzz(tmp_path, 1, 300)
    assert endings["08P01"] > 20, endings
    assert len(endings) > 5, endings


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 106))
async def test_thousands_of_malformed_clients_leave_another_one_alone(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}: {await _fuzz(tmp_path, seed, 1_500)}")


async def test_garbage_instead_of_a_scram_message_is_refused(tmp_path: Path) -> None:
    chance = random.Random(7)
    async with _Served(tmp_path, Scram({"root": ScramSecret.from_password("right")})) as served:
        for _ in range(120):
            mechanism = chance.choice(
                (_text("SCRAM-SHA-256"), _text("SCRAM-SHA-256-PLUS"), _text("PLAIN"), b"", chance.randbytes(9))
            )
            first = chance.choice(
                (
                    b"n,,n=,r=abc",
                    b"y,,n=,r=",
                    b"p=tls-unique,,n=,r=abc",
                    b"n,a=x,n=,r=abc",
                    b"\xff\xff",
                    chance.randbytes(30),
                    b"",
                )
            )
            final = chance.choice((b"c=biws,r=abc,p=AAAA", b"c=biws,r=abc", b"p=", chance.randbytes(40), b"", b"x" * 70_000))
            length = struct.pack("!i", chance.choice((len(first), -1, 2**30, 0)))
            answer = await served.send(_HELLO + _message(b"p", mechanism + length + first) + _message(b"p", final))
            assert b"internal error" not in answer
            assert b"Z\0\0\0\x05I" not in answer, "let in"
        assert served.endings.keys() <= {"28P01", "08P01", "28000", "nothing"}, served.endings


async def test_a_wrong_cancel_key_cancels_nothing(tmp_path: Path) -> None:
    async with _Served(tmp_path) as served:
        neighbour = await _Neighbour.open(served.port)
        for process_id in range(6):
            assert await served.send(struct.pack("!IIII", 16, 80877102, process_id, 12345)) == b""
        await neighbour.asks()
        neighbour.close()
