"""What must hold after the last recovery; each check gives the violations it found, in words."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, TopicPartition

from engine.catalog.catalog import QUARANTINE_ID
from iceberg.catalog import open_catalog
from tests.chaos.engine import workload
from tests.chaos.engine.processes import Connection, query
from tests.chaos.engine.workload import Client, Topics

CAUGHT_UP_SECONDS = 180.0
_QUIET_SECONDS = 1.0  # after the last expected record, so that a second copy would be seen
_SHOWN = 5
Rows = Counter[tuple[object, ...]]


@dataclass
class World:
    """Everything that was sent, and where it should have gone."""

    folder: Path
    topics: Topics
    client: Client
    passing: dict[str, bool]

    def __post_init__(self) -> None:
        self.oracle = duckdb.connect()
        self._sent = (0, -1)

    def expected(self, sql: str) -> Rows:
        self._load()
        return count(self.oracle.execute(sql).fetchall())

    def _load(self) -> None:
        """Hand the oracle all that was sent, once."""
        topics, run = self.topics, self.oracle.execute
        if self._sent == (topics.events, topics.payments):
            return
        self._sent = (topics.events, topics.payments)
        kept = [seq for seq in range(topics.events) if not workload.is_late(seq)]
        columns = {
            "seq": kept,
            "key": [f"k{seq % workload.KEYS}" for seq in kept],
            "amount": [workload.amount(seq) for seq in kept],
            "moment": [workload.at(seq) for seq in kept],
        }
        self.oracle.register("sent_events", pa.table(columns))
        run("CREATE OR REPLACE TABLE events AS FROM sent_events")
        run(
            "CREATE OR REPLACE TABLE payments AS SELECT i AS id, i % 40 AS customer, i * 31 % 500 AS cents FROM range(?) r(i)",
            [topics.payments],
        )
        run("CREATE OR REPLACE TABLE customers (id INT, city VARCHAR, score INT)")
        run("CREATE OR REPLACE TABLE rates (key VARCHAR, version INT)")
        for name, ledger in (("customers", self.client.customers), ("rates", self.client.rates)):
            for row in ledger.state().values():
                run(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", list(row))
        run("CREATE OR REPLACE TABLE reached AS SELECT ?::TIMESTAMP AS moment", [workload.reached(topics.events)])


def count(rows: Iterable[tuple[object, ...]]) -> Rows:
    """Rows with their number; numbers of any type compare by value."""
    return Counter(tuple(int(v) if isinstance(v, Decimal) and v == int(v) else v for v in row) for row in rows)


def compare(what: str, found: Rows, expected: Rows) -> list[str]:
    """Missing and surplus rows, the first few of them shown."""
    missing, surplus = expected - found, found - expected
    words = []
    if missing:
        words.append(f"{what}: missing {missing.total()}, for example {list(missing)[:_SHOWN]}")
    if surplus:
        words.append(f"{what}: {surplus.total()} too many, for example {list(surplus)[:_SHOWN]}")
    return words


# The checks.


def views(world: World, connection: Connection) -> list[str]:
    """Every view, table and passing view equals the oracle's query over what was sent."""
    words = []
    passing = {name: query for name, query in workload.PASSING.items() if world.passing[name]}
    for name, (_, oracle) in {**workload.VIEWS, **workload.MORE, **passing}.items():
        if oracle:
            words += compare(name, count(query(connection, f"SELECT * FROM {name}")), world.expected(oracle))
    return words


def late_rows(world: World, connection: Connection) -> list[str]:
    """What was left out is in the quarantine, once, and it is what was late."""
    rows = query(connection, "SELECT payload FROM quarantine WHERE reason LIKE 'late:%'")
    found = Counter((int(json.loads(bytes(row[0]))["seq"]),) for row in rows)  # type: ignore[arg-type]  # bytea
    late = Counter((seq,) for seq in range(world.topics.events) if workload.is_late(seq))
    return compare("quarantine", count(found.elements()), count(late.elements()))


