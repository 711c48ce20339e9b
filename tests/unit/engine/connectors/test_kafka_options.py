"""Options of the kafka connector are refused by name when they are unknown, missing, malformed or doubled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from engine.connectors.kafka_options import client_config, read_kafka_sink_options, read_kafka_source_options, sync_call_timeout
from engine.connectors.kafka_source import KafkaSource
from engine.sql.errors import InvalidParameter, UnsupportedQuery

GOOD = {"connector": "kafka", "topic": "t", "properties.bootstrap.server": "localhost:9092"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scan.startup.mod": "latest"}, "unknown option `scan.startup.mod` .*Did you mean scan.startup.mode"),
        ({"properties.group.id": "x"}, "unknown option `properties.group.id`"),
        ({"zzz": "1"}, "unknown option `zzz` of the kafka source. Allowed are .*scan.startup.mode"),
        ({"scan.startup.mode": "newest"}, "option `scan.startup.mode` cannot be `newest`. Allowed are earliest, latest"),
        ({"scan.startup.timestamp.millis": "now"}, "`scan.startup.timestamp.millis` cannot be `now`"),
        ({"properties.sync.call.timeout": "soon"}, "`properties.sync.call.timeout` cannot be `soon`"),
        ({"kafka.topic": "u"}, "given twice"),
        ({"topic": ""}, "the kafka source needs option `topic`"),
        ({"properties.bootstrap.server": ""}, "needs option `properties.bootstrap.server`"),
    ],
)
def test_a_wrong_option_is_refused_by_name(more: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message) as caught:
        KafkaSource(GOOD | more)
    assert caught.value.sqlstate == "22023"


def test_what_needs_a_cloud_account_is_refused_as_unsupported() -> None:
    with pytest.raises(UnsupportedQuery, match=r"aws\.region"):
        read_kafka_source_options(GOOD | {"aws.region": "x"})


def test_aliases_mean_the_documented_name() -> None:
    named = read_kafka_source_options(
        {"connector": "kafka", "kafka.topic": "t", "kafka.brokers": "b:1", "kafka.time.offset": "5"}
    )
    assert named == {
        "connector": "kafka",
        "topic": "t",
        "properties.bootstrap.server": "b:1",
        "scan.startup.timestamp.millis": "5",
    }


@pytest.mark.parametrize("read", [read_kafka_source_options, read_kafka_sink_options])
def test_properties_reach_librdkafka_under_its_own_names(read: Callable[[dict[str, str]], dict[str, str]]) -> None:
    named = read(GOOD | {"properties.security.protocol": "SASL_SSL", "properties.sasl.password": "secret"})
    assert client_config(named) == {
        "bootstrap.servers": "localhost:9092",
        "security.protocol": "SASL_SSL",
        "sasl.password": "secret",
    }


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("5s", 5.0), ("2 m", 120.0), ("3", 3.0)])
def test_durations_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert sync_call_timeout({"properties.sync.call.timeout": text}) == timedelta(seconds=seconds)
