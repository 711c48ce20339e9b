"""Acknowledged means durable: the log on a real broker that is killed."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from api.ingest.log import KafkaLog
from api.ingest.verdicts import Record
from core.errors import UnavailableError
from tests.unit.api.doubles import eventually

pytestmark = pytest.mark.xdist_group("processes")


class _Broker:
    def __init__(self, data_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "headrace", "serve", "broker", "--listen", self.address]
        self._process = subprocess.Popen(
            [*command, "--data-dir", str(self._data_dir)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def listens(self) -> bool:
        host, port = self.address.split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[_Broker]:
    running = _Broker(tmp_path)
    running.start()
    yield running
    running.kill()


def _read(address: str, topic: str, expected: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        values: list[bytes] = []
        while len(values) < expected:
            message = consumer.poll(10)
            assert message is not None, f"only {len(values)} of {expected}"
            assert message.error() is None
            values.append(message.value())
        assert consumer.poll(0.3) is None, "more than was sent"
        return values
    finally:
        consumer.close()


async def test_what_was_acknowledged_is_there_once_and_in_order_after_a_kill(broker: _Broker) -> None:
    await eventually(broker.listens, 60)
    log = KafkaLog(broker.address, max_message_bytes=1 << 20)
    try:
        first = [Record(b"acme/pump", b"%d" % number) for number in range(500)]
        await asyncio.gather(log.append("events.plant", first), log.append("quarantine.plant", []))
        broker.kill()
        broker.start()
        await eventually(broker.listens, 60)
        second = [Record(b"acme/pump", b"%d" % number) for number in range(500, 1000)]
        await log.append("events.plant", second)
        found = await asyncio.to_thread(_read, broker.address, "events.plant", 1000)
    finally:
        await asyncio.to_thread(log.close, 5)
    assert found == [b"%d" % number for number in range(1000)]


async def test_without_an_acknowledgement_append_fails_in_time_and_says_that_it_may_be_repeated(broker: _Broker) -> None:
    await eventually(broker.listens, 60)
    log = KafkaLog(broker.address, max_message_bytes=1 << 20, acknowledge_seconds=5.0)
    try:
        await log.append("events.plant", [Record(b"k", b"v")])
        broker.kill()
        async with asyncio.timeout(20):
            with pytest.raises(UnavailableError) as raised:
                await log.append("events.plant", [Record(b"k", b"w")])
        assert raised.value.retryable
        assert not await asyncio.to_thread(log.reachable, 0.5)
    finally:
        await asyncio.to_thread(log.close, 1)


async def test_a_caller_that_gave_up_leaves_the_log_usable(broker: _Broker) -> None:
    await eventually(broker.listens, 60)
    log = KafkaLog(broker.address, max_message_bytes=1 << 20)
    try:
        append = asyncio.create_task(log.append("events.plant", [Record(b"k", b"0")]))
        await asyncio.sleep(0)
        append.cancel()
        await asyncio.gather(append, return_exceptions=True)
        await log.append("events.plant", [Record(b"k", b"1")])
        assert await asyncio.to_thread(_read, broker.address, "events.plant", 2) == [b"0", b"1"]
    finally:
        await asyncio.to_thread(log.close, 5)
