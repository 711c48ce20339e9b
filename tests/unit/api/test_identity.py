"""Who gets in: keys, tokens and sessions over a real API process's application and a real stream database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from gql import Client, gql
from gql.transport.exceptions import TransportError
from gql.transport.websockets import WebsocketsTransport
from pydantic import SecretStr

from api.app import MOST_BODY_BYTES
from api.database import Database
from api.graphql.context import Services
from api.http.limits import RateLimits
from api.http.problems import TooManyRequestsError, UnauthenticatedError
from api.identity.identity import LEAST_ROLE, ROLES, Identity
from api.identity.keys import KeyStore
from api.identity.login import LoginLinks
from api.identity.sessions import COOKIE, Sessions, session_secret
from api.identity.tenants import TenantStore
from api.identity.tokens import REFETCH_SECONDS, TokenVerifier
from core.clock import SystemClock
from core.errors import ConfigError, UnavailableError
from core.fakes import ManualClock
from core.ids import TenantId
from core.settings import LimitSettings, SessionSettings, Settings, TokenSettings
from tests.unit.api.doubles import NOWHERE, ScriptedFeed, eventually, serving
from tests.unit.api.issuer import Issuer
from tests.unit.api.test_with_engine import Process

SECRET = "a secret of thirty-two characters!!"
ACCESS_SQL = Path(__file__).parents[3] / "pipelines" / "00_shared" / "70_access.sql"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = Process("engine", tmp_path_factory.mktemp("engine"))
    try:
        engine.start()
        url = f"postgresql://root@{engine.address}/dev"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(ACCESS_SQL.read_bytes())
        yield url
    finally:
        engine.stop()


@dataclass
class Door:
    """An API that requires credentials."""

    address: str
    services: Services
    database: Database
    feed: ScriptedFeed

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.ask("GET", path, **more)

    async def ask(self, method: str, path: str, *, key: str | None = None, **more: Any) -> httpx.Response:
        headers = {**more.pop("headers", {}), **({"authorization": f"Bearer {key}"} if key else {})}
        async with httpx.AsyncClient(
            base_url=f"http://{self.address}", cookies=more.pop("cookies", None), timeout=30
        ) as client:
            return await client.request(method, path, headers=headers, **more)

    async def me(self, key: str | None = None, **more: Any) -> tuple[int, Any]:
        answer = await self.get("/session", key=key, **more)
        return answer.status_code, answer.json()

    async def key(self, tenant: str = "acme", role: Any = "operator", **more: Any) -> str:
        _, text = await KeyStore(self.database).create(TenantId(tenant), role, NOW, **more)
        return text


@pytest.fixture
async def door(tmp_path: Path, database_url: str, feed: ScriptedFeed) -> AsyncIterator[Door]:
    settings = Settings(
        data_dir=tmp_path,
        kafka=NOWHERE,
        database_url=database_url,
        udf_url=f"http://{NOWHERE}",
        auth="required",
        tokens=TokenSettings(secret=SecretStr(SECRET), issuer="https://issuer.example"),
    )
    database = Database(database_url)
    await database.open()
    async with serving(settings, SystemClock(), feed) as (address, services):
        yield Door(address, services, database, feed)
    await database.close()


async def test_a_new_key_lets_in_at_once_and_its_secret_is_nowhere(door: Door, database_url: str) -> None:
    key = await door.key("acme", "reviewer")
    status, who = await door.me(key)
    assert (status, who) == (200, {"tenant": "acme", "role": "reviewer", "method": "key", "csrf": None})
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT * FROM api_keys").fetchall()
    assert key.rpartition("_")[2] not in str(rows)


async def test_keys_that_are_wrong_revoked_expired_or_of_a_disabled_tenant_let_nobody_in(door: Door) -> None:
    keys, tenants = KeyStore(door.database), TenantStore(door.database)
    good = await door.key("umbrella")
    assert (await door.me(good))[0] == 200
    assert (await door.me(good[:-1] + ("a" if good[-1] != "a" else "b")))[0] == 401
    assert (await door.me("hr_000000000000_" + "x" * 43))[0] == 401
    assert (await door.me("nonsense"))[0] == 401
    assert await door.get("/session")

    ended = await door.key("umbrella", valid=timedelta(microseconds=1))
    assert (await door.me(ended))[0] == 401
    await keys.revoke(good.split("_")[1], NOW)
    await door.services.authenticator.access.look()
    assert (await door.me(good))[0] == 401
    other = await door.key("umbrella")
    assert (await door.me(other))[0] == 200
    await tenants.disable(TenantId("umbrella"), NOW)
    await door.services.authenticator.access.look()
    assert (await door.me(other))[0] == 401
    await tenants.enable(TenantId("umbrella"))
    await door.services.authenticator.access.look()
    assert (await door.me(other))[0] == 200


VARIANTS = [{"name": name, "model_path": "m", "model_version": "1"} for name in "ab"]
ROUTES = [
    ("feedback", "POST", "/v1/feedback", {"json": []}),
    ("ingest", "POST", "/v1/ingest/nowhere", {"json": {}}),
    ("predict", "POST", "/predict", {"json": {"features": [[1.0]]}}),
    ("predict", "POST", "/v2/models/none/infer", {"json": {"inputs": []}}),
    ("read", "GET", "/v2/models/none", {}),
    ("operate", "POST", "/api/v1/mlops/experiments", {"json": {"name": "x", "variants": VARIANTS}}),
    ("read", "GET", "/api/v1/mlops/experiments", {}),
    ("administer", "POST", "/graphql", {"json": {"query": "{ apiKeys { id } }"}}),
    ("administer", "POST", "/graphql", {"json": {"query": '{ quarantine(stream: "x") { edges { cursor } } }'}}),
    ("feedback", "POST", "/graphql", {"json": {"query": "mutation { submitFeedback(input: []) { accepted } }"}}),
]


async def test_each_route_takes_the_role_that_it_needs_and_no_lower_one(door: Door) -> None:
    for role in ROLES:
        key = await door.key("acme", role)
        for needs, method, path, more in ROUTES:
            answer = await door.ask(method, path, key=key, **more)
            refused = answer.status_code == 403 or "needs the role" in answer.text
            expected = ROLES.index(role) < ROLES.index(LEAST_ROLE[needs])  # type: ignore[index]
            assert refused == expected, (role, path, answer.status_code, answer.text[:200])


async def test_scopes_take_away_of_what_the_role_allows(door: Door) -> None:
    key = await door.key("acme", "operator", scopes=frozenset({"ingest"}))
    assert (await door.ask("POST", "/v1/ingest/nowhere", key=key, json={})).status_code not in (401, 403)
    assert (await door.ask("POST", "/predict", key=key, json={"features": [[1.0]]})).status_code == 403
    answer = await door.ask("POST", "/graphql", key=key, json={"query": "{ predictions { edges { cursor } } }"})
    assert "none of this key's scopes" in answer.text


@pytest.mark.parametrize("path", ["/graphql", "/api/v1/mlops/experiments", "/ingest/batch", "/v1/feedback", "/predict"])
async def test_a_body_beyond_all_measure_is_refused_by_every_route(door: Door, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:  # without a length that could be refused at once
        for _ in range(2 * MOST_BODY_BYTES >> 20):
            yield b" " * (1 << 20)

    key = await door.key("acme", "admin")
    answer = await door.ask("POST", path, key=key, content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413, answer.text[:200]


async def test_only_an_admin_acts_for_another_tenant(door: Door) -> None:
    other = {"x-headrace-tenant": "globex"}
    assert (await door.me(await door.key("acme", "operator"), headers=other))[0] == 403
    status, who = await door.me(await door.key("acme", "admin"), headers=other)
    assert (status, who["tenant"]) == (200, "globex")
    assert (await door.me(await door.key("acme", "admin"), headers={"x-headrace-tenant": "a" * 200}))[0] == 403


def _token(secret: Any = SECRET, algorithm: str = "HS256", headers: dict[str, str] | None = None, **claims: Any) -> str:
    stated = {
        "iss": "https://issuer.example", "aud": "headrace", "sub": "u-1", "tenant": "acme", "roles": ["operator"],
        "exp": datetime.now(UTC) + timedelta(minutes=5),
    }  # fmt: skip
    stated |= claims
    return jwt.encode({k: v for k, v in stated.items() if v is not None}, secret, algorithm, headers)


async def test_a_token_states_tenant_and_role(door: Door) -> None:
    assert await door.me(_token(roles=["viewer", "admin", "somebody else's"])) == (
        200, {"tenant": "acme", "role": "admin", "method": "token", "csrf": None}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (lambda: _token(exp=datetime.now(UTC) - timedelta(minutes=1)), "it has expired"),
        (lambda: _token(nbf=datetime.now(UTC) + timedelta(minutes=5)), "it is not valid yet"),
        (lambda: _token(exp=None), "a required claim is missing"),
        (lambda: _token(aud="another"), "it is for another audience"),
        (lambda: _token(aud=None), "a required claim is missing"),
        (lambda: _token(iss="https://evil.example"), "it is from another issuer"),
        (lambda: _token(tenant=None), "a required claim is missing"),
        (lambda: _token(tenant=7), "claim `tenant` is no name of a tenant"),
        (lambda: _token(tenant=""), "claim `tenant` is no name of a tenant"),
        (lambda: _token(roles=["owner"]), "claim `roles` names no role of ours"),
        (lambda: _token(secret="another secret of thirty-two letters"), "its signature is wrong"),
        (lambda: _token(secret=None, algorithm="none"), "its algorithm is not allowed"),
        (lambda: _token()[:-4] + "AAAA", "its signature is wrong"),
        (lambda: "a.b.c", "it is malformed"),
        (lambda: _token(secret=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"), "its algorithm is not allowed"),
    ],
)  # fmt: skip
async def test_tokens_that_are_not_good_are_refused_with_the_reason_and_without_the_token(
    door: Door, token: Any, reason: str
) -> None:
    text = token()
    answer = await door.get("/session", key=text)
    assert answer.status_code == 401
    assert reason in answer.text
    assert text not in answer.text


def _verifier(issuer: Issuer, clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(TokenSettings(jwks_url=issuer.url, issuer="https://issuer.example"), clock)


async def test_keys_of_an_issuer_rotate_without_a_restart(clock: ManualClock) -> None:
    old, new = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    with Issuer({"k1": old}) as issuer:
        verifier = _verifier(issuer, clock)
        signed_old = _token(old, "ES256", {"kid": "k1"})
        signed_new = _token(new, "RS256", {"kid": "k2"})
        assert (await verifier.verify(signed_old)).tenant == "acme"
        with pytest.raises(UnauthenticatedError, match="its key is not known"):
            await verifier.verify(signed_new)
        issuer.keys = {"k2": new}
        with pytest.raises(UnauthenticatedError, match="its key is not known"):
            await verifier.verify(signed_new)  # asked a moment ago
        asked = issuer.requests
        clock.advance(timedelta(seconds=REFETCH_SECONDS))
        assert (await verifier.verify(signed_new)).role == "operator"
        assert issuer.requests == asked + 1
        with pytest.raises(UnauthenticatedError, match="its key is not known"):
            await verifier.verify(signed_old)


async def test_a_public_key_is_no_secret_and_none_is_no_algorithm(clock: ManualClock) -> None:
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    with Issuer({"k1": key}) as issuer:
        verifier = _verifier(issuer, clock)
        head, body = ({"alg": "HS256", "kid": "k1"}, json.loads(_decoded(_token(key, "RS256", {"kid": "k1"}))))

        def part(value: object) -> bytes:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

        signed = part(head) + b"." + part(body)
        mac = base64.urlsafe_b64encode(hmac.new(public, signed, hashlib.sha256).digest()).rstrip(b"=")
        with pytest.raises(UnauthenticatedError, match=r"its algorithm is not allowed|its key is not known|its signature"):
            await verifier.verify((signed + b"." + mac).decode())
        with pytest.raises(UnauthenticatedError, match="its algorithm is not allowed"):
            await verifier.verify(_token(None, "none", {"kid": "k1"}))


def _decoded(token: str) -> str:
    body = token.split(".")[1]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()


async def test_an_issuer_that_is_away_is_no_reason_to_let_anybody_in(clock: ManualClock) -> None:
    verifier = TokenVerifier(TokenSettings(jwks_url=f"http://{NOWHERE}/jwks"), clock)
    with pytest.raises(UnavailableError, match="cannot be fetched"):
        await verifier.verify(_token(rsa.generate_private_key(65537, 2048), "RS256", {"kid": "k1"}))


async def test_a_link_logs_in_once_and_a_session_needs_its_csrf_token_to_change_anything(door: Door) -> None:
    link = await LoginLinks(door.database).create(TenantId("acme"), "admin", datetime.now(UTC))
    async with httpx.AsyncClient(base_url=f"http://{door.address}") as browser:
        entered = await browser.get("/login", params={"link": link})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await browser.get("/login", params={"link": link})).status_code == 401
        who = (await browser.get("/session")).json()
        assert (who["tenant"], who["role"], who["method"]) == ("acme", "admin", "session")
        query = {"query": "{ me { tenant roles method } }"}
        assert (await browser.post("/graphql", json=query)).status_code == 403
        forged = await browser.post("/graphql", json=query, headers={"x-csrf-token": "0" * 64})
        assert forged.status_code == 403
        own = {"x-csrf-token": who["csrf"]}
        told = (await browser.post("/graphql", json=query, headers=own)).json()
        assert told == {"data": {"me": {"tenant": "acme", "roles": ["admin"], "method": "session"}}}
        elsewhere = await browser.post("/graphql", json=query, headers={**own, "origin": "https://evil.example"})
        assert elsewhere.status_code == 403
        kept = browser.cookies[COOKIE]
        assert (await browser.post("/logout", headers=own)).json() == {"ended": True}
    assert (await door.get("/session", cookies={COOKIE: kept})).status_code == 401


async def test_links_that_are_old_or_unknown_and_cookies_that_are_old_or_changed_let_nobody_in(door: Door) -> None:
    link = await LoginLinks(door.database).create(TenantId("acme"), "admin", datetime.now(UTC) - timedelta(hours=1))
    for each in (link, "unknown"):
        assert (await door.get("/login", params={"link": each})).status_code == 401
    nowhere = Path("/nowhere")
    sessions = Sessions(SessionSettings(hours=1, secret=SecretStr("k")), nowhere)
    cookie = sessions.begin(Identity(TenantId("acme"), "viewer", "session"), NOW)
    assert sessions.read(cookie, NOW + timedelta(minutes=59)).tenant == "acme"
    with pytest.raises(UnauthenticatedError, match="is over"):
        sessions.read(cookie, NOW + timedelta(hours=1))
    with pytest.raises(UnauthenticatedError, match="not valid"):
        Sessions(SessionSettings(secret=SecretStr("j")), nowhere).read(cookie, NOW)
    assert (await door.get("/session", cookies={COOKIE: cookie})).status_code == 401
    # A token of the issuer, signed with another secret for another audience, is no session either.
    assert (await door.get("/session", cookies={COOKIE: _token()})).status_code == 401


def test_the_secret_of_sessions_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first = session_secret(SessionSettings(), tmp_path)
    assert len(first) == 32
    assert session_secret(SessionSettings(), tmp_path) == first
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    told = session_secret(SessionSettings(secret=SecretStr("told")), tmp_path)
    assert told != first


async def test_a_key_that_is_revoked_ends_the_sockets_that_it_opened(door: Door) -> None:
    key = await door.key("default", "viewer")
    transport = WebsocketsTransport(
        url=f"ws://{door.address}/graphql", init_payload={"authorization": f"Bearer {key}"}, subprotocols=["graphql-transport-ws"]
    )  # fmt: skip
    from tests.unit.api.test_graphql import FRAMES, _change

    async with Client(transport=transport) as session:
        frames = session.subscribe(gql(FRAMES))
        first = asyncio.create_task(anext(frames))
        await eventually(lambda: door.services.prediction_hub.subscribers == 1)
        door.feed.put(_change(1))
        assert [row["id"] for row in (await first)["predictions"]["rows"]] == ["p1"]
        await KeyStore(door.database).revoke(key.split("_")[1], NOW)
        await door.services.authenticator.access.look()
        door.feed.put(_change(2))
        with pytest.raises(TransportError, match="not valid any more"):
            await anext(frames)


async def test_an_admin_makes_lists_and_revokes_keys_of_the_own_tenant_by_graphql(door: Door) -> None:
    admin = await door.key("hooli", "admin")
    other = (await door.key("initech")).split("_")[1]

    async def ask(query: str, key: str = admin) -> Any:
        return (await door.ask("POST", "/graphql", key=key, json={"query": query})).json()

    made = (await ask('mutation { createApiKey(input: {role: "viewer", days: 1}) { key apiKey { id role } } }'))["data"]
    key, key_id = made["createApiKey"]["key"], made["createApiKey"]["apiKey"]["id"]
    assert (await door.me(key))[1]["tenant"] == "hooli"
    listed = (await ask("{ apiKeys { id role revokedAt } }"))["data"]["apiKeys"]
    assert {each["id"] for each in listed} == {key_id, admin.split("_")[1]}
    assert (await ask(f'mutation {{ revokeApiKey(id: "{other}") {{ id }} }}'))["errors"][0]["extensions"]["code"] == "not_found"
    assert (await ask(f'mutation {{ revokeApiKey(id: "{key_id}") {{ id revokedAt }} }}'))["data"]["revokeApiKey"]["revokedAt"]
    assert (await door.me(key))[0] == 401
    for wrong in ('role: "owner"', 'role: "viewer", scopes: ["everything"]', 'role: "viewer", days: 0'):
        told = await ask(f"mutation {{ createApiKey(input: {{{wrong}}}) {{ key }} }}")
        assert told["errors"][0]["extensions"]["code"] == "invalid_input", told


async def test_uses_of_keys_are_noted(door: Door) -> None:
    key = await door.key("acme")
    before = datetime.now(UTC)
    await door.me(key)
    await door.services.authenticator.access.note_uses()
    (found,) = [each for each in await KeyStore(door.database).all() if each.key_id == key.split("_")[1]]
    assert found.last_used_at is not None
    assert found.last_used_at >= before


async def test_a_tenant_that_calls_too_often_is_told_when_to_call_again_and_no_other_tenant_notices(
    tmp_path: Path, feed: ScriptedFeed
) -> None:
    settings = Settings(
        data_dir=tmp_path,
        kafka=NOWHERE,
        database_url=f"postgresql://root@{NOWHERE}/dev",
        udf_url=f"http://{NOWHERE}",
        api_keys={"acme": SecretStr("key-of-acme"), "globex": SecretStr("key-of-globex")},
        limits=LimitSettings(read="2/hour", predict="1/second; 3/hour"),
    )
    async with (
        serving(settings, SystemClock(), feed) as (address, _),
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):

        async def read(tenant: str) -> httpx.Response:
            return await client.get("/v2/models/none", headers={"authorization": f"Bearer key-of-{tenant}"})

        answers = [await read("acme") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [404, 404, 429]
        assert 3500 < int(answers[2].headers["retry-after"]) <= 3600
        assert (await read("globex")).status_code == 404
        headers = {"authorization": "Bearer key-of-acme"}
        told = (await client.post("/graphql", json={"query": "{ models { name } }"}, headers=headers)).json()
        extensions = told["errors"][0]["extensions"]
        assert (extensions["code"], extensions["retryable"]) == ("too_many_requests", True)
        assert 3500 < extensions["retryAfterSeconds"] <= 3600
        me = (await client.post("/graphql", json={"query": "{ me { tenant } }"}, headers=headers)).json()
        assert me == {"data": {"me": {"tenant": "acme"}}}


def test_a_call_that_one_window_refuses_counts_in_none() -> None:
    limits = RateLimits({"predict": "5/hour; 1/second"})
    limits.take("predict", TenantId("acme"))
    for _ in range(20):
        with pytest.raises(TooManyRequestsError):
            limits.take("predict", TenantId("acme"))
    (hour, _) = limits._items["predict"]
    assert limits._limiter.get_window_stats(hour, "predict", "acme").remaining == 4


async def test_a_key_that_was_written_wrongly_locks_nobody_else_out(door: Door, database_url: str) -> None:
    good = await door.key("acme")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO api_keys (key_id, tenant_id, role, secret_sha256, created_at) VALUES ('bad', 'acme', 'owner', 'x', now())"
        )
        connection.execute("FLUSH")
    try:
        assert (await door.me(await door.key("acme")))[0] == 200, "the database was read anew"
        assert (await door.me(good))[0] == 200
        assert (await door.me("hr_bad_x"))[0] == 401
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DELETE FROM api_keys WHERE key_id = 'bad'")
            connection.execute("FLUSH")


def test_a_limit_that_cannot_be_read_says_so() -> None:
    with pytest.raises(ConfigError, match="often"):
        RateLimits({"read": "often"})
