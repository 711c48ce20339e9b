"""DescribeConfigs and IncrementalAlterConfigs of topics, DescribeCluster."""

from __future__ import annotations

from typing import Any

from kio.schema.errors import ErrorCode

from broker.node import NODE_ID, Node
from broker.refusal import Refusal
from broker.topics import check_config
from broker.wire import Fields, Request

_TOPIC = 2
_BROKER = 4
_FROM_TOPIC, _FROM_DEFAULT = 1, 5  # config_source
_SET, _DELETE = 0, 1  # config_operation


async def describe_configs(node: Node, request: Request) -> Fields:
    results = []
    for resource in request.body.resources:
        code, text, configs = ErrorCode.none, None, []
        try:
            configs = _configs(node, resource)
        except Refusal as refusal:
            code, text = refusal.code, str(refusal)
        results.append(
            {
                "error_code": code,
                "error_message": text,
                "resource_type": resource.resource_type,
                "resource_name": resource.resource_name,
                "configs": configs,
            }
        )
    return {"results": results}


def _configs(node: Node, resource: Any) -> list[dict[str, Any]]:
    if resource.resource_type == _BROKER:
        return []  # the broker's own settings are headrace's, not Kafka's
    if resource.resource_type != _TOPIC:
        raise Refusal(ErrorCode.invalid_request, f"resource type `{resource.resource_type}` has no configuration here")
    topic = node.topics.get(resource.resource_name)
    if topic is None:
        raise Refusal(ErrorCode.unknown_topic_or_partition, f"topic `{resource.resource_name}` does not exist")
    wanted = resource.configuration_keys
    return [
        {
            "name": name,
            "value": value,
            "read_only": False,
            "config_source": _FROM_TOPIC if name in topic.config else _FROM_DEFAULT,
            "is_sensitive": False,
            "synonyms": [],
        }
        for name, value in node.topics.effective_config(topic).items()
        if not wanted or name in wanted
    ]


async def alter_configs(node: Node, request: Request) -> Fields:
    responses = []
    for resource in request.body.resources:
        code, text = ErrorCode.none, None
        try:
            _alter(node, resource, validate_only=request.body.validate_only)
        except Refusal as refusal:
            code, text = refusal.code, str(refusal)
        responses.append(
            {
                "error_code": code,
                "error_message": text,
                "resource_type": resource.resource_type,
                "resource_name": resource.resource_name,
            }
        )
    return {"responses": responses}


def _alter(node: Node, resource: Any, *, validate_only: bool) -> None:
    topic = node.topics.get(resource.resource_name)
    if resource.resource_type != _TOPIC:
        raise Refusal(ErrorCode.invalid_request, "only topics can be configured while the broker runs")
    if topic is None:
        raise Refusal(ErrorCode.unknown_topic_or_partition, f"topic `{resource.resource_name}` does not exist")
    config = dict(topic.config)
    for item in resource.configs:
        if item.config_operation == _SET and item.value is not None:
            config[item.name] = item.value
        elif item.config_operation == _DELETE:
            config.pop(item.name, None)
        else:
            raise Refusal(ErrorCode.invalid_config, f"operation `{item.config_operation}` cannot be done to `{item.name}`")
    check_config(config)
    if not validate_only:
        node.topics.alter(topic.name, config)


async def describe_cluster(node: Node, _request: Request) -> Fields:
    return {
        "error_code": ErrorCode.none,
        "cluster_id": node.cluster_id,
        "controller_id": NODE_ID,
        "brokers": [{"broker_id": NODE_ID, "host": node.host, "port": node.port}],
    }
