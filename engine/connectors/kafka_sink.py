"""`connector = 'kafka'`: each delivery is one Kafka transaction, so that an epoch is in the topic once, or not at all.

    open      init_transactions            fences every earlier writer of this sink, and ends what it left open
              committed offset of a group  the epoch that is in, whole
    deliver   begin, produce all rows, send offset = epoch to the group, commit

The group and the transactional id carry the sink's UUID; the "offset" stands for the sink's own topic, partition 0, because a
broker takes offsets for existing topics only. Nobody else uses the group, so the topic holds nothing but the rows.

When a commit's outcome is unknown, the sink is opened again: that ends the transaction one way or the other, and the offset
tells which. RisingWave's own kafka sink is at-least-once; consumers see the difference when they read committed records only.

Not covered: brokers forget the offsets of an idle group (Kafka: after 7 days). A sink that was idle for longer *and* crashes
between a commit and the engine's note of it would deliver that epoch again.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from core.errors import ConflictError, HeadraceError, InvalidInputError, UnavailableError
from engine.connectors.json_encode import JSONB_MODES, TIMESTAMPTZ_MODES, JsonEncoder
from engine.connectors.kafka_options import client_config, connection_config, read_kafka_sink_options
from engine.connectors.operations import DELETE, OPERATION, UPDATE_DELETE, UPDATE_INSERT, keep_insertions
from engine.connectors.options import parse_bool, parse_choice, refuse_unknown_options
from engine.connectors.sink_keys import read_key
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.statements import Format
from engine.sql.types import SqlType

logger = logging.getLogger(__name__)

_CALL_SECONDS = 30.0  # one call of the transactional producer; a healthy broker needs milliseconds
_TOPIC_SECONDS = 10.0  # automatic creation of the topic

_DEFAULTS = {
    "linger.ms": "5",
    "partitioner": "murmur2_random",  # the same partition for a key as Java clients choose
    "transaction.timeout.ms": "60000",
    "queue.buffering.max.messages": "200000",
    "reconnect.backoff.max.ms": "1000",
    # librdkafka would forget its only broker when that is away for a moment, and a transaction would never end.
    "metadata.recovery.strategy": "none",
}
_FORMAT_OPTIONS = ("force_append_only", "timestamptz.handling.mode", "jsonb.handling.mode", "schemas.enable")
# The brokers have not agreed yet who keeps this group, or that one is still loading.
_COORDINATOR_MOVES = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
_PERMANENT = {
    KafkaError.MSG_SIZE_TOO_LARGE: "Raise properties.message.max.bytes and the topic's max.message.bytes.",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "Let the sink's user write to the topic.",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "Let the sink's user use groups that begin with headrace-sink-.",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Let the sink's user use transactional ids that begin with headrace-sink-.",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "Let the sink's user write idempotently.",
    KafkaError._INVALID_ARG: "Correct the options that begin with properties.",
    KafkaError._UNSUPPORTED_FEATURE: "Use a broker with transactions.",
    KafkaError.UNSUPPORTED_VERSION: "Use a broker with transactions.",
}
_FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class KafkaSink:
    """A `SinkWriter` on one topic, exactly once.

    Args:
        sink_id: the sink's lasting identity.
        options: the WITH options of the sink.
        fields: name and type of the visible columns, in order.
        primary_key: columns of the key where option `primary_key` names none; becomes the record's key as a JSON object.
        shape: `FORMAT PLAIN | UPSERT ENCODE JSON`; None means PLAIN JSON.

    Raises:
        SqlError: an option is unknown, missing or malformed.
    """

    def __init__(
        self,
        sink_id: uuid.UUID,
        options: Mapping[str, str],
        fields: Sequence[tuple[str, SqlType]],
        primary_key: Sequence[str] = (),
        shape: Format | None = None,
    ) -> None:
        named = read_kafka_sink_options(options)
        shape = shape or Format("PLAIN", "JSON")
        self._upsert, self._force_append_only = _read_format(shape, named)
        self._name = f"headrace-sink-{sink_id}"
        self._topic = named["topic"]
        self._config = {**_DEFAULTS, **client_config(named), "transactional.id": self._name, "enable.idempotence": "true"}
        self._reading = {
            **connection_config(named),
            "group.id": self._name,
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",  # an offset that a transaction may still take back is waited for
        }
        modes = {
            "timestamptz_mode": parse_choice(
                shape.options, "timestamptz.handling.mode", TIMESTAMPTZ_MODES, default="utc_string"
            ),
            "jsonb_mode": parse_choice(shape.options, "jsonb.handling.mode", JSONB_MODES, default="string"),
        }
        key = read_key(named.get("primary_key"), primary_key, fields, required=self._upsert, what="FORMAT UPSERT")
        self._values = JsonEncoder(fields, **modes)
        self._keys = JsonEncoder([(name, dict(fields)[name]) for name in key], **modes) if key else None
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        self._refused: KafkaError | None = None

    def open(self) -> int:
        """See `SinkWriter.open`.

        Raises:
            UnavailableError: the brokers do not answer, or the topic does not exist and they do not create it.
            ConflictError: a newer writer has this sink already.
        """
        self.close()
        try:
            # A callback for each record would cost more than the record; refusals are all that is asked for.
            producer = self._producer = Producer({**self._config, "delivery.report.only.error": True}, logger=logger)
            _until_done(lambda: producer.init_transactions(_CALL_SECONDS))
            self._wait_for_topic(producer)
            return self._fetch_delivered_epoch()
        except KafkaException as error:
            self._explain(error.args[0], "open")
        except HeadraceError:
            self.close()
            raise

    def deliver(self, epoch: int, rows: pa.Table) -> None:
        """See `SinkWriter.deliver`. A call that follows an error first finds out what became of it.

        Raises:
            InvalidInputError: a row is deleted or updated and the format is PLAIN, or the brokers refuse a record for good.
            UnavailableError: the brokers do not answer; make the same call again.
            ConflictError: a newer writer has this sink; stop.
        """
        if self._producer is None and self.open() >= epoch:
            return
        records = self._encode(rows)
        try:
            self._deliver(epoch, records)
        except KafkaException as error:
            kind = error.args[0]
            logger.warning("kafka sink delivery failed", extra={"topic": self._topic, "epoch": epoch, "error": str(kind)})
            if kind.code() in _FENCED or self._refused is not None:
                self._explain(kind, f"epoch {epoch}")
            if self.open() < epoch:
                self._explain(kind, f"epoch {epoch}")

    def close(self) -> None:
        producer, self._producer = self._producer, None
        consumer, self._consumer = self._consumer, None
        self._refused = None
        if producer is not None:
            # Not `Producer.close`: it waits for the brokers. An open transaction is ended by the next `open`, or times out.
            producer.purge()
        if consumer is not None:
            consumer.close()

    def _deliver(self, epoch: int, records: list[tuple[bytes | None, bytes | None]]) -> None:
        assert self._producer is not None
        assert self._consumer is not None
        producer = self._producer
        producer.begin_transaction()
        for key, value in records:
            while True:
                try:
                    producer.produce(self._topic, value, key, on_delivery=self._note_refusal)
                    break
                except BufferError:  # librdkafka's queue is full: let it send
                    producer.poll(0.1)
        offsets = [TopicPartition(self._topic, 0, epoch)]
        _until_done(lambda: producer.send_offsets_to_transaction(offsets, self._group(), _CALL_SECONDS))
        _until_done(lambda: producer.commit_transaction(_CALL_SECONDS))

    def _group(self) -> object:
        assert self._consumer is not None
        return self._consumer.consumer_group_metadata()

    def _note_refusal(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and self._refused is None and error.code() in _PERMANENT:
            self._refused = error

    def _encode(self, rows: pa.Table) -> list[tuple[bytes | None, bytes | None]]:
        """Key and value of each record, in order; a value None is a tombstone."""
        if not self._upsert:
            inserted = keep_insertions(rows, forced=self._force_append_only, where=f"kafka sink to topic {self._topic}")
            keys: Sequence[bytes | None] = self._keys.encode(inserted) if self._keys else [None] * inserted.num_rows
            return list(zip(keys, self._values.encode(inserted), strict=True))
        assert self._keys is not None
        operations, keys, values = rows.column(OPERATION).to_pylist(), self._keys.encode(rows), self._values.encode(rows)
        records: list[tuple[bytes | None, bytes | None]] = []
        for i, operation in enumerate(operations):
            if operation == UPDATE_DELETE and operations[i + 1 : i + 2] == [UPDATE_INSERT] and keys[i + 1] == keys[i]:
                continue  # the new version follows under the same key
            records.append((keys[i], None if operation in (DELETE, UPDATE_DELETE) else values[i]))
        return records

    def _wait_for_topic(self, producer: Producer) -> None:
        """Asking for a topic makes brokers create it, where they are set to."""
        deadline = time.monotonic() + _TOPIC_SECONDS
        while True:
            listed = producer.list_topics(self._topic, _CALL_SECONDS).topics[self._topic]
            if listed.error is None:
                return
            if listed.error.code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE):
                raise KafkaException(listed.error)
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"topic `{self._topic}` does not exist",
                    where="kafka sink",
                    fix="Create the topic, or let the brokers create topics on demand.",
                )
            time.sleep(0.1)

    def _fetch_delivered_epoch(self) -> int:
        self._consumer = Consumer(self._reading, logger=logger)
        deadline = time.monotonic() + _CALL_SECONDS
        while True:
            try:
                committed = self._consumer.committed([TopicPartition(self._topic, 0)], _CALL_SECONDS)[0]
                if committed.error is not None:
                    raise KafkaException(committed.error)
                return max(0, int(committed.offset))  # negative: none yet
            except KafkaException as error:
                if error.args[0].code() not in _COORDINATOR_MOVES or time.monotonic() >= deadline:
                    raise
                time.sleep(0.1)

    def _explain(self, error: KafkaError, doing: str) -> NoReturn:
        """Raise what the runtime understands; the next call opens the sink again."""
        refused = self._refused
        self.close()
        where = f"kafka sink to topic {self._topic}, {doing}"
        cause = KafkaException(error)
        if error.code() in _FENCED:
            raise ConflictError(
                "a newer writer has this sink", where=where, fix="Stop this engine: another one runs."
            ) from cause
        reason = refused or error
        if reason.code() in _PERMANENT:
            raise InvalidInputError(
                f"the brokers refuse: {reason.str()}", where=where, fix=_PERMANENT[reason.code()]
            ) from cause
        raise UnavailableError(
            f"the brokers do not answer: {error.str()}", where=where, fix="Check the brokers; delivery is tried again."
        ) from cause


def _until_done(call: Callable[[], object]) -> None:
    """Repeat a transactional call as long as the client says that it may be repeated."""
    deadline = time.monotonic() + _CALL_SECONDS
    while True:
        try:
            call()
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() >= deadline:
                raise


def _read_format(shape: Format, options: Mapping[str, str]) -> tuple[bool, bool]:
    """Whether rows are upserted, and whether deletions are left out."""
    if shape.encode.upper() != "JSON" or shape.format.upper() not in ("PLAIN", "UPSERT"):
        raise UnsupportedQuery(
            f"FORMAT {shape.format} ENCODE {shape.encode} is not supported by the kafka sink",
            fix="Use FORMAT PLAIN ENCODE JSON or FORMAT UPSERT ENCODE JSON.",
        )
    refuse_unknown_options(shape.options, _FORMAT_OPTIONS, what=f"FORMAT {shape.format} ENCODE {shape.encode}")
    if parse_bool(shape.options, "schemas.enable", default=False):
        raise UnsupportedQuery(
            "schemas.enable is not supported by the kafka sink", fix="Leave it out: records carry the payload only."
        )
    kind = parse_choice(
        options, "type", ("append-only", "upsert"), default="upsert" if shape.format.upper() == "UPSERT" else "append-only"
    )
    if (kind == "upsert") != (shape.format.upper() == "UPSERT"):
        raise InvalidParameter(f"type `{kind}` contradicts FORMAT {shape.format}", fix="Leave out option `type`.")
    forced = any(parse_bool(given, "force_append_only", default=False) for given in (shape.options, options))
    return kind == "upsert", forced
