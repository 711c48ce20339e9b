"""What the protocol says, byte by byte: sequence numbers, checksums, malformed requests. Ours and Apache Kafka alike."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kio.schema.errors import ErrorCode
from kio.static.constants import EntityType

from tests.contract.broker.clients import (
    RawClient,
    batch,
    create_topic,
    entity_class,
    nested_class,
    patiently,
    produce,
    produce_raw,
    produce_request,
    read,
    read_to_end,
)
from tests.services.kafka import Cluster

INIT_PRODUCER_ID, FETCH, API_VERSIONS, FIND_COORDINATOR = 22, 1, 18, 10


def new_producer(client: RawClient) -> int:
    request = entity_class(INIT_PRODUCER_ID, 4, EntityType.request)
    asked = request(transactional_id=None, transaction_timeout=timedelta(seconds=60), producer_id=-1, producer_epoch=-1)
    answer = patiently(lambda: client.ask(asked))
    assert answer.error_code is ErrorCode.none
    return int(answer.producer_id)


def test_a_batch_sent_twice_is_stored_once(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    with RawClient(bootstrap) as client:
        producer_id = new_producer(client)
        first = batch([b"a", b"b"], producer_id=producer_id, epoch=0, sequence=0)
        second = batch([b"c"], producer_id=producer_id, epoch=0, sequence=2)
        offsets = [produce_raw(client, topic, data).base_offset for data in (first, second, first, second)]
    assert offsets == [0, 2, 0, 2]
    assert read_to_end(bootstrap, topic) == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("sequence", "epoch", "code"),
    [
        (5, 0, ErrorCode.out_of_order_sequence_number),
        (0, -1, None),
        (7, 1, ErrorCode.out_of_order_sequence_number),
        (0, 1, ErrorCode.none),
    ],
)
def test_sequence_and_epoch_are_checked(bootstrap: str, topic: str, sequence: int, epoch: int, code: ErrorCode | None) -> None:
    create_topic(bootstrap, topic)
    with RawClient(bootstrap) as client:
        producer_id = new_producer(client)
        assert (
            produce_raw(client, topic, batch([b"a"], producer_id=producer_id, epoch=0, sequence=0)).error_code is ErrorCode.none
        )
        answer = produce_raw(client, topic, batch([b"b"], producer_id=producer_id, epoch=epoch, sequence=sequence))
        # An epoch that cannot be is refused by both, under different names.
        assert answer.error_code is code if code is not None else answer.error_code is not ErrorCode.none


def test_an_old_epoch_is_refused(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    with RawClient(bootstrap) as client:
        producer_id = new_producer(client)
        assert (
            produce_raw(client, topic, batch([b"a"], producer_id=producer_id, epoch=3, sequence=0)).error_code is ErrorCode.none
        )
        answer = produce_raw(client, topic, batch([b"b"], producer_id=producer_id, epoch=2, sequence=0))
        assert answer.error_code is ErrorCode.invalid_producer_epoch


def test_a_damaged_batch_is_refused_and_the_connection_lives(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    good = batch([b"good"])
    bad = bytearray(good)
    bad[-3] ^= 0x10
    with RawClient(bootstrap) as client:
        assert produce_raw(client, topic, bytes(bad)).error_code is ErrorCode.corrupt_message
        assert produce_raw(client, topic, good).base_offset == 0
    assert read_to_end(bootstrap, topic) == [b"good"]


def test_a_client_cannot_write_a_marker(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    with RawClient(bootstrap) as client:
        answer = produce_raw(client, topic, batch([b"x"], attributes=0x20))
    assert answer.error_code is ErrorCode.invalid_record


def test_a_transactional_batch_outside_of_a_transaction_is_refused(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    with RawClient(bootstrap) as client:
        # Apache Kafka opens its transaction log when somebody asks for the coordinator.
        patiently(lambda: client.ask(entity_class(FIND_COORDINATOR, 2, EntityType.request)(key="nobody", key_type=1)))
        data = batch([b"x"], producer_id=987_654, epoch=0, sequence=0, attributes=0x10)
        answer = patiently(lambda: produce_raw(client, topic, data, transactional_id="nobody"))
    assert answer.error_code in (ErrorCode.invalid_txn_state, ErrorCode.invalid_producer_id_mapping)
    assert read_to_end(bootstrap, topic) == []


def test_an_unknown_partition_and_wrong_acks_have_their_codes(bootstrap: str, topic: str) -> None:
    with RawClient(bootstrap) as client:
        answer = client.ask(produce_request(topic, batch([b"x"]))).responses[0].partition_responses[0]
        assert answer.error_code is ErrorCode.unknown_topic_or_partition
    create_topic(bootstrap, topic)
    with RawClient(bootstrap) as client:
        assert produce_raw(client, topic, batch([b"x"]), acks=5).error_code is ErrorCode.invalid_required_acks


def test_without_acknowledgement_there_is_no_answer(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    with RawClient(bootstrap) as client:
        # Acknowledged first: a broker that does not lead the topic yet can tell so only by closing, when acks is 0.
        assert produce_raw(client, topic, batch([b"first"])).base_offset == 0
        client.send(produce_request(topic, batch([b"quiet"]), acks=0))
        # The next answer belongs to the next request, or its correlation id would not fit.
        assert produce_raw(client, topic, batch([b"loud"])).base_offset == 2
    assert read_to_end(bootstrap, topic) == [b"first", b"quiet", b"loud"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x7f\xff\xff\xff", id="a length of two gigabytes"),
        pytest.param(b"\xff\xff\xff\xff", id="a negative length"),
        pytest.param(b"\x00\x00\x00\x04\x00\x00\x00\x09", id="a header cut short"),
        pytest.param(b"\x00\x00\x00\x0a\x03\xe7\x00\x00\x00\x00\x00\x01\xff\xff", id="an unknown api"),
        pytest.param(b"\x00\x00\x00\x0a\x00\x03\x00\x63\x00\x00\x00\x01\xff\xff", id="an unknown version"),
        pytest.param(b"\x00\x00\x00\x0f\x00\x03\x00\x09\x00\x00\x00\x01\xff\xff\x00\xff\xff\xff\xff", id="a body cut short"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="another protocol"),
    ],
)
def test_a_malformed_request_costs_its_connection_only(kafka_cluster: Cluster, topic: str, data: bytes) -> None:
    bootstrap = kafka_cluster.bootstrap
    create_topic(bootstrap, topic)
    with RawClient(bootstrap) as other, RawClient(bootstrap) as bad:
        bad.send_bytes(data)
        assert bad.is_closed()
        assert produce_raw(other, topic, batch([b"still here"])).base_offset == 0


def test_a_version_of_api_versions_from_the_future_is_answered_in_version_0(bootstrap: str) -> None:
    with RawClient(bootstrap) as client:
        client.send_bytes(b"\x00\x00\x00\x0b\x00\x12\x00\x63\x00\x00\x00\x00\xff\xff\x00")
        answer = client.receive(API_VERSIONS, 0)
    assert answer.error_code is ErrorCode.unsupported_version
    assert API_VERSIONS in {item.api_key for item in answer.api_keys}


def test_at_least_one_batch_is_served_however_small_the_limit(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, [b"x" * 5000])
    request = entity_class(FETCH, 11, EntityType.request)
    part = nested_class(request, "FetchPartition")(partition=0, fetch_offset=0, partition_max_bytes=1)
    with RawClient(bootstrap) as client:
        answer = client.ask(
            request(
                replica_id=-1,
                max_wait=timedelta(milliseconds=100),
                min_bytes=1,
                max_bytes=1,
                topics=(nested_class(request, "FetchTopic")(topic=topic, partitions=(part,)),),
                forgotten_topics_data=(),
            )
        )
    assert len(answer.responses[0].partitions[0].records) > 5000


def test_the_acknowledged_offset_is_where_the_record_is(bootstrap: str, topic: str) -> None:
    create_topic(bootstrap, topic)
    acknowledged = produce(bootstrap, topic, [str(number).encode() for number in range(500)], enable_idempotence=True)
    found = {message.offset(): message.value() for message in read(bootstrap, topic, 500)}
    assert {message.offset(): message.value() for message in acknowledged} == found
