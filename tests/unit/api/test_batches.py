"""Batches over a real broker: partly taken, once whoever repeats them, and whole or not at all when the API is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from api.ingest.routes import MAX_BATCH_BYTES
from core.clock import SystemClock
from core.settings import Settings
from tests.unit.api.doubles import NOWHERE, serving
from tests.unit.api.test_with_engine import Process


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process("broker", tmp_path_factory.mktemp("broker"))
    try:
        process.start()
        yield process
    finally:
        process.stop()


@pytest.fixture
async def client(tmp_path: Path, broker: Process) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        data_dir=tmp_path, kafka=broker.address, database_url=f"postgresql://root@{NOWHERE}/dev", udf_url=f"http://{NOWHERE}"
    )
    async with (
        serving(settings, SystemClock()) as (address, _),
        httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client,
    ):
        yield client


def committed(broker: Process, topic: str) -> list[dict[str, Any]]:
    """All committed records of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": "check",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    found: list[dict[str, Any]] = []
    try:
        partitions = consumer.list_topics(topic, 10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        unread = len(partitions)
        while unread:
            message = consumer.poll(20)
            assert message is not None
            if message.error() is None:
                found.append(json.loads(message.value() or b""))
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF  # type: ignore[union-attr]
                unread -= 1
    finally:
        consumer.close()
    return found


def rows_of(broker: Process, batch_id: str) -> list[dict[str, Any]]:
    found = [row for row in committed(broker, "events.tabular") if row["batch_id"] == batch_id]
    return sorted(found, key=lambda row: row["row_number"])


async def test_a_batch_as_it_is_documented_is_taken_with_its_labels(client: httpx.AsyncClient, broker: Process) -> None:
    sent = {"features": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "labels": [0, 1], "batch_id": "batch_001"}
    answer = await client.post("/ingest/batch", json=sent)
    assert (answer.status_code, answer.json()) == (
        202, {"batch_id": "batch_001", "accepted": 2, "rejected": [], "duplicate": False}
    )  # fmt: skip
    kept = rows_of(broker, "batch_001")
    assert [(row["tenant_id"], row["features"], row["label"]) for row in kept] == [
        ("default", [1.0, 2.0, 3.0], "0"),
        ("default", [4.0, 5.0, 6.0], "1"),
    ]


async def test_bad_rows_are_named_and_kept_and_the_others_are_taken(client: httpx.AsyncClient, broker: Process) -> None:
    features = [[1, 2], [1], "x", [1, None], [1, True], [3, 4]]
    answer = (await client.post("/ingest/batch", json={"features": features, "batch_id": "partly"})).json()
    assert answer["accepted"] == 2
    assert [(each["row"], each["code"]) for each in answer["rejected"]] == [
        (1, "wrong_length"), (2, "wrong_type"), (3, "wrong_type"), (4, "wrong_type")
    ]  # fmt: skip
    assert [row["row_number"] for row in rows_of(broker, "partly")] == [0, 5]
    refused = [row for row in committed(broker, "quarantine.tabular") if row["stream"] == "tabular"]
    assert {row["row"] for row in refused} == {1, 2, 3, 4}
    nothing = await client.post("/ingest/batch", json={"features": ["x"], "batch_id": "nothing"})
    assert (nothing.status_code, nothing.json()["accepted"]) == (422, 0)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"features": [[1.0]], "labels": [1, 2]}, 400),
        ({"features": [[1.0]] * 10_001}, 413),
        ({"rows": []}, 422),
        ({"features": [[1.0]], "batch_id": ""}, 422),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(client: httpx.AsyncClient, sent: dict[str, Any], status: int) -> None:
    assert (await client.post("/ingest/batch", json=sent)).status_code == status


async def test_a_batch_counts_once_however_often_and_at_once_it_is_sent(client: httpx.AsyncClient, broker: Process) -> None:
    sent = {"features": [[float(i)] for i in range(50)], "batch_id": "again"}
    answers = await asyncio.gather(*(client.post("/ingest/batch", json=sent) for _ in range(8)))
    assert Counter(answer.json()["duplicate"] for answer in answers) == {False: 1, True: 7}
    assert {answer.json()["accepted"] for answer in answers} == {50}
    assert [row["features"] for row in rows_of(broker, "again")] == sent["features"]
    other = await client.post("/ingest/batch", json={"features": [[7.0]], "batch_id": "again"})
    assert other.status_code == 409, other.text
    assert "other rows" in other.text


async def test_batches_of_two_tenants_do_not_meet(client: httpx.AsyncClient, broker: Process) -> None:
    sent = {"features": [[1.0]], "batch_id": "shared name"}
    answers = [
        (await client.post("/ingest/batch", json=sent, headers={"x-headrace-tenant": tenant})).json()
        for tenant in ("acme", "globex")
    ]
    assert [answer["duplicate"] for answer in answers] == [False, False]
    assert {row["tenant_id"] for row in rows_of(broker, "shared name")} == {"acme", "globex"}


