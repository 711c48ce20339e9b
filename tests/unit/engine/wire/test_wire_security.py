"""Passwords, SCRAM and TLS, with the real clients."""

from __future__ import annotations

import asyncio
import base64
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.sql.errors import SqlError
from engine.wire.auth import Authenticator, AuthExchange, CleartextPassword, Scram, TrustLoopback
from engine.wire.scram import ScramFailure, ScramSecret, ScramServer
from engine.wire.server import WireServer

PASSWORD = "pä$$ word"
ROLES = {"root": ScramSecret.from_password(PASSWORD)}


@pytest.fixture
def serve(running: Any) -> Callable[..., Any]:
    @asynccontextmanager
    async def started(**options: Any) -> AsyncIterator[str]:
        server = WireServer(running.factory, "127.0.0.1", 0, **options)
        port = await server.start()
        yield f"host=127.0.0.1 port={port} user=root dbname=dev"
        await server.stop()

    return started


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize("kind", [Scram, CleartextPassword])
async def test_the_right_password_opens_and_a_wrong_one_does_not(serve: Any, kind: type[Any]) -> None:
    async with serve(authenticator=kind(ROLES)) as dsn:
        async with await psycopg.AsyncConnection.connect(dsn, password=PASSWORD) as client:
            assert await (await client.execute("SELECT 1")).fetchone() == (1,)
        for user, password in (("root", "wrong"), ("root", ""), ("nobody", PASSWORD)):
            with pytest.raises(psycopg.OperationalError, match="password"):
                await psycopg.AsyncConnection.connect(dsn, user=user, password=password)


async def test_scram_never_sends_the_password(serve: Any) -> None:
    async with serve(authenticator=Scram(ROLES)) as dsn:
        async with await psycopg.AsyncConnection.connect(dsn, password=PASSWORD, require_auth="scram-sha-256") as client:
            assert await (await client.execute("SELECT 1")).fetchone() == (1,)
        port = int(dsn.split("port=")[1].split()[0])
        other = await asyncpg.connect(host="127.0.0.1", port=port, user="root", database="dev", password=PASSWORD)
        assert await other.fetchval("SELECT 1") == 1
        await other.close()


# The example of RFC 7677, section 3.
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"


def test_the_exchange_of_the_rfc() -> None:
    server = ScramServer(ScramSecret.from_password("pencil", salt=RFC_SALT), RFC_NONCE.removeprefix("rOprNGfwEbeRWgbNEkqO"))
    assert server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO") == f"r={RFC_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
    final = f"c=biws,r={RFC_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    assert server.final(final) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize(
    "final",
    [b"", b"\xff", b"c=biws,r=x,p=AAAA", f"c=eSws,r={RFC_NONCE},p=AAAA".encode(), f"c=biws,r={RFC_NONCE},p=?".encode(),
     f"c=biws,r={RFC_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVA=".encode()],
)  # fmt: skip
def test_a_wrong_proof_is_refused(final: bytes) -> None:
    server = ScramServer(ScramSecret.from_password("pencil", salt=RFC_SALT), RFC_NONCE.removeprefix("rOprNGfwEbeRWgbNEkqO"))
    server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    with pytest.raises(ScramFailure):
        server.final(final)


def test_a_secret_is_kept_in_the_form_of_postgresql() -> None:
    secret = ScramSecret.from_password("pencil", salt=RFC_SALT)
    text = str(secret)
    assert text.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert ScramSecret.parse(text) == secret
    assert secret.matches("pencil")
    assert not secret.matches("pencil ")
    assert repr(secret) == "ScramSecret(...)"
    with pytest.raises(ValueError, match="mechanism"):
        ScramSecret.parse("SCRAM-SHA-1$1:AA==$AA==:AA==")


@pytest.mark.parametrize("required", [False, True])
async def test_tls_with_a_verified_certificate(serve: Any, certificate: tuple[Path, Path], required: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with serve(tls=context, tls_required=required, authenticator=Scram(ROLES)) as dsn:
        secure = {"password": PASSWORD, "sslmode": "verify-full", "sslrootcert": str(certificate[0])}
        async with await psycopg.AsyncConnection.connect(dsn, **secure) as client:
            rows = await (await client.execute("SELECT i, repeat('x', 100) FROM range(20000) t(i)")).fetchall()
            assert len(rows) == 20000
            assert client.pgconn.ssl_in_use
        if required:
            with pytest.raises(psycopg.OperationalError, match="encrypted connections only"):
                await psycopg.AsyncConnection.connect(dsn, password=PASSWORD, sslmode="disable")
        else:
            async with await psycopg.AsyncConnection.connect(dsn, password=PASSWORD, sslmode="disable") as client:
                assert not client.pgconn.ssl_in_use


def exchange(user: str, peer: str) -> AuthExchange:
    async def ask(code: int, payload: bytes) -> bytes:
        return PASSWORD.encode() + b"\0"

    return AuthExchange(user, "dev", peer, False, ask, lambda code, payload: None)


@pytest.mark.parametrize(
    ("authenticator", "user", "peer", "welcome"),
    [
        (TrustLoopback(), "root", "127.0.0.1", True),
        (TrustLoopback(), "root", "::1", True),
        (TrustLoopback(), "root", "192.0.2.1", False),
        (TrustLoopback(), "root", "", False),
        (TrustLoopback(), "mallory", "127.0.0.1", False),
        (CleartextPassword(ROLES), "root", "127.0.0.1", True),
        (CleartextPassword(ROLES), "root", "192.0.2.1", False),
    ],
)
async def test_who_is_let_in(authenticator: Authenticator, user: str, peer: str, welcome: bool) -> None:
    if welcome:
        await authenticator.authenticate(exchange(user, peer))
        return
    with pytest.raises(SqlError) as caught:
        await authenticator.authenticate(exchange(user, peer))
    assert caught.value.sqlstate == "28000"


async def test_no_byte_in_clear_is_taken_after_the_request_for_tls(serve: Any, certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with serve(tls=context) as dsn:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(dsn.split("port=")[1].split()[0]))
        writer.write(struct.pack("!II", 8, 80877103) + b"Q\0\0\0\x0dSELECT 1\0")
        answer = await asyncio.wait_for(reader.read(), 10)
        assert b"08P01" in answer
        writer.close()


def test_the_server_runs_on_uvloop_too(factory: Any, certificate: tuple[Path, Path]) -> None:
    uvloop = pytest.importorskip("uvloop")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def talk() -> None:
        server = WireServer(factory, "127.0.0.1", 0, tls=context)
        port = await server.start()
        for mode in ("disable", "require"):
            dsn = f"host=127.0.0.1 port={port} user=root dbname=dev sslmode={mode}"
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as client:
                rows = await (await client.execute("SELECT i, repeat('x', 50) FROM range(30000) t(i)")).fetchall()
                assert len(rows) == 30000
        await server.stop()

    uvloop.run(talk())
