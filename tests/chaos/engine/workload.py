"""What flows while processes are killed: two topics, two tables that a client writes, and a view of each kind over them.

    topic events (1 partition) --+-- copied --+-- sink: topic, sink: lake        totals -- sink: topic (upsert)
      every 23rd record is late  |            +-- totals, top, ranked            totals -- sink INTO big -- bigger
                                 +-- windows (emit on window close) -- sink: topic
    topic payments (3 partitions)+-- joined, spent (outer join)
    table customers, rates ------+-- cities, priced (temporal join)

The plain queries of the oracle are DuckDB's own SQL over what was sent; nothing of the engine takes part in them.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from confluent_kafka import Producer

KEYS = 7
_BEGIN = datetime(2026, 1, 5)  # noqa: DTZ001  event time of the workload has no zone
_STEP = timedelta(milliseconds=200)
_LATENESS = timedelta(seconds=5)
_BEHIND = timedelta(seconds=60)
CITIES = ("Oslo", "Graz", "Kyoto", "Lima")


def at(seq: int) -> datetime:
    return _BEGIN + seq * _STEP - (_BEHIND if is_late(seq) else timedelta(0))


def amount(seq: int) -> int:
    return seq * 7919 % 97


def is_late(seq: int) -> bool:
    """Every 23rd record, once so much time has passed that it is behind the watermark, which is five seconds behind the last."""
    return seq % 23 == 0 and seq * _STEP > 2 * _BEHIND


def reached(events: int) -> datetime:
    """The watermark after so many events."""
    return max(at(seq) for seq in range(max(0, events - 2), events)) - _LATENESS


@dataclass
class Topics:
    """The producer's side: everything here was acknowledged by the broker."""

    name: str
    bootstrap: str
    events: int = 0
    payments: int = 0
    producer: Producer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        quiet = logging.getLogger("workload.producer")
        quiet.setLevel(logging.CRITICAL)  # the broker is killed now and then, which is no news here
        self.producer = Producer(
            {"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 1}, logger=quiet
        )

    def produce(self, rng: random.Random, count: int) -> None:
        """Send, without waiting."""
        for _ in range(count):
            seq = self.events
            value = {"seq": seq, "key": f"k{seq % KEYS}", "amount": amount(seq), "at": at(seq).isoformat(sep=" ")}
            self.producer.produce(f"events-{self.name}", json.dumps(value), partition=0)
            self.events += 1
            if seq % 2 == 0:
                paid = {"id": self.payments, "customer": self.payments % 40, "cents": self.payments * 31 % 500}
                self.producer.produce(f"payments-{self.name}", json.dumps(paid), partition=rng.randrange(3))
                self.payments += 1
        self.producer.poll(0)

    def settle(self) -> None:
        """Wait until the broker has acknowledged everything."""
        assert self.producer.flush(60) == 0, "the broker does not acknowledge"


@dataclass
class Ledger:
    """The client's side: every change that was sent, in order, and how many of them FLUSH has acknowledged.

    After a crash a table must hold what a prefix of its changes makes, and all acknowledged ones are in that prefix.
    """

    table: str
    changes: list[tuple[int, tuple[object, ...] | None]] = field(default_factory=list)
    acknowledged: int = 0

    def state(self, length: int | None = None) -> dict[int, tuple[object, ...]]:
        rows: dict[int, tuple[object, ...]] = {}
        for key, row in self.changes[:length]:
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
        return rows

    def reconcile(self, stored: dict[int, tuple[object, ...]]) -> str | None:
        """Forget the changes that were lost with the process; what is wrong if acknowledged ones are among them."""
        for length in range(len(self.changes), self.acknowledged - 1, -1):
            if self.state(length) == stored:
                del self.changes[length:]
                self.acknowledged = length
                return None
        return f"table {self.table} holds no prefix of its changes that has the {self.acknowledged} acknowledged ones"


class Client:
    """Writes rows of `customers` and versions of `rates`, one statement a change."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.customers, self.rates = Ledger("customers"), Ledger("rates")
        self.versions = 0

    def next_change(self) -> tuple[str, Ledger, tuple[int, tuple[object, ...] | None], bool]:
        """A statement, what it changes, and whether all before it must be visible (UPDATE and DELETE read what is committed)."""
        if self._rng.random() < 0.4:
            self.versions += 1
            key = self._rng.randrange(KEYS)
            row = (f"k{key}", self.versions)
            return f"INSERT INTO rates VALUES ('{row[0]}', {row[1]})", self.rates, (key, row), False
        key = self._rng.randrange(40)
        city = self._rng.choice(CITIES)
        kind = self._rng.random()
        if kind < 0.6:
            score = self._rng.randrange(1000)
            statement = f"INSERT INTO customers VALUES ({key}, '{city}', {score})"
            return statement, self.customers, (key, (key, city, score)), False
        stored = self.customers.state().get(key)
        if kind < 0.8 or stored is None:
            return f"DELETE FROM customers WHERE id = {key}", self.customers, (key, None), True
        return (
            f"UPDATE customers SET city = '{city}' WHERE id = {key}", self.customers, (key, (key, city, stored[2])), True,
        )  # fmt: skip


def statements(topics: Topics, folder: Path) -> Iterator[str]:
    kafka = f"connector = 'kafka', properties.bootstrap.server = '{topics.bootstrap}'"
    name = topics.name
    lake = (
        f"connector = 'iceberg', type = 'append-only', warehouse.path = '{folder / 'warehouse'}', catalog.type = 'jdbc',"
        f" catalog.uri = 'jdbc:sqlite:{folder / 'catalog.db'}', catalog.name = 'headrace', database.name = 'lake',"
        " table.name = 'copied', create_table_if_not_exists = 'true'"
    )
    yield (
        "CREATE SOURCE events (seq BIGINT, key VARCHAR, amount INT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '5 seconds')"
        f" WITH ({kafka}, topic = 'events-{name}', scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON"
    )
    yield (
        "CREATE SOURCE payments (id BIGINT, customer INT, cents INT)"
        f" WITH ({kafka}, topic = 'payments-{name}', scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON"
    )
    yield "CREATE TABLE customers (id INT PRIMARY KEY, city VARCHAR, score INT)"
    yield "CREATE TABLE rates (key VARCHAR PRIMARY KEY, version INT)"
    yield "CREATE TABLE big (key VARCHAR PRIMARY KEY, n BIGINT, total BIGINT)"
    for view, (query, _) in VIEWS.items():
        yield f"CREATE MATERIALIZED VIEW {view} AS {query}"
        if view in SUBSCRIBED:
            yield f"CREATE SUBSCRIPTION {view}_changes FROM {view} WITH (retention = '1 day')"
    yield "CREATE SINK fill_big INTO big FROM totals"
    yield "CREATE MATERIALIZED VIEW bigger AS SELECT key, total FROM big WHERE n > 10"
    yield f"CREATE SINK copied_out FROM copied WITH ({kafka}, topic = 'copied-{name}') FORMAT PLAIN ENCODE JSON"
    yield f"CREATE SINK windows_out FROM windows WITH ({kafka}, topic = 'windows-{name}') FORMAT PLAIN ENCODE JSON"
    yield (
        f"CREATE SINK totals_out FROM totals WITH ({kafka}, topic = 'totals-{name}', primary_key = 'key')"
        " FORMAT UPSERT ENCODE JSON"
    )
    yield f"CREATE SINK to_lake FROM copied WITH ({lake})"


# View: (the engine's query, the oracle's). The oracle knows events (those in time; `moment` is `at`), payments, customers, rates and `reached`.
VIEWS = {
    "copied": (
        "SELECT seq, key, amount * 2 AS doubled FROM events",
        "SELECT seq, key, amount * 2 FROM events",
    ),
    "totals": (
        "SELECT key, count(*) AS n, sum(doubled)::BIGINT AS total FROM copied GROUP BY key",
        "SELECT key, count(*), sum(amount * 2) FROM events GROUP BY key",
    ),
    "windows": (
        "SELECT window_start, window_end, key, count(*) AS n, sum(amount) AS total FROM TUMBLE(events, at, INTERVAL '10 seconds')"
        " GROUP BY window_start, window_end, key EMIT ON WINDOW CLOSE",
        "SELECT w, w + INTERVAL 10 SECONDS, key, count(*), sum(amount) FROM (SELECT *, time_bucket(INTERVAL 10 SECONDS, moment) AS w"
        " FROM events) WHERE w + INTERVAL 10 SECONDS <= (SELECT moment FROM reached) GROUP BY w, key",
    ),
    "joined": (
        "SELECT p.id, p.cents, c.city, c.score FROM payments p JOIN customers c ON p.customer = c.id",
        "SELECT p.id, p.cents, c.city, c.score FROM payments p, customers c WHERE p.customer = c.id",
    ),
    "spent": (
        "SELECT c.id, c.city, s.spent FROM customers c LEFT JOIN (SELECT customer, sum(cents) AS spent FROM payments GROUP BY customer) s"
        " ON c.id = s.customer",
        "SELECT c.id, c.city, (SELECT sum(cents) FROM payments p WHERE p.customer = c.id) FROM customers c",
    ),
    "top": (
        "SELECT seq, key, doubled FROM (SELECT *, row_number() OVER (PARTITION BY key ORDER BY doubled DESC, seq) AS r FROM copied) t"
        " WHERE r <= 3",
        "SELECT seq, key, amount * 2 FROM events e WHERE 3 > (SELECT count(*) FROM events o WHERE o.key = e.key"
        " AND (o.amount > e.amount OR o.amount = e.amount AND o.seq < e.seq))",
    ),
    "ranked": (
        "SELECT id, city, score, rank() OVER (PARTITION BY city ORDER BY score) AS place FROM customers",
        "SELECT id, city, score, 1 + (SELECT count(*) FROM customers o WHERE o.city = c.city AND o.score < c.score) FROM customers c",
    ),
    "cities": (
        "SELECT city, count(*) AS n, max(score) AS best, string_agg(id::varchar, ',' ORDER BY id) AS ids FROM customers GROUP BY city",
        "SELECT city, count(*), max(score), string_agg(id, ',' ORDER BY id) FROM customers GROUP BY city",
    ),
    # What it gives depends on when a rate came; `checks.prices` knows what must hold.
    "priced": (
        "SELECT e.seq, e.key, r.version FROM events e LEFT JOIN rates FOR SYSTEM_TIME AS OF PROCTIME() AS r ON e.key = r.key",
        "",
    ),
}  # fmt: skip
SUBSCRIBED = ("totals", "joined", "spent", "top", "ranked", "windows")
# Created and dropped while processes are killed.
PASSING = {
    "passing_high": (
        "SELECT key, max(amount) AS high, count(*) AS n FROM events GROUP BY key",
        "SELECT key, max(amount), count(*) FROM events GROUP BY key",
    ),
    "passing_cities": (
        "SELECT c.city, count(*) AS n, sum(p.cents) AS cents FROM payments p JOIN customers c ON p.customer = c.id GROUP BY c.city",
        "SELECT c.city, count(*), sum(p.cents) FROM payments p JOIN customers c ON p.customer = c.id GROUP BY c.city",
    ),
    "passing_pages": (
        "SELECT w.window_start, count(*) AS keys FROM windows w GROUP BY w.window_start",
        "SELECT w, count(*) FROM (SELECT DISTINCT time_bucket(INTERVAL 10 SECONDS, moment) AS w, key FROM events)"
        " WHERE w + INTERVAL 10 SECONDS <= (SELECT moment FROM reached) GROUP BY w",
    ),
}  # fmt: skip
MORE = {
    "bigger": ("", "SELECT key, sum(amount * 2) FROM events GROUP BY key HAVING count(*) > 10"),
    "big": ("", "SELECT key, count(*), sum(amount * 2) FROM events GROUP BY key"),
    "customers": ("", "FROM customers"),
    "rates": ("", "FROM rates"),
}
