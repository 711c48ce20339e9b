"""`KafkaSink` against a real broker: an epoch is in the topic once or not at all, whoever dies when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from core.errors import ConflictError, InvalidInputError, UnavailableError
from engine.connectors.kafka_sink import KafkaSink
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.statements import Format
from engine.sql.types import INT8, VARCHAR

FIELDS = [("id", VARCHAR), ("n", INT8)]
PLAIN, UPSERT = Format("PLAIN", "JSON"), Format("UPSERT", "JSON")
DEADLINE_SECONDS = 20.0


@pytest.fixture
def topic(bootstrap: str) -> str:
    name = f"sink-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 3, 1)])[name].result(DEADLINE_SECONDS)
    return name


def options(bootstrap: str, topic: str, **more: str) -> dict[str, str]:
    return {"connector": "kafka", "topic": topic, "properties.bootstrap.server": bootstrap} | more


def rows(*changes: tuple[int, str, int]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([change[1] for change in changes], pa.string()),
            "n": pa.array([change[2] for change in changes], pa.int64()),
            "_op": pa.array([change[0] for change in changes], pa.int8()),
        }
    )


def committed_records(bootstrap: str, topic: str, partitions: int = 3) -> list[tuple[int, str | None, object]]:
    """All committed records of the topic: partition, key, value; in order within a partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "check",
            "isolation.level": "read_committed",
            "enable.partition.eof": "true",
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    # A commit is answered before its markers are in the partitions: what ends before the last written record is not the end.
    plain = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", "isolation.level": "read_uncommitted"})
    written = [plain.get_watermark_offsets(TopicPartition(topic, p), 20, cached=False)[1] for p in range(partitions)]
    plain.close()
    records: list[tuple[int, str | None, object]] = []
    ended: set[int] = set()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(ended) < partitions:
        assert time.monotonic() < deadline, "partitions do not end: a transaction is open"
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error() is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            if message.offset() >= written[message.partition()]:
                ended.add(message.partition())
            continue
        value = message.value()
        key = message.key()
        records.append((message.partition(), key and key.decode(), json.loads(value) if value is not None else None))
    consumer.close()
    return records


def test_epochs_are_delivered_in_order_and_remembered(bootstrap: str, topic: str) -> None:
    identity = uuid.uuid4()
    sink = KafkaSink(identity, options(bootstrap, topic), FIELDS, shape=PLAIN)
    assert sink.open() == 0
    sink.deliver(3, rows((1, "a", 1), (1, "b", 2)))
    sink.deliver(4, rows())
    sink.deliver(7, rows((1, "c", 3)))
    sink.close()
    again = KafkaSink(identity, options(bootstrap, topic), FIELDS, shape=PLAIN)
    assert again.open() == 7
    again.close()
    other = KafkaSink(uuid.uuid4(), options(bootstrap, topic), FIELDS, shape=PLAIN)
    assert other.open() == 0, "another sink has its own epochs"
    other.close()
    found = committed_records(bootstrap, topic)
    assert sorted(json.dumps(value) for _, _, value in found) == [
        '{"id": "a", "n": 1}',
        '{"id": "b", "n": 2}',
        '{"id": "c", "n": 3}',
    ]
    assert {key for _, key, _ in found} == {None}


def test_a_primary_key_is_the_records_key_and_java_clients_find_its_partition(bootstrap: str, topic: str) -> None:
    sink = KafkaSink(uuid.uuid4(), options(bootstrap, topic, primary_key="id"), FIELDS, shape=PLAIN)
    sink.open()
    sink.deliver(1, rows(*[(1, f"k{i}", i) for i in range(20)]))
    sink.close()
    for partition, key, value in committed_records(bootstrap, topic):
        assert isinstance(value, dict)
        assert key == json.dumps({"id": value["id"]}, separators=(",", ":"))
        assert partition == (murmur2(key.encode()) & 0x7FFFFFFF) % 3


