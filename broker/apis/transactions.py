"""AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit and EndTxn."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from broker.apis.offset_commit import answers, committed_offsets
from broker.node import Node
from broker.refusal import Refusal
from broker.wire import Fields, Request
from core.errors import UnavailableError

_KNOWS_FENCED_FROM = 2  # KIP-588; older clients take invalid_producer_epoch for the same


async def add_partitions(node: Node, request: Request) -> Fields:
    body = request.body
    topics = body.v3_and_below_topics
    unknown = {
        (topic.name, number)
        for topic in topics
        for number in topic.partitions
        if node.topics.partition(topic.name, number) is None
    }
    code = ErrorCode.operation_not_attempted if unknown else ErrorCode.none
    if not unknown:
        producer = (body.v3_and_below_producer_id, body.v3_and_below_producer_epoch)
        places = [(topic.name, number) for topic in topics for number in topic.partitions]
        try:
            await node.transactions.add_partitions(body.v3_and_below_transactional_id, producer, places)
        except (Refusal, UnavailableError) as error:
            code = _code(error, request)
    return {
        "results_by_topic_v3_and_below": [
            {
                "name": topic.name,
                "results_by_partition": [
                    {
                        "partition_index": number,
                        "partition_error_code": ErrorCode.unknown_topic_or_partition
                        if (topic.name, number) in unknown
                        else code,
                    }
                    for number in topic.partitions
                ],
            }
            for topic in topics
        ]
    }


async def add_offsets(node: Node, request: Request) -> Fields:
    body = request.body
    try:
        await node.transactions.add_group(body.transactional_id, (body.producer_id, body.producer_epoch), body.group_id)
    except (Refusal, UnavailableError) as error:
        return {"error_code": _code(error, request)}
    return {"error_code": ErrorCode.none}


async def end(node: Node, request: Request) -> Fields:
    body = request.body
    try:
        await node.transactions.end(body.transactional_id, (body.producer_id, body.producer_epoch), commit=body.committed)
    except (Refusal, UnavailableError) as error:
        return {"error_code": _code(error, request)}
    return {"error_code": ErrorCode.none}


async def commit_offsets(node: Node, request: Request) -> Fields:
    body = request.body
    offsets, errors = committed_offsets(node, body.topics)
    code = ErrorCode.none
    try:
        producer = (body.producer_id, body.producer_epoch)
        if getattr(body, "member_id", ""):
            # Before version 3 a client could not say who it is in the group.
            node.groups.check_commit(body.group_id, body.generation_id, body.member_id, body.group_instance_id)
        await node.transactions.commit_offsets(body.transactional_id, producer, body.group_id, offsets)
    except (Refusal, UnavailableError) as error:
        code = _code(error, request)
        if code is ErrorCode.producer_fenced:
            code = ErrorCode.invalid_producer_epoch  # Kafka's group coordinator knows no other name
    return {"topics": answers(body.topics, errors, code)}


def _code(error: Refusal | UnavailableError, request: Request) -> ErrorCode:
    if not isinstance(error, Refusal):
        return ErrorCode.coordinator_not_available
    if error.code is ErrorCode.producer_fenced and request.version < _KNOWS_FENCED_FROM:
        return ErrorCode.invalid_producer_epoch
    return error.code
