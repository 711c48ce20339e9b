"""Which requests we answer, in which versions, and by whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from kio.schema.errors import ErrorCode

from broker.apis import create_topics, fetch, find_coordinator, init_producer_id, list_offsets, metadata
from broker.node import Node
from broker.wire import API_VERSIONS_KEY, Fields, Request

Handler = Callable[[Node, Request], Awaitable[Fields]]

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


# Produce is missing here because it is begun before it is awaited: `connection` calls `produce.begin`.
APIS: Mapping[int, Api] = {
    1: Api("Fetch", 4, 16, fetch.handle),
    2: Api("ListOffsets", 1, 7, list_offsets.handle),
    3: Api("Metadata", 0, 13, metadata.handle),
    10: Api("FindCoordinator", 0, 4, find_coordinator.handle),
    API_VERSIONS_KEY: Api("ApiVersions", 0, 3, api_versions),
    19: Api("CreateTopics", 2, 7, create_topics.create_topics),
    20: Api("DeleteTopics", 1, 6, create_topics.delete_topics),
    22: Api("InitProducerId", 0, 4, init_producer_id.handle),
    37: Api("CreatePartitions", 0, 3, create_topics.create_partitions),
}

VERSIONS: Mapping[int, tuple[int, int]] = {
    PRODUCE_KEY: PRODUCE_VERSIONS,
    **{key: (api.lowest, api.highest) for key, api in APIS.items()},
}
