"""SIGKILL of the engine at every step of an epoch and of a delivery: nothing lost, nothing twice, views right.

Records flow from a topic through a view and an aggregate to a topic and to a lake table while the engine is killed, round after
round. Afterwards every record must be in the view, in the topic (read committed) and in the table exactly once, and the aggregate
must be that of the records.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.ports import accepts_connections, free_port
from iceberg.catalog import open_catalog
from tests.services.kafka import Cluster

CHILD = Path(__file__).parent / "child.py"
HOST = "127.0.0.1"
KEYS = 5
STEPS = ("epoch: before commit", "epoch: after commit", "sink: before delivery", "sink: after delivery")


@dataclass
class World:
    """One data folder, one broker, and all that was sent."""

    cluster: Cluster
    folder: Path
    port: int = field(default_factory=lambda: free_port(HOST))
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    sent: int = 0
    inside_commit: int = 0
    killed: int = 0

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def start(self, *failpoint: str) -> subprocess.Popen[bytes]:
        self.journal.unlink(missing_ok=True)
        command = [sys.executable, str(CHILD), str(self.folder / "engine"), str(self.port), str(self.journal), *failpoint]
        return subprocess.Popen(command, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHILD.parents[3])})

    def await_port(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it listens; False if it has killed itself before."""
        deadline = time.monotonic() + 60
        while not accepts_connections(HOST, self.port):
            if process.poll() is not None:
                return False
            assert time.monotonic() < deadline, "the engine does not listen"
            time.sleep(0.02)
        return True

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(f"postgresql://root@{HOST}:{self.port}/dev", autocommit=True)

    def produce(self, producer: Producer, count: int) -> None:
        for _ in range(count):
            value = {"seq": self.sent, "key": f"k{self.sent % KEYS}", "amount": self.sent % 97}
            producer.produce(f"in-{self.name}", json.dumps(value))
            self.sent += 1
        assert producer.flush(30) == 0

    def statements(self) -> list[str]:
        kafka = f"properties.bootstrap.server = '{self.cluster.bootstrap}'"
        lake = (
            f"connector = 'iceberg', type = 'append-only', warehouse.path = '{self.folder / 'warehouse'}', catalog.type = 'jdbc',"
            f" catalog.uri = 'jdbc:sqlite:{self.folder / 'catalog.db'}', catalog.name = 'headrace', database.name = 'lake',"
            " table.name = 'copied', create_table_if_not_exists = 'true'"
        )
        return [
            "CREATE SOURCE numbers (seq BIGINT, key VARCHAR, amount INT) WITH (connector = 'kafka',"
            f" topic = 'in-{self.name}', {kafka}, scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON",
            "CREATE MATERIALIZED VIEW copied AS SELECT seq, key, amount * 2 AS doubled FROM numbers",
            "CREATE MATERIALIZED VIEW totals AS SELECT key, count(*) AS n, sum(doubled) AS total FROM copied GROUP BY key",
            "CREATE SUBSCRIPTION totals_changes FROM totals WITH (retention = '1 day')",
            f"CREATE SINK to_topic FROM copied WITH (connector = 'kafka', topic = 'out-{self.name}', {kafka}) FORMAT PLAIN ENCODE JSON",
            f"CREATE SINK to_lake FROM copied WITH ({lake})",
        ]

    def round(self, producer: Producer, rng: random.Random) -> None:
        """Start, let records flow until it dies at its failpoint, and see where that was."""
        step = rng.choice(STEPS)
        # A commit takes about a millisecond, so a kill some tenths of one after its start falls inside.
        delay = rng.uniform(0.00005, 0.001) if step == "epoch: before commit" else 0.0
        process = self.start(step, str(rng.randint(1, 6)), str(delay))
        self.await_port(process)
        deadline = time.monotonic() + 60
        while process.poll() is None:
            assert time.monotonic() < deadline, f"`{step}` was not reached"
            self.produce(producer, rng.randint(1, 40))
            try:
                process.wait(rng.uniform(0.01, 0.05))
            except subprocess.TimeoutExpired:
                continue
        self.killed += 1
        epochs = [line for line in self.journal.read_text().splitlines() if line.startswith("epoch")]
        self.inside_commit += bool(epochs) and epochs[-1] == "epoch: before commit"


@pytest.fixture
def world(kafka_cluster: Cluster, tmp_path: Path) -> World:
    return World(kafka_cluster, tmp_path)


