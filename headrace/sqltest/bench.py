"""What a case runs on: a broker, a UDF server with the case's answers, and a stream database, all its own.

| | embedded | a database at a URL |
|---|---|---|
| stream database | an engine in a folder that is thrown away | a database made for the case, dropped afterwards |
| broker | embedded, in that folder | the same; the database must reach this machine |
| an epoch | one barrier | as many as the database makes of it |
| `now` | the engine's and the broker's clock | refused |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psycopg
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it is there; the stub hides it

from broker.server import Broker
from core.clock import SystemClock
from core.errors import InvalidInputError, UnavailableError
from core.settings import LOOPBACK, Settings
from engine.connectors.kafka_source import KafkaSource
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine
from engine.wire.server import WireServer
from headrace.sqltest.feeding import Record
from headrace.sqltest.stubs import StubFunction, serve

logger = logging.getLogger(__name__)

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

ARRIVAL_SECONDS = 30.0
"""Records on the same machine arrive within milliseconds; a busy one may take seconds."""

_MAX_ROWS = 10**9  # what an epoch is given is one barrier, however much it is
_CALL_SECONDS = 60.0


class Bench(Protocol):
    """A running place for one case.

    Attributes:
        variables: what the placeholders of the SQL stand for.
        exact: what was given is visible, whole and once, when `barrier` returns.
        unread: topics that got records which nothing reads yet, as far as that is known.
    """

    variables: Mapping[str, str]
    connection: Connection
    exact: bool
    unread: frozenset[str]

    def set_clock(self, now: datetime) -> None: ...

    def create_topic(self, topic: str, partitions: int) -> None: ...

    def deliver(self, records: Sequence[Record]) -> None:
        """Put records into their topics; they belong to the epoch that `barrier` ends."""
        ...

    def barrier(self) -> None: ...


class TestClock:
    """The machine's clock until it is set; then it stands still until it is set again. Waiting goes on in real time."""

    __test__ = False  # a clock for tests, not a test

    def __init__(self) -> None:
        self._real = SystemClock()
        self._now: datetime | None = None

    def now(self) -> datetime:
        return self._now or self._real.now()

    def monotonic_seconds(self) -> float:
        return self._real.monotonic_seconds()

    def set(self, now: datetime) -> None:
        self._now = now


@contextlib.contextmanager
def embedded(stubs: Sequence[StubFunction], udf_url: str | None) -> Iterator[Bench]:
    """An engine and a broker in a temporary folder."""
    clock = TestClock()
    with _surroundings(LOOPBACK, stubs, udf_url, clock) as (loop, folder, settings, variables):
        tuned = settings.engine.model_copy(update={"epoch_max_rows": _MAX_ROWS, "threads": 1, "memory_limit": "1GB"})
        engine = Engine(folder / "engine", tuned, clock, flush_only=True)
        try:
            engine.start()
            server = WireServer(EngineSessions(engine), LOOPBACK, 0)
            port = loop.call(server.start())
            try:
                with psycopg.connect(f"postgresql://root@{LOOPBACK}:{port}/dev", autocommit=True) as connection:
                    yield _Embedded(variables, connection, settings.kafka, engine, clock)
            finally:
                loop.call(server.stop())
        finally:
            engine.close()