async def test_tenants_and_ids_with_slashes_are_not_mistaken_for_each_other(client: httpx.AsyncClient, broker: Process) -> None:
    for tenant, batch_id in (("a/b", "c"), ("a", "b/c")):
        sent = {"features": [[1.0]], "batch_id": batch_id}
        answer = await client.post("/ingest/batch", json=sent, headers={"x-headrace-tenant": tenant})
        assert (answer.status_code, answer.json()["duplicate"]) == (202, False)


async def test_a_body_is_not_read_further_than_it_may_be(client: httpx.AsyncClient, broker: Process) -> None:
    answer = await client.post("/ingest/batch", content=b" " * (MAX_BATCH_BYTES + 1))
    assert answer.status_code == 413
    malformed = await client.post("/ingest/batch", content=b'{"features": [[1.0], ')
    assert (malformed.status_code, malformed.json()["code"]) == (422, "invalid_parameter")


async def test_records_of_somebody_else_among_the_notes_stop_nothing(client: httpx.AsyncClient, broker: Process) -> None:
    producer = Producer({"bootstrap.servers": broker.address})
    for value in (b"no json", b"[]", b"{}", None):
        producer.produce("ingest.batches", value=value, key=b"x")
    assert producer.flush(20) == 0
    answer = await client.post("/ingest/batch", json={"features": [[1.0]], "batch_id": "after strangers"})
    assert answer.status_code == 202, answer.text


async def test_a_broker_that_is_killed_loses_and_repeats_no_batch(tmp_path: Path) -> None:
    own = Process("broker", tmp_path)
    own.start()
    settings = Settings(
        data_dir=tmp_path / "api",
        kafka=own.address,
        database_url=f"postgresql://root@{NOWHERE}/dev",
        udf_url=f"http://{NOWHERE}",
    )
    try:
        async with (
            serving(settings, SystemClock()) as (address, _),
            httpx.AsyncClient(base_url=f"http://{address}", timeout=90) as client,
        ):

            async def send(number: int) -> httpx.Response:
                return await client.post("/ingest/batch", json={"features": [[float(number)]] * 3, "batch_id": f"b{number}"})

            assert (await send(0)).status_code == 202
            own.stop(signal.SIGKILL)
            assert (await send(1)).status_code == 503
            own.start()
            answers = [await send(number) for number in (0, 1, 2)]
            assert [answer.status_code for answer in answers] == [202, 202, 202]
            assert answers[0].json()["duplicate"]
        kept = Counter(row["batch_id"] for row in committed(own, "events.tabular"))
        assert kept == {"b0": 3, "b1": 3, "b2": 3}
    finally:
        own.stop()


def _api(data_dir: Path, broker: Process, port: int) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "HEADRACE_KAFKA": broker.address, "HEADRACE_V2_GRPC_PORT": "0"}
    environ["HEADRACE_DATABASE_URL"] = f"postgresql://root@{NOWHERE}/dev"
    command = [sys.executable, "-m", "headrace", "serve", "api", "--port", str(port), "--data-dir", str(data_dir)]
    with (data_dir / "api.log").open("ab") as log:
        return subprocess.Popen(command, env=environ, stdout=log, stderr=log)


def _until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5)
        except httpx.HTTPError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


async def test_kills_of_the_api_lose_no_batch_that_was_acknowledged_and_repetition_counts_none_twice(
    tmp_path: Path, broker: Process
) -> None:
    port = Process("api", tmp_path).port
    acknowledged: set[str] = set()
    waiting = [f"kill-{number}" for number in range(60)]

    def body(batch_id: str) -> dict[str, Any]:
        return {"features": [[float(i), 1.0] for i in range(200)], "batch_id": batch_id}

    async def send(batch_id: str) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/ingest/batch", json=body(batch_id))
        if answer.status_code == 202:
            acknowledged.add(batch_id)

    for life in range(3):
        process = _api(tmp_path, broker, port)
        try:
            await asyncio.to_thread(_until_it_listens, port, process, tmp_path / "api.log")
            begun = len(acknowledged)
            sending = [asyncio.create_task(send(batch_id)) for batch_id in waiting if batch_id not in acknowledged]
            if life < 2:
                while len(acknowledged) < begun + 8 and not all(task.done() for task in sending):
                    await asyncio.sleep(0.001)
                process.send_signal(signal.SIGKILL)
            await asyncio.gather(*sending, return_exceptions=True)
        finally:
            process.kill()
            process.wait()
        kept = Counter(row["batch_id"] for row in committed(broker, "events.tabular") if row["batch_id"].startswith("kill-"))
        assert set(kept) >= acknowledged, "every acknowledged batch is there"
        assert set(kept.values()) == {200}, "whole, and once"
    assert acknowledged == set(waiting)
    assert set(kept) == set(waiting)