def run_matrix(world: World, rounds: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    producer = Producer({"bootstrap.servers": world.cluster.bootstrap, "enable.idempotence": True})
    world.produce(producer, 10)
    process = world.start()
    assert world.await_port(process)
    with world.connect() as connection:
        for statement in world.statements():
            connection.execute(statement)  # type: ignore[call-overload]  # psycopg wants a literal
    process.kill()
    process.wait(10)
    for _ in range(rounds):
        world.round(producer, rng)
    world.produce(producer, 10)
    process = world.start()
    try:
        assert world.await_port(process)
        check(world)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    print(f"{world.killed} kills, {world.inside_commit} inside a commit, {world.sent} records")


def check(world: World) -> None:
    expected = {seq: seq % 97 * 2 for seq in range(world.sent)}
    deadline = time.monotonic() + 120
    with world.connect() as connection:
        while count(connection, "SELECT count(*) FROM copied") < world.sent:
            assert time.monotonic() < deadline, "records are missing in the view"
            time.sleep(0.05)
        rows = connection.execute("SELECT seq, doubled FROM copied").fetchall()
        assert Counter(rows) == Counter(expected.items())
        totals = {key: (n, total) for key, n, total in connection.execute("SELECT key, n, total FROM totals").fetchall()}
        assert totals == {
            f"k{k}": (len(range(k, world.sent, KEYS)), sum(expected[seq] for seq in range(k, world.sent, KEYS)))
            for k in range(KEYS)
        }
        assert replayed_totals(connection) == totals
    assert topic_rows(world, deadline) == Counter(expected.items())
    assert lake_rows(world, deadline) == Counter(expected.items())


def count(connection: psycopg.Connection[tuple[object, ...]], query: str) -> int:
    row = connection.execute(query).fetchone()  # type: ignore[call-overload]
    assert row is not None
    return int(str(row[0]))


def replayed_totals(connection: psycopg.Connection[tuple[object, ...]]) -> dict[object, tuple[object, object]]:
    """The aggregate as a subscriber has it who read the changelog from its beginning."""
    state: Counter[tuple[object, ...]] = Counter()
    connection.execute("DECLARE changes SUBSCRIPTION CURSOR FOR totals_changes SINCE begin()")
    while rows := connection.execute("FETCH 1000 FROM changes").fetchall():
        for key, n, total, op, _ in rows:
            state[key, n, total] += 1 if op in ("Insert", "UpdateInsert") else -1
            assert state[key, n, total] >= 0, "a row is retracted more often than inserted"
    return {key: (n, total) for (key, n, total), left in state.items() if left}


def topic_rows(world: World, deadline: float) -> Counter[tuple[int, int]]:
    config = {
        "bootstrap.servers": world.cluster.bootstrap,
        "group.id": "check",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
    }
    consumer = Consumer({**config, "enable.partition.eof": False})
    found: Counter[tuple[int, int]] = Counter()
    try:
        consumer.assign([TopicPartition(f"out-{world.name}", 0, 0)])
        quiet_since = time.monotonic()
        # Some more time after the last expected one, so that a second copy would be seen.
        while found.total() < world.sent or time.monotonic() - quiet_since < 1.0:
            assert time.monotonic() < deadline, f"{found.total()} of {world.sent} records in the topic"
            for message in consumer.consume(500, 0.2):
                assert message.error() is None
                value = json.loads(message.value())
                found[value["seq"], value["doubled"]] += 1
                quiet_since = time.monotonic()
    finally:
        consumer.close()
    return found


def lake_rows(world: World, deadline: float) -> Counter[tuple[int, int]]:
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{world.folder / 'catalog.db'}", str(world.folder / "warehouse"))
    while not catalog.table_exists("lake.copied") or catalog.load_table("lake.copied").scan().count() < world.sent:
        assert time.monotonic() < deadline, "rows are missing in the lake"
        time.sleep(0.1)
    rows = catalog.load_table("lake.copied").scan().to_arrow().to_pylist()
    return Counter((row["seq"], row["doubled"]) for row in rows)


@pytest.mark.timeout(280)
def test_kills_lose_nothing_and_double_nothing(world: World) -> None:
    run_matrix(world, rounds=6, seed=11)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_a_hundred_kills_lose_nothing_and_double_nothing(world: World) -> None:
    run_matrix(world, rounds=100, seed=int(time.time()))
    assert world.inside_commit >= 20
