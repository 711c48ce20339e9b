"""Which requests we answer, in which versions, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

from kio.schema.errors import ErrorCode

from broker.apis import (
    configs,
    create_topics,
    delete_records,
    fetch,
    find_coordinator,
    groups,
    init_producer_id,
    list_offsets,
    metadata,
    offset_commit,
    offset_fetch,
    transactions,
)
from broker.node import Node
from broker.wire import API_VERSIONS_KEY, Fields, Request

Handler = Callable[[Node, Request], Coroutine[None, None, Fields]]

PRODUCE_KEY = 0
PRODUCE_VERSIONS = (3, 10)


async def api_versions(_node: Node, request: Request) -> Fields:
    """Say what we speak.

    Produce is announced from version 0 though the least we read is 3, as Apache Kafka 4 does (KAFKA-18659): older
    librdkafka takes a higher minimum for a broker without compression.
    """
    advertised = {**VERSIONS, PRODUCE_KEY: (0, PRODUCE_VERSIONS[1])}
    return {
        "error_code": ErrorCode.none if request.supported else ErrorCode.unsupported_version,
        "api_keys": [
            {"api_key": key, "min_version": lowest, "max_version": highest}
            for key, (lowest, highest) in sorted(advertised.items())
        ],
    }


@dataclass(frozen=True, slots=True)
class Api:
    """A request with the lowest and highest version we speak."""

    name: str
    lowest: int
    highest: int
    handle: Handler
    reads_only: bool = False


# Produce is missing here because it is begun before it is awaited: `connection` calls `produce.begin`.
APIS: Mapping[int, Api] = {
    1: Api("Fetch", 4, 16, fetch.handle, reads_only=True),
    2: Api("ListOffsets", 1, 7, list_offsets.handle, reads_only=True),
    3: Api("Metadata", 0, 13, metadata.handle),
    8: Api("OffsetCommit", 2, 9, offset_commit.handle),
    9: Api("OffsetFetch", 1, 9, offset_fetch.handle, reads_only=True),
    10: Api("FindCoordinator", 0, 4, find_coordinator.handle, reads_only=True),
    11: Api("JoinGroup", 0, 9, groups.join),
    12: Api("Heartbeat", 0, 4, groups.heartbeat),
    13: Api("LeaveGroup", 0, 5, groups.leave),
    14: Api("SyncGroup", 0, 5, groups.sync),
    15: Api("DescribeGroups", 0, 5, groups.describe_groups, reads_only=True),
    16: Api("ListGroups", 0, 4, groups.list_groups, reads_only=True),
    API_VERSIONS_KEY: Api("ApiVersions", 0, 3, api_versions, reads_only=True),
    19: Api("CreateTopics", 2, 7, create_topics.create_topics),
    20: Api("DeleteTopics", 1, 6, create_topics.delete_topics),
    21: Api("DeleteRecords", 0, 2, delete_records.handle),
    22: Api("InitProducerId", 0, 4, init_producer_id.handle),
    24: Api("AddPartitionsToTxn", 0, 3, transactions.add_partitions),
    25: Api("AddOffsetsToTxn", 0, 3, transactions.add_offsets),
    26: Api("EndTxn", 0, 3, transactions.end),
    28: Api("TxnOffsetCommit", 0, 3, transactions.commit_offsets),
    32: Api("DescribeConfigs", 1, 4, configs.describe_configs, reads_only=True),
    37: Api("CreatePartitions", 0, 3, create_topics.create_partitions),
    44: Api("IncrementalAlterConfigs", 0, 1, configs.alter_configs),
    60: Api("DescribeCluster", 0, 1, configs.describe_cluster, reads_only=True),
    42: Api("DeleteGroups", 0, 2, groups.delete_groups),
}

VERSIONS: Mapping[int, tuple[int, int]] = {
    PRODUCE_KEY: PRODUCE_VERSIONS,
    **{key: (api.lowest, api.highest) for key, api in APIS.items()},
}