def prices(world: World, connection: Connection) -> list[str]:
    """Each event met its key's rate once, one that was committed, and never an older one than the event before it."""
    rows = query(connection, "SELECT seq, key, version FROM priced ORDER BY seq")
    in_time = {(seq,): 1 for seq in range(world.topics.events) if not workload.is_late(seq)}
    words = compare("priced", count((row[0],) for row in rows), Counter(in_time))
    committed = {row for _, row in world.client.rates.changes}
    latest: dict[object, int] = {}
    for seq, key, version in rows:
        if version is None and key not in latest:
            continue
        if (key, version) not in committed or int(str(version)) < latest.get(key, 0):
            words.append(f"priced: event {seq} of {key} met version {version} after version {latest.get(key)}")
            continue
        latest[key] = int(str(version))
    return words[:_SHOWN]


def subscriptions(world: World, connection: Connection) -> list[str]:
    """Who reads a changelog from its beginning has the view, and no row is retracted that is not there."""
    words = []
    for view in workload.SUBSCRIBED:
        state: Rows = Counter()
        connection.execute(f"DECLARE {view}_replay SUBSCRIPTION CURSOR FOR {view}_changes SINCE begin()")  # type: ignore[call-overload]
        while rows := query(connection, f"FETCH 5000 FROM {view}_replay"):
            for *values, op, _ in rows:
                row = next(iter(count([tuple(values)])))
                state[row] += 1 if op in ("Insert", "UpdateInsert") else -1
                if state[row] < 0:
                    words.append(f"{view}_changes retracts {row} more often than it inserts it")
        words += compare(f"{view}_changes", +state, world.expected(workload.VIEWS[view][1]))
    return words[: 2 * _SHOWN]


def sink_to_topic(world: World, connection: Connection) -> list[str]:
    rows = read_topic(world, "copied", len(in_time(world)))
    return compare(
        "topic copied", count((r["seq"], r["key"], r["doubled"]) for _, r in rows), world.expected(workload.VIEWS["copied"][1])
    )


def windows_to_topic(world: World, connection: Connection) -> list[str]:
    closed = world.expected(workload.VIEWS["windows"][1])
    expected = Counter({(begin, *rest): n for (begin, _, *rest), n in closed.items()})
    rows = read_topic(world, "windows", expected.total())
    found = count((_from_millis(r["window_start"]), r["key"], r["n"], r["total"]) for _, r in rows)
    return compare("topic windows", found, expected)


