"""The same broker through aiokafka, a client that shares no code with librdkafka and speaks other versions."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from tests.contract.broker.clients import create_topic


async def values(bootstrap: str, topic: str, count: int, **config: object) -> list[bytes]:
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, **config)
    await reader.start()
    try:
        reader.assign([TopicPartition(topic, 0)])
        await reader.seek_to_beginning(TopicPartition(topic, 0))
        async with asyncio.timeout(30):
            return [(await reader.getone()).value for _ in range(count)]
    finally:
        await reader.stop()


@pytest.mark.parametrize("codec", [None, "gzip"])
async def test_records_come_back_in_order(bootstrap: str, topic: str, codec: str | None) -> None:
    create_topic(bootstrap, topic)
    sent = [b"%d" % number for number in range(500)]
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, compression_type=codec) as client:
        await asyncio.gather(*[await client.send(topic, value, partition=0) for value in sent])
    assert await values(bootstrap, topic, len(sent)) == sent


async def test_offsets_by_time_and_ends(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, message_timestamp_type="CreateTime")
    place = TopicPartition(topic, 0)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as client:
        for number in range(10):
            await client.send_and_wait(topic, b"x", partition=0, timestamp_ms=1_700_000_000_000 + number * 10)
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await reader.start()
    try:
        assert await reader.end_offsets([place]) == {place: 10}
        assert await reader.beginning_offsets([place]) == {place: 0}
        found = await reader.offsets_for_times({place: 1_700_000_000_045})
        assert found[place].offset == 5
    finally:
        await reader.stop()


async def test_transactions_commit_and_abort(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    place = TopicPartition(topic, 0)
    client = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"a-{topic}")
    await client.start()
    try:
        async with client.transaction():
            await client.send_and_wait(topic, b"yes", partition=0)
            await client.send_offsets_to_transaction({place: OffsetAndMetadata(7, "")}, f"g-{topic}")
        await client.begin_transaction()
        await client.send_and_wait(topic, b"no", partition=0)
        await client.abort_transaction()
        async with client.transaction():
            await client.send_and_wait(topic, b"again", partition=0)
    finally:
        await client.stop()
    assert await values(bootstrap, topic, 2, isolation_level="read_committed") == [b"yes", b"again"]
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=f"g-{topic}", enable_auto_commit=False)
    await reader.start()
    try:
        assert await reader.committed(place) == 7
    finally:
        await reader.stop()


async def test_a_group_reads_and_commits(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic, partitions=2)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as client:
        for number in range(20):
            await client.send_and_wait(topic, b"%d" % number, partition=number % 2)
    seen: list[int] = []
    for _ in range(2):
        reader = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=f"g-{topic}",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=10,
        )
        await reader.start()
        try:
            count = 0
            async with asyncio.timeout(30):
                while count < 10:
                    for messages in (await reader.getmany(timeout_ms=500, max_records=10 - count)).values():
                        seen += [int(message.value) for message in messages]
                        count += len(messages)
            await reader.commit()
        finally:
            await reader.stop()
    assert sorted(seen) == list(range(20))
