"""The whole way with real parts: REST, embedded broker, embedded stream database, GraphQL, and a kill in between."""

from __future__ import annotations

import asyncio
import base64
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport
from pydantic import SecretStr

from core.clock import SystemClock
from core.settings import Settings
from tests.unit.api.doubles import eventually, serving

pytestmark = pytest.mark.xdist_group("processes")

SOURCE = """
CREATE SOURCE plant_events (
    tenant_id VARCHAR, entity_id VARCHAR, event_time TIMESTAMP WITH TIME ZONE, vibration DOUBLE PRECISION
) INCLUDE offset AS kafka_offset
WITH (connector = 'kafka', topic = 'events.plant', properties.bootstrap.server = '{kafka}', scan.startup.mode = 'earliest')
FORMAT PLAIN ENCODE JSON
"""
VIEWS = """
CREATE MATERIALIZED VIEW predictions AS
SELECT md5(tenant_id || '/' || entity_id) AS prediction_id, 'plant' AS pipeline, tenant_id, 'plant.health' AS endpoint,
    entity_id, event_time AS feature_start, event_time AS feature_end, ARRAY[vibration] AS features, 1::bigint AS route_epoch,
    CASE WHEN vibration > 0.8 THEN 'worn' ELSE 'ok' END AS label, vibration AS score, '[]'::jsonb AS members,
    NULL::jsonb AS error
FROM plant_events;
CREATE SUBSCRIPTION predictions_changes FROM predictions WITH (retention = '1 day');
CREATE TABLE labels (tenant_id VARCHAR, prediction_id VARCHAR, label VARCHAR, labelled_at TIMESTAMP WITH TIME ZONE,
    source VARCHAR, PRIMARY KEY (tenant_id, prediction_id));
CREATE TABLE endpoints (tenant_id VARCHAR, endpoint VARCHAR, strategy VARCHAR, PRIMARY KEY (tenant_id, endpoint));
CREATE TABLE routes (tenant_id VARCHAR, endpoint VARCHAR, model VARCHAR, version INT, role VARCHAR, weight DOUBLE PRECISION,
    fraction DOUBLE PRECISION, epoch BIGINT, PRIMARY KEY (tenant_id, endpoint, model, version))
"""