@contextlib.contextmanager
def remote(database_url: str, host: str, stubs: Sequence[StubFunction], udf_url: str | None) -> Iterator[Bench]:
    """A database of its own on a server that runs already.

    Args:
        host: an address of this machine that the server can reach.

    Raises:
        UnavailableError: the server does not answer.
    """
    name = f"headrace_test_{uuid.uuid4().hex[:12]}"
    try:
        admin = psycopg.connect(database_url, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise UnavailableError(
            "the database does not answer", where="--database-url", fix="Start it, or leave the option out."
        ) from error
    with admin, _surroundings(host, stubs, udf_url, SystemClock()) as (_, _, settings, variables):
        admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            with psycopg.connect(database_url, dbname=name, autocommit=True) as connection:
                yield _Remote(variables, connection, settings.kafka)
        finally:
            _drop(admin, database_url, name)


@contextlib.contextmanager
def _surroundings(
    host: str, stubs: Sequence[StubFunction], udf_url: str | None, clock: SystemClock | TestClock
) -> Iterator[tuple[_Loop, Path, Settings, Mapping[str, str]]]:
    """Broker and UDF server, and a folder for everything."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-sql-test-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        loop = stack.enter_context(_Loop())
        unsafe = Settings().broker.model_copy(update={"fsync": "never", "auto_create_topics": True})
        broker = Broker(folder / "broker", host, 0, unsafe, clock)
        port = loop.call(broker.start())
        stack.callback(lambda: loop.call(broker.stop()))
        if stubs:
            server = serve(host, stubs)
            stack.callback(server.drain_and_stop, 1.0)
            udf_url = f"http://{host}:{server.port}"
        settings = Settings(data_dir=folder, kafka=f"{host}:{port}")
        variables = {
            "KAFKA_BOOTSTRAP": settings.kafka,
            "CATALOG_TYPE": settings.catalog_type,
            "CATALOG_URI": settings.resolved_catalog_uri,
            "WAREHOUSE": settings.resolved_warehouse,
        }
        yield loop, folder, settings, variables | ({"UDF_URL": udf_url} if udf_url else {})


class _Kafka:
    """The part of a bench that talks to the broker."""

    def __init__(self, bootstrap: str) -> None:
        self._config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": bootstrap,
            "log_level": 0,
        }  # what fails is raised

    def create_topic(self, topic: str, partitions: int) -> None:
        config = {"message.timestamp.type": "LogAppendTime"}
        admin = AdminClient(self._config)
        made = admin.create_topics([NewTopic(topic, partitions, config=config)], request_timeout=10)
        try:
            made[topic].result(_CALL_SECONDS)
        except KafkaException as error:
            raise UnavailableError(f"topic `{topic}` cannot be created: {error}") from error

    def produce(self, records: Sequence[Record]) -> dict[tuple[str, int], int]:
        """Produce in order; returns the end of each partition that was written to."""
        producer = Producer(self._config | {"linger.ms": 5})
        ends: dict[tuple[str, int], int] = {}
        failures: list[str] = []

        def told(error: Any, message: Any) -> None:  # Any: the client publishes no types
            if error is not None:
                failures.append(f"{message.topic()}: {error}")
            else:
                place = (message.topic(), message.partition())
                ends[place] = max(ends.get(place, 0), message.offset() + 1)

        for record in records:
            producer.produce(record.topic, record.value, partition=record.partition, on_delivery=told)
        producer.flush(ARRIVAL_SECONDS)
        if failures or (records and not ends):
            raise UnavailableError(f"records cannot be produced: {failures[0] if failures else 'no answer'}")
        return ends


class _Embedded(_Kafka):
    exact = True

    def __init__(
        self, variables: Mapping[str, str], connection: Connection, kafka: str, engine: Engine, clock: TestClock
    ) -> None:
        super().__init__(kafka)
        self.variables = variables
        self.connection = connection
        self.unread: frozenset[str] = frozenset()
        self._engine = engine
        self._clock = clock

    def set_clock(self, now: datetime) -> None:
        self._clock.set(now)

    def deliver(self, records: Sequence[Record]) -> None:
        """The barrier loop is held while records arrive, so that it takes them all at once."""
        if records:
            self._engine.submit(lambda: self._arrive(records)).result(2 * ARRIVAL_SECONDS)

    def barrier(self) -> None:
        self.connection.execute("FLUSH")

    def _arrive(self, records: Sequence[Record]) -> None:
        ends = self.produce(records)
        deadline = time.monotonic() + ARRIVAL_SECONDS
        readers = [
            reader
            for each in self._engine.connectors.values()
            if isinstance(reader := each.reader, KafkaSource) and each.started
        ]
        read = {reader.topic for reader in readers}
        self.unread = (self.unread | {topic for topic, _ in ends}) - read
        for (topic, partition), end in ends.items():
            for reader in readers:
                while reader.topic == topic and reader.buffered().get(partition, 0) < end:
                    if time.monotonic() > deadline:
                        raise UnavailableError(f"records of topic `{topic}` did not arrive within {ARRIVAL_SECONDS:g} s")
                    time.sleep(0.002)


class _Remote(_Kafka):
    exact = False
    unread: frozenset[str] = frozenset()

    def __init__(self, variables: Mapping[str, str], connection: Connection, kafka: str) -> None:
        super().__init__(kafka)
        self.variables = variables
        self.connection = connection

    def set_clock(self, now: datetime) -> None:
        raise InvalidInputError(
            f"`now: {now.isoformat()}` needs the embedded engine, whose clock a test can set",
            fix="Run this case without --database-url, or leave it out by -k.",
        )

    def deliver(self, records: Sequence[Record]) -> None:
        if records:
            self.produce(records)

    def barrier(self) -> None:
        self.connection.execute("FLUSH")


class _Loop:
    """An event loop in a thread of its own."""

    def __enter__(self) -> _Loop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sql-test-loop", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)


# What is built on others goes first.
_KINDS = ("SINK", "SUBSCRIPTION", "MATERIALIZED VIEW", "VIEW", "TABLE", "SOURCE", "FUNCTION")


def _drop(admin: Connection, database_url: str, name: str) -> None:
    """A database can only be dropped when it is empty."""
    try:
        with psycopg.connect(database_url, dbname=name, autocommit=True) as connection:
            for kind in _KINDS:
                for row in connection.execute(f"SHOW {kind}S".encode()).fetchall():
                    cascade = "" if kind == "FUNCTION" else " CASCADE"
                    connection.execute(f'DROP {kind} IF EXISTS "{row[0]}"{cascade}'.encode())
        admin.execute(f"DROP DATABASE {name}".encode())
    except psycopg.Error as error:
        logger.warning("the test's database is left behind", extra={"database": name, "error": str(error)})
