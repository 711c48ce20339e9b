"""GraphQL over a real socket: queries, errors, frames, credentials, clean-up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport
from pydantic import SecretStr

from api.graphql.context import Services
from api.live.changes import Change
from api.schema import SCHEMA_FILE, export
from core.fakes import ManualClock
from core.settings import Settings
from tests.unit.api.doubles import NOWHERE, ScriptedFeed, eventually, serving

PROTOCOL = websockets.Subprotocol("graphql-transport-ws")
FRAMES = (
    "subscription { predictions { seq cursor total sampled dropped p50 p99 gap { from to count } rows { id tenant score } } }"
)


@dataclass
class Running:
    """An API that listens, with nothing behind it but a change feed and a lakehouse."""

    address: str
    services: Services
    settings: Settings
    feed: ScriptedFeed

    async def query(self, text: str, headers: dict[str, str] | None = None, **variables: Any) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=f"http://{self.address}") as client:
            answer = await client.post("/graphql", json={"query": text, "variables": variables}, headers=headers or {})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found


@pytest.fixture
async def api(tmp_path: Path, clock: ManualClock, feed: ScriptedFeed) -> AsyncIterator[Running]:
    settings = Settings(
        data_dir=tmp_path,
        kafka=NOWHERE,
        database_url=f"postgresql://root@{NOWHERE}/dev",
        udf_url=f"http://{NOWHERE}",
        api_keys={"acme": SecretStr("key-of-acme")},
    )
    async with serving(settings, clock, feed) as (address, services):
        yield Running(address, services, settings, feed)


def _change(number: int, tenant: str = "default") -> Change:
    row = dict.fromkeys(
        ("pipeline", "endpoint", "entity_id", "feature_start", "feature_end", "features", "route_epoch", "label")
    )
    row |= {"prediction_id": f"p{number}", "tenant_id": tenant, "score": 0.5, "members": None, "error": None}
    return Change(row, "Insert", int(datetime(2025, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC).timestamp() * 1000))


def test_the_exported_schema_is_not_stale() -> None:
    assert SCHEMA_FILE.read_text() == export(), "run `headrace schema > api/schema.graphql`"


async def test_frames_reach_a_graphql_client_for_its_tenant_only(api: Running) -> None:
    transport = WebsocketsTransport(url=f"ws://{api.address}/graphql", subprotocols=[PROTOCOL])
    async with Client(transport=transport) as session:
        frames = session.subscribe(gql(FRAMES))
        first = asyncio.create_task(anext(frames))
        await eventually(lambda: api.services.prediction_hub.subscribers == 1)
        api.feed.put(_change(1), _change(2, tenant="acme"), _change(3))
        frame = (await first)["predictions"]
        api.feed.put(_change(4))
        second = (await anext(frames))["predictions"]
        await frames.aclose()
    assert [row["id"] for row in frame["rows"]] == ["p1", "p3"]
    assert (frame["seq"], frame["total"], frame["sampled"], frame["dropped"], frame["gap"]) == (1, 2, 2, 0, None)
    assert (frame["p50"], frame["p99"]) == (500.0, 500.0)  # the clock of the test stands half a second after the commit
    assert (second["seq"], [row["id"] for row in second["rows"]]) == (2, ["p4"])
    await eventually(lambda: api.services.prediction_hub.subscribers == 0)


async def test_a_client_that_vanishes_leaves_nothing_behind(api: Running) -> None:
    hub = api.services.prediction_hub
    sockets = [await _subscribe(api) for _ in range(10)]
    await eventually(lambda: hub.subscribers == 10)
    assert hub.channels == 1
    for connection in sockets:
        connection.transport.abort()  # no close frame, no goodbye
    await eventually(lambda: hub.subscribers == 0)
    assert hub.channels == 0


async def test_completing_one_operation_keeps_the_others(api: Running) -> None:
    connection = await _subscribe(api)
    await connection.send(json.dumps({"id": "2", "type": "subscribe", "payload": {"query": FRAMES}}))
    await eventually(lambda: api.services.prediction_hub.subscribers == 2)
    await connection.send(json.dumps({"id": "1", "type": "complete"}))
    await eventually(lambda: api.services.prediction_hub.subscribers == 1)
    await connection.close()
    await eventually(lambda: api.services.prediction_hub.subscribers == 0)


async def test_resuming_by_the_cursor_of_a_frame_over_a_new_socket(api: Running) -> None:
    connection = await _subscribe(api)
    await eventually(lambda: api.services.prediction_hub.subscribers == 1)
    api.feed.put(_change(1))
    seen = json.loads(await connection.recv())["payload"]["data"]["predictions"]
    connection.transport.abort()
    await eventually(lambda: api.services.prediction_hub.subscribers == 0)
    api.feed.put(_change(2))
    witness = await _subscribe(api)
    await eventually(lambda: api.services.prediction_hub.subscribers == 1)
    api.feed.put(_change(3))
    while "p3" not in str(await witness.recv()):
        pass
    await witness.close()
    after = FRAMES.replace("predictions {", f'predictions(after: "{seen["cursor"]}") {{', 1)
    again = await _subscribe(api, query=after)
    frame = json.loads(await again.recv())["payload"]["data"]["predictions"]
    await again.close()
    assert [row["id"] for row in frame["rows"]] == ["p2", "p3"]
    assert frame["gap"] is None


async def test_a_socket_is_authenticated_by_connection_init(api: Running) -> None:
    acme = await _subscribe(api, init={"Authorization": "Bearer key-of-acme"})
    await eventually(lambda: api.services.prediction_hub.subscribers == 1)
    api.feed.put(_change(1), _change(2, tenant="acme"))
    frame = json.loads(await acme.recv())["payload"]["data"]["predictions"]
    assert [(row["id"], row["tenant"]) for row in frame["rows"]] == [("p2", "acme")]
    await acme.close()
    wrong = await _connect(api)
    await wrong.send(json.dumps({"type": "connection_init", "payload": {"Authorization": "Bearer wrong"}}))
    with pytest.raises(websockets.ConnectionClosed):
        await wrong.recv()
    assert wrong.close_code == 4403


@pytest.mark.parametrize(("host", "origin"), [("127.0.0.1", "http://attacker.example"), ("attacker.example", None)])
async def test_a_foreign_page_cannot_open_a_socket(api: Running, host: str, origin: str | None) -> None:
    _, port = api.address.split(":")
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(
            f"ws://{host}:{port}/graphql",
            host="127.0.0.1",  # a name that an attacker points at this machine: DNS rebinding
            port=int(port),
            origin=websockets.Origin(origin) if origin else None,
            subprotocols=[PROTOCOL],
            proxy=None,
        ):
            pass
    assert refused.value.response.status_code == 403


async def test_expected_failures_are_told_with_a_code_and_a_remedy(api: Running) -> None:
    away = await api.query("{ predictions { nodes { id } } }")
    (error,) = away["errors"]
    assert (error["extensions"]["code"], error["extensions"]["retryable"]) == ("unavailable", True)
    assert error["extensions"]["fix"]
    out_of_bounds = await api.query("{ predictions(first: 100000) { nodes { id } } }")
    assert out_of_bounds["errors"][0]["extensions"]["code"] == "invalid_input"
    no_cursor = await api.query('{ predictions(after: "eHh4") { nodes { id } } }')
    assert no_cursor["errors"][0]["extensions"]["code"] == "invalid_input"
    for answer in (away, out_of_bounds, no_cursor):
        assert "Traceback" not in json.dumps(answer)


async def test_a_subscription_with_a_wrong_argument_is_an_error_of_that_operation(api: Running) -> None:
    connection = await _subscribe(api, query=FRAMES.replace("predictions {", "predictions(buffer: 0) {", 1))
    message = json.loads(await connection.recv())
    assert message["type"] in ("next", "error")
    errors = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
    assert errors[0]["extensions"]["code"] == "invalid_input"
    await connection.close()


async def test_surprises_are_told_without_their_text(api: Running, caplog: pytest.LogCaptureFixture) -> None:
    (api.settings.data_dir / "catalog.db").write_bytes(b"this is no database, and its text is a secret")
    answer = await api.query("{ models { name } }")
    assert answer["errors"][0]["extensions"]["code"] in ("internal", "unavailable")
    assert "secret" not in json.dumps(answer)
    assert "Traceback" not in json.dumps(answer)


async def test_only_an_admin_reads_the_quarantine(api: Running) -> None:
    refused = await api.query(
        '{ quarantine(stream: "plant") { edges { node { reason } } } }', headers={"authorization": "Bearer key-of-acme"}
    )
    assert refused["errors"][0]["extensions"]["code"] == "forbidden"
    me = await api.query("{ me { tenant roles method } }", headers={"authorization": "Bearer key-of-acme"})
    assert me["data"]["me"] == {"tenant": "acme", "roles": ["operator"], "method": "key"}


async def test_requests_without_valid_credentials_are_401(api: Running) -> None:
    async with httpx.AsyncClient(base_url=f"http://{api.address}") as client:
        answer = await client.post("/graphql", json={"query": "{ me { tenant } }"}, headers={"authorization": "Bearer x"})
    assert answer.status_code == 401


async def test_abusive_documents_are_refused(api: Running) -> None:
    aliases = " ".join(f"a{number}: me {{ tenant }}" for number in range(40))
    assert "alias" in json.dumps((await api.query("{ " + aliases + " }"))["errors"]).lower()
    tokens = " ".join(["tenant"] * 3000)
    assert "errors" in await api.query("{ me { " + tokens + " } }")


async def test_a_client_may_read_the_schema(api: Running) -> None:
    transport = WebsocketsTransport(url=f"ws://{api.address}/graphql", subprotocols=[PROTOCOL])
    async with Client(transport=transport, fetch_schema_from_transport=True) as session:
        assert session.client.schema is not None
        assert "PredictionFrame" in session.client.schema.type_map


async def test_health_names_what_is_missing(api: Running) -> None:
    async with httpx.AsyncClient(base_url=f"http://{api.address}") as client:
        health, live, ready = [await client.get(path, timeout=20) for path in ("/health", "/livez", "/readyz")]
    assert (health.status_code, health.json()["status"]) == (503, "down")
    checks = {name: check["status"] for name, check in health.json()["checks"].items()}
    assert checks == {"stream_database": "down", "broker": "down", "udf_server": "down", "catalog": "ok", "change_feed": "ok"}
    assert live.status_code == 200
    assert ready.status_code == 503


async def _connect(api: Running) -> websockets.ClientConnection:
    return await websockets.connect(f"ws://{api.address}/graphql", subprotocols=[PROTOCOL], proxy=None)


async def _subscribe(api: Running, query: str = FRAMES, init: dict[str, str] | None = None) -> websockets.ClientConnection:
    connection = await _connect(api)
    await connection.send(json.dumps({"type": "connection_init", "payload": init or {}}))
    assert json.loads(await connection.recv())["type"] == "connection_ack"
    await connection.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": query}}))
    return connection
