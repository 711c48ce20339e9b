"""The WITH options of `connector = 'kafka'`, as RisingWave documents them, and what they become in librdkafka."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from engine.connectors.options import must_get_option, parse_duration, refuse_unknown_options
from engine.sql.errors import InvalidParameter, UnsupportedQuery

BOOTSTRAP = "properties.bootstrap.server"
_ALIASES = {
    "kafka.brokers": BOOTSTRAP,
    "kafka.topic": "topic",
    "kafka.scan.startup.mode": "scan.startup.mode",
    "kafka.time.offset": "scan.startup.timestamp.millis",
    "scan.startup.timestamp_millis": "scan.startup.timestamp.millis",
}

# `properties.X` becomes librdkafka's `X`.
_COMMON_PROPERTIES = (
    "message.max.bytes", "receive.message.max.bytes", "statistics.interval.ms", "client.id",
    "enable.ssl.certificate.verification", "security.protocol", "ssl.endpoint.identification.algorithm", "ssl.ca.location",
    "ssl.ca.pem", "ssl.certificate.location", "ssl.certificate.pem", "ssl.key.location", "ssl.key.pem", "ssl.key.password",
    "sasl.mechanism", "sasl.username", "sasl.password", "sasl.kerberos.service.name", "sasl.kerberos.keytab",
    "sasl.kerberos.principal", "sasl.kerberos.kinit.cmd", "sasl.kerberos.min.time.before.relogin", "sasl.oauthbearer.config",
)  # fmt: skip
_CONSUMER_PROPERTIES = (
    "queued.min.messages", "queued.max.messages.kbytes", "fetch.wait.max.ms", "fetch.queue.backoff.ms", "fetch.max.bytes",
    "enable.auto.commit",
)  # fmt: skip
_PRODUCER_PROPERTIES = (
    "allow.auto.create.topics", "queue.buffering.max.messages", "queue.buffering.max.kbytes", "queue.buffering.max.ms",
    "enable.idempotence", "message.send.max.retries", "retry.backoff.ms", "batch.num.messages", "batch.size",
    "compression.codec", "message.timeout.ms", "max.in.flight.requests.per.connection", "request.required.acks",
)  # fmt: skip
_SOURCE_OPTIONS = ("connector", "topic", BOOTSTRAP, "properties.sync.call.timeout", "scan.startup.mode",
                   "scan.startup.timestamp.millis", "group.id.prefix")  # fmt: skip
_SINK_OPTIONS = ("connector", "topic", BOOTSTRAP, "properties.sync.call.timeout", "primary_key", "type", "force_append_only",
                 "properties.retry.max", "properties.retry.interval")  # fmt: skip
_REFUSED_PREFIXES = ("privatelink.", "broker.rewrite.", "aws.")


def read_kafka_source_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options under their documented names; unknown ones are refused."""
    return _read(options, _SOURCE_OPTIONS, (*_COMMON_PROPERTIES, *_CONSUMER_PROPERTIES), what="the kafka source")


def read_kafka_sink_options(options: Mapping[str, str]) -> dict[str, str]:
    return _read(options, _SINK_OPTIONS, (*_COMMON_PROPERTIES, *_PRODUCER_PROPERTIES), what="the kafka sink")


def client_config(options: Mapping[str, str]) -> dict[str, str]:
    """librdkafka's configuration from `properties.*`; secrets are in it, so it is never logged."""
    return _config(options, (*_COMMON_PROPERTIES, *_CONSUMER_PROPERTIES, *_PRODUCER_PROPERTIES))


def connection_config(options: Mapping[str, str]) -> dict[str, str]:
    """The part of `client_config` that producers and consumers share."""
    return _config(options, _COMMON_PROPERTIES)


def _config(options: Mapping[str, str], properties: tuple[str, ...]) -> dict[str, str]:
    config = {name: options[f"properties.{name}"] for name in properties if f"properties.{name}" in options}
    return config | {"bootstrap.servers": options[BOOTSTRAP]}


def sync_call_timeout(options: Mapping[str, str]) -> timedelta:
    return parse_duration(options, "properties.sync.call.timeout", default=timedelta(seconds=5))


def _read(options: Mapping[str, str], own: tuple[str, ...], properties: tuple[str, ...], *, what: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for name, value in options.items():
        canonical = _ALIASES.get(name, name)
        if canonical in named:
            raise InvalidParameter(f"option `{name}` is given twice, once under another name", fix=f"Keep `{canonical}` only.")
        if canonical.startswith(_REFUSED_PREFIXES):
            raise UnsupportedQuery(f"option `{name}` of {what} is not supported here", fix="Connect to the brokers directly.")
        named[canonical] = value
    allowed = [*own, *(f"properties.{name}" for name in properties)]
    refuse_unknown_options(named, allowed, what=what)
    must_get_option(named, "topic", what=what)
    must_get_option(named, BOOTSTRAP, what=what)
    return named
