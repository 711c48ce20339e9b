"""Small helpers around confluent-kafka, and a client that speaks the protocol byte by byte."""

from __future__ import annotations

import io
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kio.records.schema import NewRecordBatch, Record
from kio.records.writers import write_new_batch
from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map, schema_name_map
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

DEADLINE_SECONDS = 30.0


def create_topic(bootstrap: str, name: str, partitions: int = 1, **config: str) -> None:
    """Create a topic; `message_timestamp_type="LogAppendTime"` stands for the name with dots."""
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(DEADLINE_SECONDS)


def producer(bootstrap: str, **config: Any) -> Producer:
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, **{k.replace("_", "."): v for k, v in config.items()}})


def produce(bootstrap: str, topic: str, values: Iterable[bytes], **config: Any) -> list[Message]:
    """Produce values to partition 0 and return the acknowledged messages."""
    client = producer(bootstrap, **config)
    acknowledged: list[Message] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        acknowledged.append(message)

    for value in values:
        client.produce(topic, value, partition=0, on_delivery=delivered)
        client.poll(0)
    assert client.flush(DEADLINE_SECONDS) == 0
    return acknowledged


def consumer(bootstrap: str, group: str = "nobody", **config: Any) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            **{k.replace("_", "."): v for k, v in config.items()},
        }
    )


def read(
    bootstrap: str, topic: str, count: int, offset: int = OFFSET_BEGINNING, partition: int = 0, **config: Any
) -> list[Message]:
    """Read `count` messages by assignment.

    Raises:
        AssertionError: an error event came, or they did not come in time.
    """
    client = consumer(bootstrap, **config)
    client.assign([TopicPartition(topic, partition, offset)])
    messages: list[Message] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while len(messages) < count:
            assert time.monotonic() < deadline, f"{len(messages)} of {count} messages came"
            for message in client.consume(count - len(messages), 0.2):
                assert message.error() is None, message.error()
                messages.append(message)
    finally:
        client.close()
    return messages


def read_to_end(bootstrap: str, topic: str, partition: int = 0, **config: Any) -> list[bytes]:
    """Read the values of everything up to the end (of what this isolation level may see)."""
    client = consumer(bootstrap, enable_partition_eof=True, **config)
    client.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    values: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while time.monotonic() < deadline:
            for message in client.consume(5000, 0.2):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return values
                assert error is None, error
                values.append(message.value())
    finally:
        client.close()
    raise AssertionError("the end of the partition was not reached in time")


def eventually(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


def entity_class(api_key: int, version: int, kind: EntityType) -> Any:
    module, _, name = schema_name_map[api_key_map[api_key]][version][kind].partition(":")
    return getattr(import_module(module), name)


def nested_class(entity: Any, name: str) -> Any:
    """A nested entity of the same module, e.g. `FetchTopic`."""
    return getattr(import_module(entity.__module__), name)


class RawClient:
    """One connection on which any request can be sent, right or wrong."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=DEADLINE_SECONDS)
        self._correlation = 0

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def is_closed(self) -> bool:
        """Wait for the other side to close; false if it answers instead."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def send(self, body: Any) -> None:
        header_class = body.__header_schema__
        self._correlation += 1
        out = io.BytesIO()
        entity_writer(header_class)(
            out,
            header_class(
                request_api_key=body.__api_key__,
                request_api_version=body.__version__,
                correlation_id=self._correlation,
                client_id="raw",
            ),
        )
        entity_writer(type(body))(out, body)
        self.send_bytes(struct.pack(">i", len(out.getvalue())) + out.getvalue())

    def receive(self, api_key: int, version: int) -> Any:
        length = struct.unpack(">i", self._exactly(4))[0]
        data = self._exactly(length)
        entity = entity_class(api_key, version, EntityType.response)
        header, size = entity_reader(entity.__header_schema__)(data, 0)
        assert header.correlation_id == self._correlation
        body, body_size = entity_reader(entity)(data, size)
        assert size + body_size == len(data), "bytes are left over"
        return body

    def ask(self, body: Any) -> Any:
        self.send(body)
        return self.receive(body.__api_key__, body.__version__)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            assert piece, "the connection was closed"
            data += piece
        return data


def batch(values: Sequence[bytes], *, producer_id: int = -1, epoch: int = -1, sequence: int = -1, attributes: int = 0) -> bytes:
    """A record batch as a producer sends it."""
    now = datetime.now(UTC).replace(microsecond=0)
    records = tuple(
        Record(attributes=0, timestamp=now + timedelta(seconds=0), offset=number, key=None, value=value, headers=())
        for number, value in enumerate(values)
    )
    out = io.BytesIO()
    write_new_batch(
        out,
        NewRecordBatch(
            producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, attributes=attributes, records=records
        ),
    )
    return out.getvalue()


def produce_request(
    topic: str, records: bytes, *, version: int = 9, acks: int = -1, transactional_id: str | None = None
) -> Any:
    request = entity_class(0, version, EntityType.request)
    part = nested_class(request, "PartitionProduceData")(index=0, records=records)
    data = nested_class(request, "TopicProduceData")(name=topic, partition_data=(part,))
    return request(transactional_id=transactional_id, acks=acks, timeout=timedelta(seconds=10), topic_data=(data,))


def produce_raw(client: RawClient, topic: str, records: bytes, **options: Any) -> Any:
    """Produce to partition 0 of a topic that exists and return its part of the response."""
    request = produce_request(topic, records, **options)
    return patiently(lambda: client.ask(request).responses[0].partition_responses[0])


def patiently(ask: Callable[[], Any]) -> Any:
    """Ask again while the broker says that it is not ready yet, as every client does; Apache Kafka settles in the background."""
    settling = {
        ErrorCode.coordinator_load_in_progress,
        ErrorCode.coordinator_not_available,
        ErrorCode.not_coordinator,
        ErrorCode.not_leader_or_follower,
        ErrorCode.not_enough_replicas,
        ErrorCode.unknown_topic_or_partition,
    }
    answers: list[Any] = []

    def answered() -> bool:
        answers.append(ask())
        return answers[-1].error_code not in settling

    eventually(answered, "an answer of a broker that is ready")
    return answers[-1]