class Process:
    """`headrace serve ...` on a port of its own, which can be killed and started again."""

    def __init__(self, name: str, data_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._command = [sys.executable, "-m", "headrace", "serve", name, "--listen", self.address, "--data-dir", str(data_dir)]
        self._log = data_dir / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._listens():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@dataclass
class Platform:
    """Broker and stream database, with the views of a small pipeline."""

    broker: Process
    engine: Process

    @property
    def database_url(self) -> str:
        return f"postgresql://root@{self.engine.address}/dev"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; gives the rows of the last one."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    data_dir = tmp_path_factory.mktemp("platform")
    running = Platform(Process("broker", data_dir), Process("engine", data_dir))
    try:
        running.broker.start()
        running.engine.start()
        running.run(SOURCE.format(kafka=running.broker.address), *VIEWS.split(";"))
        yield running
    finally:
        running.engine.stop()
        running.broker.stop()


@pytest.fixture
async def address(tmp_path: Path, platform: Platform) -> AsyncIterator[str]:
    """Of an API before that platform; every tenant below has a key."""
    settings = Settings(
        data_dir=tmp_path,
        kafka=platform.broker.address,
        database_url=platform.database_url,
        udf_url=f"http://{platform.engine.address}",
        api_keys={tenant: SecretStr(f"key-of-{tenant}") for tenant in ("acme", "globex", "initech", "hooli")},
    )
    async with serving(settings, SystemClock()) as (address, services):
        await eventually(lambda: services.prediction_hub.connected)
        yield address


def _key(tenant: str) -> dict[str, str]:
    return {"authorization": f"Bearer key-of-{tenant}"}


def _event(number: int, vibration: object = 0.5) -> dict[str, Any]:
    return {
        "entity_id": f"pump-{number}",
        "event_time": f"2026-01-31T08:{number // 60:02}:{number % 60:02}Z",
        "vibration": vibration,
    }


async def test_an_event_becomes_a_prediction_in_queries_and_frames_and_a_kill_loses_and_repeats_nothing(
    address: str, platform: Platform
) -> None:
    seen: list[str] = []
    gaps: list[object] = []

    async def follow() -> None:
        transport = WebsocketsTransport(
            url=f"ws://{address}/graphql", init_payload={"authorization": "Bearer key-of-acme"}, subprotocols=["graphql-transport-ws"]
        )  # fmt: skip
        text = "subscription { predictions { total gap { from } rows { entityId tenant } } }"
        async with Client(transport=transport) as session:
            async for answer in session.subscribe(gql(text)):
                frame = answer["predictions"]
                assert {row["tenant"] for row in frame["rows"]} <= {"acme"}
                assert frame["total"] == len(frame["rows"])
                seen.extend(row["entityId"] for row in frame["rows"])
                gaps.append(frame["gap"])

    async with httpx.AsyncClient(base_url=f"http://{address}", headers=_key("acme"), timeout=60) as client:
        following = asyncio.create_task(follow())
        services_ready = await client.get("/health")
        assert services_ready.json()["status"] == "ok", services_ready.text
        async with asyncio.timeout(20):  # until the subscription has joined
            number = 1000
            while not seen:
                await client.post("/v1/ingest/plant", json=_event(number))
                number += 1
                await asyncio.sleep(0.2)
        warm = number - 1000
        for batch in range(3):
            if batch == 1:
                platform.engine.stop(signal.SIGKILL)
            rows = [_event(10 * batch + i) for i in range(10)]
            answer = await client.post(
                "/v1/ingest/plant", json=[*rows, _event(99, vibration="high"), _event(98) | {"tenant_id": "globex"}]
            )
            assert answer.status_code == 202, answer.text
            # While the stream database is away the schema that is known still holds.
            assert (answer.json()["accepted"], [row["row"] for row in answer.json()["rejected"]]) == (10, [10, 11])
            if batch == 1:
                await asyncio.to_thread(platform.engine.start)
        await client.post("/v1/ingest/plant", json=_event(77), headers=_key("globex"))
        expected = {f"pump-{number}" for number in range(30)}
        await eventually(lambda: expected <= set(seen), 60)
        assert not following.done()
        following.cancel()
        assert sorted(name for name in seen if name in expected) == sorted(expected)
        assert len(seen) == len(set(seen)) <= 30 + warm
        assert gaps == [None] * len(gaps)

        listed: list[str] = []
        after: str | None = None
        text = """query($after: Cursor) { predictions(first: 7, after: $after, filter: {until: "2026-01-31T08:00:30Z"}) {
            nodes { entityId tenant label features featureEnd routeEpoch members { model } feedback { label } }
            pageInfo { hasNextPage endCursor } } }"""
        while True:
            answer = await client.post("/graphql", json={"query": text, "variables": {"after": after}})
            page = answer.json()["data"]["predictions"]
            listed += [node["entityId"] for node in page["nodes"]]
            if not page["pageInfo"]["hasNextPage"]:
                break
            after = page["pageInfo"]["endCursor"]
        assert listed == [f"pump-{number}" for number in reversed(range(30))]
        assert page["nodes"][0] | {"entityId": None} == {
            "entityId": None, "tenant": "acme", "label": "ok", "features": [0.5], "featureEnd": page["nodes"][0]["featureEnd"],
            "routeEpoch": 1, "members": [], "feedback": None,
        }  # fmt: skip


async def test_a_prediction_its_label_and_its_route_are_read_by_their_tenant_only(address: str, platform: Platform) -> None:
    async with httpx.AsyncClient(base_url=f"http://{address}", headers=_key("initech"), timeout=60) as client:
        await client.post("/v1/ingest/plant", json=_event(1, vibration=0.9))
        text = "{ predictions { nodes { id label score feedback { label source } } } }"
        answer: dict[str, Any] = {}
        async with asyncio.timeout(30):
            while not answer.get("nodes"):
                answer = (await client.post("/graphql", json={"query": text})).json()["data"]["predictions"]
        (node,) = answer["nodes"]
        assert (node["label"], node["feedback"]) == ("worn", None)
        await asyncio.to_thread(
            platform.run,
            f"INSERT INTO labels VALUES ('initech', '{node['id']}', 'ok', '2026-01-31T09:00:00Z', 'person')",
            "INSERT INTO endpoints VALUES ('initech', 'plant.health', 'ensemble_mean')",
            "INSERT INTO routes VALUES ('initech', 'plant.health', 'plant_gb', 1, 'champion', 0.7, NULL, 3), "
            "('initech', 'plant.health', 'plant_esn', 1, 'champion', 0.3, NULL, 3), "
            "('hooli', 'plant.health', 'plant_gb', 1, 'champion', 1.0, NULL, 9)",
            "FLUSH",
        )
        one = f'{{ prediction(id: "{node["id"]}") {{ tenant feedback {{ label source }} }} routes {{ endpoint strategy epoch members {{ model role weight }} }} }}'
        found = (await client.post("/graphql", json={"query": one})).json()["data"]
        foreign = (await client.post("/graphql", json={"query": one}, headers=_key("hooli"))).json()["data"]
    assert found["prediction"] == {"tenant": "initech", "feedback": {"label": "ok", "source": "person"}}
    assert found["routes"] == [
        {
            "endpoint": "plant.health",
            "strategy": "ensemble_mean",
            "epoch": 3,
            "members": [
                {"model": "plant_esn", "role": "CHAMPION", "weight": 0.3},
                {"model": "plant_gb", "role": "CHAMPION", "weight": 0.7},
            ],
        }
    ]
    assert foreign["prediction"] is None
    assert [(table["strategy"], table["epoch"]) for table in foreign["routes"]] == [(None, 9)]


async def test_what_reaches_the_log_unreadable_is_read_from_the_quarantine_with_its_bytes(
    address: str, platform: Platform
) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": platform.broker.address})
    bad = [b"{broken", b'{"tenant_id":"acme","entity_id":"p","event_time":"soon"}', b"\xff\x00"]
    for value in bad:
        producer.produce("events.plant", value)
    await asyncio.to_thread(producer.flush, 10)
    text = '{ quarantine(stream: "plant", first: 2) { edges { cursor node { kafkaOffset reason payload text } } pageInfo { hasNextPage endCursor } } }'
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
        edges: list[Any] = []
        async with asyncio.timeout(30):
            while len(edges) < 3:
                first = (await client.post("/graphql", json={"query": text})).json()["data"]["quarantine"]
                edges = first["edges"]
                if first["pageInfo"]["hasNextPage"]:
                    more = text.replace("first: 2", f'first: 2, after: "{first["pageInfo"]["endCursor"]}"')
                    edges = edges + (await client.post("/graphql", json={"query": more})).json()["data"]["quarantine"]["edges"]
    nodes = sorted((edge["node"] for edge in edges), key=lambda node: node["kafkaOffset"])
    assert [base64.b64decode(node["payload"]) for node in nodes] == bad
    assert [node["text"] for node in nodes] == ["{broken", bad[1].decode(), None]
    assert all(node["reason"] for node in nodes)


async def test_binary_becomes_text_that_sql_decodes(address: str, platform: Platform) -> None:
    await asyncio.to_thread(
        platform.run,
        SOURCE.format(kafka=platform.broker.address)
        .replace("plant", "vision")
        .replace("vibration DOUBLE PRECISION", "payload VARCHAR"),
        # In two steps, as pipelines/vision has it.
        "CREATE MATERIALIZED VIEW decoded AS SELECT entity_id, decode(payload, 'base64') AS image FROM vision_events",
        "CREATE MATERIALIZED VIEW images AS SELECT entity_id, get_byte(image, 63) AS last_pixel FROM decoded",
    )
    async with httpx.AsyncClient(base_url=f"http://{address}", headers=_key("acme"), timeout=60) as client:
        answer = await client.post(
            "/v1/ingest/vision?entity_id=camera-1",
            content=bytes(range(64)),
            headers={"content-type": "application/octet-stream"},
        )
    assert (answer.status_code, answer.json()["validated"]) == (202, True)
    async with asyncio.timeout(30):
        while (rows := await asyncio.to_thread(platform.run, "SELECT entity_id, last_pixel FROM images")) == []:
            await asyncio.sleep(0.05)
    assert rows == [("camera-1", 63)]