def _from_millis(value: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(milliseconds=value)  # noqa: DTZ001  event time of the workload has no zone


def upserts_to_topic(world: World, connection: Connection) -> list[str]:
    """The last record of each key is its total; counts only grow, so a record that came twice would be seen."""
    expected = world.expected(workload.VIEWS["totals"][1])
    last: dict[str, tuple[object, ...]] = {}
    words = []
    for key, value in read_topic(world, "totals", None):
        name = json.loads(key)["key"]
        if name in last and value["n"] <= int(str(last[name][1])):
            words.append(f"topic totals: {name} has n = {value['n']} after n = {last[name][1]}")
        last[name] = (name, value["n"], int(value["total"]))
    return words[:_SHOWN] + compare("topic totals", count(last.values()), expected)


def sink_to_lake(world: World, connection: Connection) -> list[str]:
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{world.folder / 'catalog.db'}", str(world.folder / "warehouse"))
    rows = catalog.load_table("lake.copied").scan().to_arrow().to_pylist()
    return compare(
        "lake copied", count((r["seq"], r["key"], r["doubled"]) for r in rows), world.expected(workload.VIEWS["copied"][1])
    )


def broker(world: World, connection: Connection) -> list[str]:
    """What the broker acknowledged is in its topics once; otherwise the engine cannot be blamed."""
    events = [r["seq"] for _, r in read_topic(world, "events", world.topics.events)]
    payments = [r["id"] for _, r in read_topic(world, "payments", world.topics.payments)]
    words = [] if events == sorted(events) else ["topic events is out of order"]
    words += compare("topic events", Counter((s,) for s in events), Counter((s,) for s in range(world.topics.events)))
    return words + compare(
        "topic payments", Counter((s,) for s in payments), Counter((s,) for s in range(world.topics.payments))
    )


CHECKS: dict[str, Callable[[World, Connection], list[str]]] = {
    "broker has what it acknowledged": broker,
    "views equal the oracle": views,
    "late rows are in the quarantine": late_rows,
    "temporal join": prices,
    "subscriptions add up": subscriptions,
    "sink to a topic, append-only": sink_to_topic,
    "sink of closed windows": windows_to_topic,
    "sink to a topic, upsert": upserts_to_topic,
    "sink to the lake": sink_to_lake,
}


def in_time(world: World) -> list[int]:
    return [seq for seq in range(world.topics.events) if not workload.is_late(seq)]


def reconcile(world: World, connection: Connection) -> list[str]:
    """After a restart: tables hold a prefix of their changes, and views that passed by exist as was acknowledged."""
    words = []
    customers = {int(str(row[0])): row for row in query(connection, "SELECT id, city, score FROM customers")}
    rates = {int(str(row[0])[1:]): row for row in query(connection, "SELECT key, version FROM rates")}
    for ledger, stored in ((world.client.customers, customers), (world.client.rates, rates)):
        problem = ledger.reconcile(stored)
        words += [problem] if problem else []
    return words


def await_caught_up(world: World, connection: Connection) -> None:
    """Until all that was sent has gone through the engine and out of its sinks."""
    deadline = time.monotonic() + CAUGHT_UP_SECONDS
    while True:
        ((copied,),) = query(connection, "SELECT count(*) FROM copied")
        lags = query(connection, "SELECT sum(lag) FROM rw_catalog.headrace_sources")
        backlog = query(connection, "SELECT sum(backlog_rows) FROM rw_catalog.headrace_sinks")
        if copied == len(in_time(world)) and lags[0][0] == 0 and backlog[0][0] == 0:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{copied} of {len(in_time(world))} rows, source lag {lags[0][0]}, sink backlog {backlog[0][0]}:"
                f" {query(connection, 'SELECT name, problem FROM rw_catalog.headrace_sinks')}"
            )
        time.sleep(0.1)


def read_topic(world: World, topic: str, wanted: int | None) -> list[tuple[bytes, dict[str, Any]]]:
    """All committed records of a topic, partition by partition; on for a while after `wanted` of them (None: to the end)."""
    consumer = Consumer(
        {
            "bootstrap.servers": world.topics.bootstrap,
            "group.id": "check",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    name = f"{topic}-{world.topics.name}"
    records: list[tuple[bytes, dict[str, Any]]] = []
    try:
        partitions = consumer.list_topics(name, 30).topics[name].partitions
        consumer.assign([TopicPartition(name, p, 0) for p in partitions])
        ended: set[int] = set()
        deadline, quiet_since = time.monotonic() + 60, time.monotonic()
        while len(ended) < len(partitions) or (wanted is not None and time.monotonic() - quiet_since < _QUIET_SECONDS):
            if time.monotonic() > deadline:
                break  # the comparison tells what is missing
            for message in consumer.consume(1000, 0.1):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif error is None:
                    records.append((message.key(), json.loads(message.value())))
                    quiet_since = time.monotonic()
    finally:
        consumer.close()
    return records


def orphans(folder: Path) -> list[str]:
    """Tables in the file of a stopped engine that belong to no object: what was created or dropped in part would be there."""
    with duckdb.connect(str(folder / "engine.duckdb"), read_only=True) as file:
        names = [row[0] for row in file.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'hr'").fetchall()]
        ids = {str(row[0]) for row in file.execute("SELECT id FROM hr.catalog UNION ALL SELECT id FROM hr.jobs").fetchall()}
    mine = {"meta", "catalog", "jobs", "databases", "users", "comments", "late", "positions", f"r{QUARANTINE_ID}"}
    owners = {name: "".join(c for c in name.split("_")[0] if c.isdigit()) for name in names if name not in mine}
    return [f"table hr.{name} belongs to no object" for name, owner in owners.items() if owner not in ids]
