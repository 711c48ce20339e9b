"""Every version of every request, to a running broker and back; and bytes that are no request."""

from __future__ import annotations

import contextlib
import io
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.serial import entity_writer
from kio.static.constants import EntityType

from broker.apis.table import APIS, PRODUCE_KEY, VERSIONS
from broker.wire import MalformedRequest, decode_request, entity_builder, has_schema
from tests.contract.broker.clients import RawClient, batch, create_topic, entity_class
from tests.services.kafka import Cluster, start_embedded

TOPIC = "versions"
NO_ID = uuid.UUID(int=0)

# What a request of each kind says, with the names of all versions; a version takes those it knows.
_PLACE = {"name": TOPIC, "topic": TOPIC, "topic_id": NO_ID}
REQUESTS: dict[int, dict[str, Any]] = {
    0: {
        "acks": -1,
        "timeout": 1000,
        "topic_data": [{**_PLACE, "partition_data": [{"index": 0, "records": batch([b"x"])}]}],
    },
    1: {
        "max_wait": 10,
        "min_bytes": 1,
        "topics": [{**_PLACE, "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}]}],
    },
    2: {
        "replica_id": -1,
        "isolation_level": 1,
        "topics": [{**_PLACE, "partitions": [{"partition_index": 0, "timestamp": -1}]}],
    },
    3: {
        "topics": [{"name": TOPIC, "topic_id": NO_ID}],
        "include_topic_authorized_operations": False,
        "include_cluster_authorized_operations": False,
    },
    8: {
        "group_id": "g",
        "member_id": "",
        "topics": [{**_PLACE, "partitions": [{"partition_index": 0, "committed_offset": 1, "committed_metadata": "m"}]}],
        "retention_time_ms": -1,
    },
    9: {"group_id": "g", "groups": [{"group_id": "g", "topics": None}], "topics": [{"name": TOPIC, "partition_indexes": [0]}]},
    10: {"key": "g", "coordinator_keys": ["g"]},
    11: {
        "group_id": "joined",
        "session_timeout": 10,  # refused, so that nobody waits for this member
        "rebalance_timeout": 10_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b""}],
    },
    12: {"group_id": "g", "generation_id": 1, "member_id": "m"},
    13: {"group_id": "g", "member_id": "m", "members": [{"member_id": "m"}]},
    14: {"group_id": "g", "generation_id": 1, "member_id": "m", "assignments": []},
    15: {"groups": ["g"], "include_authorized_operations": False},
    16: {},
    18: {"client_software_name": "test", "client_software_version": "1"},
    19: {"topics": [{"name": TOPIC, "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}]},
    20: {"topic_names": ["absent"], "topics": [{"name": "absent"}], "timeout": 1000},
    22: {"transactional_id": None, "transaction_timeout": 1000},
    24: {
        "v3_and_below_transactional_id": "x",
        "v3_and_below_producer_id": 1,
        "v3_and_below_producer_epoch": 0,
        "v3_and_below_topics": [{"name": TOPIC, "partitions": [0]}],
    },
    25: {"transactional_id": "x", "producer_id": 1, "producer_epoch": 0, "group_id": "g"},
    26: {"transactional_id": "x", "producer_id": 1, "producer_epoch": 0, "committed": True},
    28: {
        "transactional_id": "x",
        "group_id": "g",
        "producer_id": 1,
        "producer_epoch": 0,
        "topics": [{"name": TOPIC, "partitions": [{"partition_index": 0, "committed_offset": 1, "committed_metadata": None}]}],
    },
    21: {"topics": [{"name": TOPIC, "partitions": [{"partition_index": 0, "offset": 0}]}], "timeout": 1000},
    32: {"resources": [{"resource_type": 2, "resource_name": TOPIC, "configuration_keys": None}]},
    44: {"resources": [{"resource_type": 2, "resource_name": TOPIC, "configs": []}], "validate_only": True},
    60: {"include_cluster_authorized_operations": False},
    42: {"groups_names": ["absent"]},
    37: {"topics": [{"name": TOPIC, "count": 1, "assignments": None}], "timeout": 1000, "validate_only": True},
}
EVERY_VERSION = [
    (key, version) for key, (lowest, highest) in sorted(VERSIONS.items()) for version in range(lowest, highest + 1)
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = start_embedded(tmp_path_factory.mktemp("wire"))
    create_topic(cluster.bootstrap, TOPIC)
    yield cluster
    cluster.stop()


@pytest.mark.parametrize(("api_key", "version"), EVERY_VERSION)
def test_every_version_is_answered_in_its_own_form(cluster: Cluster, api_key: int, version: int) -> None:
    assert has_schema(api_key, version)
    request = entity_builder(entity_class(api_key, version, EntityType.request))(REQUESTS[api_key])
    with RawClient(cluster.bootstrap) as client:
        answer = client.ask(request)  # fails if the answer cannot be read, or has bytes left over
    assert answer.__version__ == version
    assert ErrorCode.unknown_server_error not in set(error_codes(answer))


def error_codes(entity: Any) -> Iterator[ErrorCode]:
    """All error codes in an entity, however deep."""
    if isinstance(entity, tuple):
        for item in entity:
            yield from error_codes(item)
    elif hasattr(entity, "__dataclass_fields__"):
        for name in entity.__dataclass_fields__:
            yield from error_codes(getattr(entity, name))
    elif isinstance(entity, ErrorCode):
        yield entity


def test_the_table_and_the_samples_name_the_same_requests() -> None:
    assert set(REQUESTS) == set(VERSIONS) == {PRODUCE_KEY, *APIS}


def frame(api_key: int, version: int) -> bytes:
    request = entity_builder(entity_class(api_key, version, EntityType.request))(REQUESTS[api_key])
    header_class = request.__header_schema__
    out = io.BytesIO()
    header = header_class(request_api_key=api_key, request_api_version=version, correlation_id=1, client_id="c")
    entity_writer(header_class)(out, header)
    entity_writer(type(request))(out, request)
    return out.getvalue()


@given(
    which=st.sampled_from(EVERY_VERSION),
    cut=st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
)
def test_damaged_requests_are_refused_and_nothing_else_is_raised(
    which: tuple[int, int], cut: int, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(frame(*which))
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(MalformedRequest):
        decode_request(bytes(data[: len(data) - cut % (len(data) + 1)]), VERSIONS)


def test_an_unknown_tagged_field_is_refused_cleanly() -> None:
    data = frame(22, 4)
    assert data[-1:] == b"\x00", "no tagged fields so far"
    with pytest.raises(MalformedRequest):
        decode_request(data[:-1] + b"\x01\x63\x01\x00", VERSIONS)


def test_a_length_that_claims_too_much_is_refused() -> None:
    data = frame(2, 1)
    with pytest.raises(MalformedRequest):
        decode_request(data[:-20] + struct.pack(">i", 2**31 - 1) + data[-16:], VERSIONS)
