"""Reads a Kafka topic into Arrow, by assignment: the position is ours, kept with the state, so no consumer group is joined.

A background thread polls librdkafka and turns each poll into one Arrow batch. Back-pressure is simply not polling: while our
buffer is full, librdkafka's own bounded queue fills and it stops fetching. (Its `pause` would throw the prefetched rows away.)
librdkafka reconnects by itself; what it cannot mend is retried here with a new consumer from the position we hold.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from core.errors import CorruptDataError, HeadraceError
from engine.connectors.base import RAW_SCHEMA, Positions
from engine.connectors.kafka_options import client_config, read_kafka_source_options, sync_call_timeout
from engine.connectors.options import parse_choice, parse_int
from engine.connectors.record_buffer import RecordBuffer

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1  # how long a stop request may wait
# The client makes all messages of a call with the interpreter's lock held, 1.4 us each: while it does, the epoch waits for the
# lock after each of its statements. Measured: 2,000 rows read twice as fast as 10,000, or as 1,000.
_BATCH_ROWS = 2_000
_RETRY_SECONDS = 0.5  # first wait after an error that librdkafka cannot mend; doubled up to the next one
_RETRY_MAX_SECONDS = 10.0
_MISSING_TOPIC_SECONDS = 0.25  # a topic that is not there yet is looked for this often
_CLOSE_SECONDS = 15.0

_DEFAULTS = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "enable.partition.eof": "true",  # tells the end of a partition even when it ends in transaction markers
    "auto.offset.reset": "error",  # a lost position is ours to judge
    "isolation.level": "read_committed",
    "queued.min.messages": "50000",
    "queued.max.messages.kbytes": "32768",
    "fetch.queue.backoff.ms": "10",  # 1,000 by default: a second of silence each time that back-pressure ends
    "reconnect.backoff.max.ms": "1000",
    "fetch.error.backoff.ms": "100",
}


class KafkaSource:
    """A `SourceReader` on one topic, all partitions.

    Args:
        options: the WITH options of the source.
        max_buffered_rows: no more polling while this many rows wait to be taken.
        max_buffered_bytes: the same in bytes of Arrow.
        discovery_seconds: how often new partitions are looked for.

    Raises:
        SqlError: an option is unknown, missing or malformed.
    """

    def __init__(
        self,
        options: Mapping[str, str],
        *,
        max_buffered_rows: int = 200_000,
        max_buffered_bytes: int = 64 << 20,
        discovery_seconds: float = 5.0,
    ) -> None:
        named = read_kafka_source_options(options)
        self.topic = named["topic"]
        self._startup = _read_startup(named)
        self._timeout_seconds = sync_call_timeout(named).total_seconds()
        group = f"{named.get('group.id.prefix', 'rw-consumer')}-{uuid.uuid4()}"  # librdkafka wants one; it is never joined
        self._config = {**_DEFAULTS, **client_config(named), "enable.auto.commit": "false", "group.id": group}
        self._discovery_seconds = discovery_seconds
        self._buffer = RecordBuffer(max_buffered_rows, max_buffered_bytes)
        self._known: dict[int, int] = {}  # partition to the offset that is polled next
        self._ends: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._buffered: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._looked = False  # whether the topic's partitions were ever listed
        self._failure: HeadraceError | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, positions: Positions, wake: Callable[[], None]) -> None:
        """See `SourceReader.start`. Returns at once; the topic need not exist and the brokers need not answer yet."""
        assert self._thread is None, "a source is started once"
        self._stored = dict(positions)
        self._wake = wake
        self._thread = threading.Thread(target=self._run, name=f"kafka-source-{self.topic}", daemon=True)
        self._thread.start()

    def take(self, max_rows: int) -> pa.Table | None:
        """See `SourceReader.take`.

        Raises:
            CorruptDataError: the topic ends before a position that was read already (it was truncated or created anew).
        """
        failure = self._failure  # read first: what was buffered before it is good
        table = self._buffer.take(max_rows)
        if table is not None:
            self._taken.update(_next_positions(table))
        elif failure is not None:
            raise failure
        return table

    def starts(self) -> Positions:
        """Where each partition began that `positions` did not name, once known: store it, or `latest` moves at a restart."""
        return dict(self._starts)

    def buffered(self) -> Positions:
        """Up to where each partition has been read into the buffer; all of it can be taken."""
        return dict(self._buffered)

    def lag(self) -> Mapping[int, int]:
        """See `SourceReader.lag`; control records of transactions that end a partition are not counted."""
        drained = self._buffer.rows == 0
        lags = {}
        for partition, polled in list(self._known.items()):
            taken = polled if drained else self._taken.get(partition, self._starts.get(partition, polled))
            lags[partition] = max(0, self._ends.get(partition, polled) - taken)
        return lags

    def close(self) -> None:
        self._stopping.set()
        self._buffer.release()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            if self._thread.is_alive():
                logger.warning("kafka source did not stop in time", extra={"topic": self.topic})

    # The background thread.

    def _run(self) -> None:
        wait = _RETRY_SECONDS
        while not self._stopping.is_set():
            consumer = Consumer(self._config, logger=logger)
            try:
                self._poll_until_stopped(consumer)
                wait = _RETRY_SECONDS
            except KafkaException as error:
                logger.warning("kafka source lost its connection", extra={"topic": self.topic, "error": str(error)})
                self._stopping.wait(wait)
                wait = min(2 * wait, _RETRY_MAX_SECONDS)
            except HeadraceError as error:
                logger.exception("kafka source stopped", extra={"topic": self.topic})
                self._failure = error
                self._wake()
                return
            finally:
                consumer.close()

    def _poll_until_stopped(self, consumer: Consumer) -> None:
        assigned: set[int] = set()
        look_at = 0.0
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= look_at:
                found = self._discover(consumer)
                look_at = time.monotonic() + (self._discovery_seconds if found else _MISSING_TOPIC_SECONDS)
                if found and found != assigned:
                    self._assign(consumer)
                    assigned = found
            if not assigned:
                consumer.poll(0)  # serves librdkafka's callbacks
                self._stopping.wait(min(_MISSING_TOPIC_SECONDS, _POLL_SECONDS))
                continue
            if not self._buffer.wait_for_room(_POLL_SECONDS):
                continue
            # `consume(n)` waits until it has n rows, so the wait is for one and the rest is what is there already.
            messages = consumer.consume(1, _POLL_SECONDS)
            if messages:
                messages += consumer.consume(_BATCH_ROWS, 0)
                self._accept(consumer, messages)

    def _discover(self, consumer: Consumer) -> set[int]:
        """All partitions of the topic; empty when there is no such topic. Unknown ones get a position.

        A partition that appears later begins at its first record whatever the startup mode says: all of it is new.
        """
        try:
            listed = consumer.list_topics(self.topic, self._timeout_seconds).topics[self.topic]
        except KafkaException as error:
            if self._known:  # reading goes on; librdkafka reconnects by itself
                logger.warning("kafka source cannot list partitions", extra={"topic": self.topic, "error": str(error)})
                return set(self._known)
            raise
        if listed.error is not None:
            if listed.error.code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE):
                raise KafkaException(listed.error)
            if not self._looked:
                logger.info("kafka source waits for its topic", extra={"topic": self.topic})
            self._looked = True
            return set(self._known)
        new = [partition for partition in listed.partitions if partition not in self._known]
        for partition in new:
            if partition in self._stored:
                start = self._stored[partition]
            else:
                start = self._starting_offset(consumer, partition, _Startup("earliest") if self._looked else self._startup)
                self._starts[partition] = start
            self._known[partition] = start
        if new:
            logger.info("kafka source reads partitions", extra={"topic": self.topic, "partitions": sorted(new)})
            self._looked = True
        return set(self._known)

    def _starting_offset(self, consumer: Consumer, partition: int, startup: _Startup) -> int:
        where = TopicPartition(self.topic, partition)
        low, high = _watermarks(consumer.get_watermark_offsets(where, self._timeout_seconds, cached=False))
        self._ends[partition] = high
        if startup.mode == "earliest":
            return low
        if startup.mode == "latest":
            return high
        asked = TopicPartition(self.topic, partition, startup.timestamp_millis)
        answer = consumer.offsets_for_times([asked], self._timeout_seconds)[0]
        if answer.error is not None:
            raise KafkaException(answer.error)
        return int(answer.offset) if answer.offset >= 0 else high

    def _assign(self, consumer: Consumer) -> None:
        consumer.assign([TopicPartition(self.topic, partition, offset) for partition, offset in self._known.items()])

    def _accept(self, consumer: Consumer, messages: list[Message]) -> None:
        rows = [message for message in messages if message.error() is None]
        if rows:
            batch = to_arrow(rows)
            offsets = zip(batch["partition"].to_pylist(), batch["offset"].to_pylist(), strict=True)
            # Of each partition the last one stays: they are in the order of their offsets.
            read = {partition: offset + 1 for partition, offset in offsets}
            self._known.update(read)
            self._buffer.put(batch)
            self._buffered.update(read)
            for index, polled in read.items():
                _, high = _watermarks(consumer.get_watermark_offsets(TopicPartition(self.topic, index), cached=True))
                self._ends[index] = max(self._ends.get(index, 0), high, polled)
            self._wake()
        if len(rows) < len(messages):
            for message in messages:
                error, partition, offset = message.error(), message.partition(), message.offset()
                if error is not None:
                    self._judge(consumer, error, -1 if partition is None else partition, -1 if offset is None else offset)

    def _judge(self, consumer: Consumer, error: KafkaError, partition: int, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self._known[partition] = self._ends[partition] = max(self._known[partition], offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._restart_partition(consumer, partition)
        elif error.fatal():
            raise KafkaException(error)
        else:
            logger.warning(
                "kafka source read failed", extra={"topic": self.topic, "partition": partition, "error": error.str()}
            )

    def _restart_partition(self, consumer: Consumer, partition: int) -> None:
        """The broker does not have our position: older rows were deleted (go on, loudly), or newer ones are gone (stop)."""
        where = TopicPartition(self.topic, partition)
        low, high = _watermarks(consumer.get_watermark_offsets(where, self._timeout_seconds, cached=False))
        position = self._known[partition]
        if position > high:
            raise CorruptDataError(
                f"topic `{self.topic}` partition {partition} ends at offset {high}, but {position} was read already",
                where="kafka source",
                fix="The topic was truncated or created anew: drop the source and create it again, or restore the topic.",
            )
        if position < low:
            logger.error(
                "kafka source skips deleted records",
                extra={"topic": self.topic, "partition": partition, "from_offset": position, "to_offset": low},
            )
            self._known[partition] = low
        self._assign(consumer)


@dataclass(frozen=True)
class _Startup:
    mode: str
    timestamp_millis: int = 0


def _read_startup(options: Mapping[str, str]) -> _Startup:
    mode = parse_choice(options, "scan.startup.mode", ("earliest", "latest"), default="earliest")
    if "scan.startup.timestamp.millis" in options:  # it wins over the mode, as in RisingWave
        return _Startup("timestamp", parse_int(options, "scan.startup.timestamp.millis", default=0))
    return _Startup(mode)


def to_arrow(messages: Sequence[Message]) -> pa.RecordBatch:
    """One RAW_SCHEMA batch of messages without error, in their order."""
    times = [None if kind == TIMESTAMP_NOT_AVAILABLE else millis for kind, millis in map(Message.timestamp, messages)]
    headers = list(map(Message.headers, messages))
    columns = [
        pa.array(list(map(Message.partition, messages)), pa.int32()),
        pa.array(list(map(Message.offset, messages)), pa.int64()),
        pa.array(times, pa.timestamp("ms")).cast(pa.timestamp("us")),
        pa.array(list(map(Message.key, messages)), pa.binary()),
        pa.array(list(map(Message.value, messages)), pa.binary()),
        pa.array(headers, RAW_SCHEMA.field("headers").type)
        if any(headers)
        else pa.nulls(len(headers), RAW_SCHEMA.field("headers").type),
    ]
    return pa.record_batch(columns, schema=RAW_SCHEMA)


def _watermarks(answer: tuple[int, int] | None) -> tuple[int, int]:
    """First and next offset of a partition; the client answers None when the call times out."""
    if answer is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return answer


def _next_positions(table: pa.Table) -> dict[int, int]:
    last = table.group_by("partition").aggregate([("offset", "max")])
    return {
        partition: offset + 1
        for partition, offset in zip(*(last[name].to_pylist() for name in ("partition", "offset_max")), strict=True)
    }