def murmur2(data: bytes) -> int:
    """The hash of the Java client's default partitioner, from its published definition."""
    mask, m, h = 0xFFFFFFFF, 0x5BD1E995, 0x9747B28C ^ len(data)
    for i in range(0, len(data) // 4 * 4, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    tail = data[len(data) // 4 * 4 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_upserts_write_the_new_version_and_a_tombstone_for_a_deletion(bootstrap: str, topic: str) -> None:
    sink = KafkaSink(uuid.uuid4(), options(bootstrap, topic), FIELDS, primary_key=["id"], shape=UPSERT)
    sink.open()
    changes = rows((1, "a", 1), (1, "b", 1), (3, "a", 1), (4, "a", 2), (2, "b", 1), (3, "a", 2), (4, "c", 2))
    sink.deliver(1, changes)
    sink.close()
    log: dict[str | None, list[object]] = {}
    for _, key, value in committed_records(bootstrap, topic):
        log.setdefault(key, []).append(value)
    assert log == {
        '{"id":"a"}': [{"id": "a", "n": 1}, {"id": "a", "n": 2}, None],
        '{"id":"b"}': [{"id": "b", "n": 1}, None],
        '{"id":"c"}': [{"id": "c", "n": 2}],
    }


def test_plain_refuses_deletions_and_forced_append_only_leaves_them_out(bootstrap: str, topic: str) -> None:
    changes = rows((1, "a", 1), (2, "b", 1), (3, "c", 1), (4, "c", 2))
    sink = KafkaSink(uuid.uuid4(), options(bootstrap, topic), FIELDS, shape=PLAIN)
    sink.open()
    with pytest.raises(InvalidInputError, match="force_append_only"):
        sink.deliver(1, changes)
    sink.close()
    forced = KafkaSink(
        uuid.uuid4(), options(bootstrap, topic), FIELDS, shape=Format("PLAIN", "JSON", {"force_append_only": "true"})
    )
    forced.open()
    forced.deliver(1, changes)
    forced.close()
    assert sorted(str(value["id"]) for _, _, value in committed_records(bootstrap, topic) if isinstance(value, dict)) == [
        "a",
        "c",
    ]


def test_an_older_writer_is_fenced_off_and_says_so(bootstrap: str, topic: str) -> None:
    identity = uuid.uuid4()
    old = KafkaSink(identity, options(bootstrap, topic), FIELDS, shape=PLAIN)
    old.open()
    old.deliver(1, rows((1, "a", 1)))
    new = KafkaSink(identity, options(bootstrap, topic), FIELDS, shape=PLAIN)
    assert new.open() == 1
    with pytest.raises(ConflictError, match="a newer writer has this sink"):
        old.deliver(2, rows((1, "late", 2)))
    new.deliver(2, rows((1, "b", 2)))
    new.close()
    assert sorted(value["id"] for _, _, value in committed_records(bootstrap, topic) if isinstance(value, dict)) == ["a", "b"]


WRITER = """
import sys, uuid
import pyarrow as pa
from engine.connectors.kafka_sink import KafkaSink
from engine.sql.types import INT8, VARCHAR

bootstrap, topic, identity = sys.argv[1:]
options = {"connector": "kafka", "topic": topic, "properties.bootstrap.server": bootstrap, "primary_key": "id"}
sink = KafkaSink(uuid.UUID(identity), options, [("id", VARCHAR), ("n", INT8)])
epoch = sink.open()
print("opened", epoch, flush=True)
while True:
    epoch += 1
    rows = [f"{epoch}-{i}" for i in range(50)]
    sink.deliver(epoch, pa.table({"id": rows, "n": pa.array([epoch] * 50, pa.int64()), "_op": pa.array([1] * 50, pa.int8())}))
    print("delivered", epoch, flush=True)
"""


def test_after_sigkill_at_any_moment_each_epoch_is_there_once_and_whole(bootstrap: str, topic: str, tmp_path: Path) -> None:
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    identity = uuid.uuid4()
    acknowledged = 0
    for round_ in range(4):
        command = [sys.executable, str(script), bootstrap, topic, str(identity)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        word, epoch = process.stdout.readline().split()
        assert word == "opened"
        assert int(epoch) >= acknowledged, "an acknowledged epoch was forgotten"
        for _ in range(2 + round_):
            acknowledged = int(process.stdout.readline().split()[1])
        time.sleep(0.003 * round_)  # so that the kill falls into different steps of the next delivery
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    sink = KafkaSink(identity, options(bootstrap, topic, primary_key="id"), FIELDS)
    last = sink.open()
    sink.close()
    assert last >= acknowledged
    found = [value["id"] for _, _, value in committed_records(bootstrap, topic) if isinstance(value, dict)]
    assert len(found) == len(set(found)), "a row is in the topic twice"
    assert set(found) == {f"{epoch}-{i}" for epoch in range(1, last + 1) for i in range(50)}


def test_a_delivery_that_failed_before_its_commit_can_be_made_again(bootstrap: str, topic: str) -> None:
    identity = uuid.uuid4()
    sink = KafkaSink(identity, options(bootstrap, topic) | {"properties.message.max.bytes": "2000"}, FIELDS, shape=PLAIN)
    sink.open()
    with pytest.raises(InvalidInputError, match=r"message\.max\.bytes"):
        sink.deliver(1, rows((1, "a", 1), (1, "x" * 5000, 2)))
    sink.deliver(1, rows((1, "a", 1)))
    sink.close()
    assert [value for _, _, value in committed_records(bootstrap, topic)] == [{"id": "a", "n": 1}]


def test_a_commit_whose_answer_is_lost_is_not_delivered_again(bootstrap: str, topic: str) -> None:
    """The engine delivers an epoch that is in already: as after a crash between the commit and the note of it."""
    identity = uuid.uuid4()
    sink = KafkaSink(identity, options(bootstrap, topic), FIELDS, shape=PLAIN)
    sink.open()
    sink.deliver(5, rows((1, "a", 1)))
    sink.close()  # as an error does: the next delivery must look first
    sink.deliver(5, rows((1, "a", 1)))
    sink.deliver(6, rows((1, "b", 1)))
    sink.close()
    assert sorted(str(value["id"]) for _, _, value in committed_records(bootstrap, topic) if isinstance(value, dict)) == [
        "a",
        "b",
    ]


def test_brokers_that_are_away_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.connectors.kafka_sink._CALL_SECONDS", 0.5)
    sink = KafkaSink(uuid.uuid4(), options("127.0.0.1:1", "t"), FIELDS, shape=PLAIN)
    with pytest.raises(UnavailableError):
        sink.open()


@pytest.mark.parametrize(
    ("more", "shape", "error", "message"),
    [
        ({}, Format("PLAIN", "AVRO"), UnsupportedQuery, "FORMAT PLAIN ENCODE AVRO"),
        ({}, Format("DEBEZIUM", "JSON"), UnsupportedQuery, "FORMAT DEBEZIUM"),
        ({}, UPSERT, InvalidParameter, "needs a primary key"),
        ({"primary_key": "idd"}, PLAIN, InvalidParameter, "`idd` is not a column"),
        ({"type": "upsert"}, PLAIN, InvalidParameter, "contradicts FORMAT PLAIN"),
        ({"propertes.x": "1"}, PLAIN, InvalidParameter, "unknown option `propertes.x`"),
        ({}, Format("PLAIN", "JSON", {"jsonb.handling.mode": "xml"}), InvalidParameter, "cannot be `xml`"),
        ({}, Format("PLAIN", "JSON", {"schemas.enable": "true"}), UnsupportedQuery, r"schemas\.enable"),
    ],
)
def test_wrong_options_are_refused_by_name(more: dict[str, str], shape: Format, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        KafkaSink(uuid.uuid4(), options("b:1", "t") | more, FIELDS, shape=shape)
