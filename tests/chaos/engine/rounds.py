"""SIGKILL of the engine and of the broker, round after round, while records, changes and DDL flow; then everything is compared.

    python -m tests.chaos.engine.rounds --rounds 100 --broker embedded|kafka --seed N [--seconds S] [--json FILE] [--folder FOLDER]

Each round starts the engine on the folder that the last kill left, drives it until the process is dead, and notes where the kill
fell. Afterwards every check of `checks` must find nothing missing, nothing twice and views that equal DuckDB's own answer.
Exit status 1 if a check finds anything, or if fewer than one kill in five fell inside a commit.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from confluent_kafka.admin import AdminClient, NewTopic

from tests.chaos.engine import checks, workload
from tests.chaos.engine.checks import World
from tests.chaos.engine.processes import Connection, EngineProcess, query
from tests.chaos.engine.workload import Client, Topics
from tests.services.kafka import Cluster, start_apache, start_embedded

ROUND_SECONDS = 60.0
REPOSITORY = Path(__file__).parents[3]

# Kill point: weight, and the longest time in seconds after the step at which the process is killed (None: at the step itself).
# A commit takes about a millisecond, so a kill some tenths of one after its start falls inside.
POINTS: dict[str, tuple[int, float | None]] = {
    "epoch: before commit": (40, 0.001),
    "epoch: after commit": (8, None),
    "ddl: before commit": (10, 0.001),
    "ddl: after commit": (4, None),
    "sink: before delivery": (10, 0.02),
    "sink: after delivery": (6, None),
    "checkpoint: before": (6, 0.001),
    "any time": (8, 1.5),
    "while it recovers": (6, 0.4),
    "the broker, then the engine": (8, 0.5),
}


@dataclass
class Outcome:
    """What a run found; `as_json` is what is written."""

    broker: str
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    inside: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: int = 0
    broker_kills: int = 0
    acknowledged_flushes: int = 0
    ddl_kept: int = 0
    ddl_absent: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)
    records: int = 0
    changes: int = 0
    seconds: float = 0.0

    @property
    def inside_commit(self) -> int:
        """Kills proven to fall inside a commit of DuckDB: of an epoch, of DDL, or inside a checkpoint."""
        return sum(n for (_, what), n in self.inside.items() if what in ("epoch", "ddl", "checkpoint"))

    @property
    def passed(self) -> bool:
        return not any(self.violations.values()) and self.inside_commit * 5 >= self.kills.total()

    def as_json(self) -> dict[str, object]:
        return {
            "broker": self.broker, "seed": self.seed, "passed": self.passed, "kills": dict(self.kills), "kills_total": self.kills.total(),
            "inside_commit": self.inside_commit, "inside": {f"{point} | {what}": n for (point, what), n in sorted(self.inside.items())},
            "broker_kills": self.broker_kills, "acknowledged_flushes": self.acknowledged_flushes, "ddl_under_a_kill_kept": self.ddl_kept,
            "ddl_under_a_kill_absent": self.ddl_absent, "records": self.records, "changes": self.changes,
            "seconds": round(self.seconds, 1), "violations": self.violations,
        }  # fmt: skip

    def table(self) -> str:
        lines = [f"{'kill point':<30}{'kills':>6}  inside: commit of an epoch  of DDL  checkpoint  delivery"]
        for point in POINTS:
            counts = [self.inside[point, what] for what in ("epoch", "ddl", "checkpoint", "sink")]
            lines.append(f"{point:<30}{self.kills[point]:>6}{counts[0]:>28}{counts[1]:>8}{counts[2]:>12}{counts[3]:>10}")
        lines.append(
            f"{self.kills.total()} kills of the engine, {self.inside_commit} proven inside a commit; {self.broker_kills} of the broker;"
            f" {self.records} records, {self.changes} changes, {self.acknowledged_flushes} acknowledged flushes;"
            f" DDL under a kill: {self.ddl_kept} kept, {self.ddl_absent} absent; {self.seconds:.0f} s"
        )
        lines += [f"{'ok' if not found else 'VIOLATED':<10}{check}" for check, found in self.violations.items()]
        lines += [f"  {text}" for found in self.violations.values() for text in found]
        return "\n".join(lines)


class Matrix:
    """The rounds on one broker."""

    def __init__(self, cluster: Cluster, folder: Path, seed: int) -> None:
        self.cluster, self.folder = cluster, folder
        self.rng = random.Random(seed)
        self.outcome = Outcome(cluster.name, seed)
        self.engine = EngineProcess(folder / "engine")
        topics = Topics(uuid.uuid4().hex[:8], cluster.bootstrap)
        self.world = World(folder, topics, Client(self.rng), dict.fromkeys(workload.PASSING, False))
        self.unsure: str | None = None
        self.outcome.violations = {"after each restart": []}

    def run(self, rounds: int, seconds: float = float("inf")) -> Outcome:
        """Do so many rounds, but begin none after `seconds`; then compare."""
        began = time.monotonic()
        try:
            self._prepare()
            for number in range(rounds):
                if time.monotonic() - began > seconds:
                    break
                (point,) = self.rng.choices(list(POINTS), [weight for weight, _ in POINTS.values()])
                print(f"{time.monotonic() - began:6.0f} s  round {number + 1}: {point}", file=sys.stderr, flush=True)
                self.round(point)
            self._finish()
        finally:
            if self.engine.running:
                self.engine.kill()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _prepare(self) -> None:
        topics = self.world.topics
        wanted = [NewTopic(f"events-{topics.name}", 1, 1), NewTopic(f"payments-{topics.name}", 3, 1)]
        admin = AdminClient({"bootstrap.servers": topics.bootstrap})
        for created in admin.create_topics(wanted).values():
            created.result(30)
        self.engine.start()
        assert self.engine.await_port()
        # Everything is created before the first record: who reads a subscription from its beginning has the whole view then.
        with self.engine.connect() as connection:
            for statement in workload.statements(topics, self.folder):
                connection.execute(statement)  # type: ignore[call-overload]  # psycopg wants a literal
        self.engine.kill()

    def round(self, point: str) -> None:
        """Start, drive until the process is dead, note where that was."""
        _, longest = POINTS[point]
        delay = self.rng.uniform(longest / 20, longest) if longest is not None else 0.0
        at_step = point.split(":")[0] in ("epoch", "ddl", "sink", "checkpoint")
        visit = self.rng.randint(1, 2 if point.startswith("ddl") else 6) if not point.startswith("checkpoint") else 1
        self.engine.start(*((point, visit, delay) if at_step else ()))
        timer = None
        if point == "while it recovers":
            time.sleep(self.rng.uniform(0.3, 2.0) + delay)  # the moment itself is what is drawn; nothing is waited for
            self.engine.kill()
        elif self.engine.await_port():
            timer = None if at_step else threading.Timer(delay, self._kill, [point])
            if timer is not None:
                timer.start()
            self._drive(point)
        if timer is not None:
            timer.join()
        if self.engine.running:  # its step was not reached
            point = "any time"
            self.engine.kill()
        if self.engine.killed:
            self.outcome.kills[point] += 1
        else:
            self.outcome.missed += 1  # it had stopped already, as it was told to
        inside = self.engine.inside()
        if inside is not None and self.engine.killed:
            self.outcome.inside[point, inside] += 1

    def _kill(self, point: str) -> None:
        if point.startswith("the broker") and self.cluster.name != "Apache Kafka":
            self.cluster.kill()
            self.outcome.broker_kills += 1
            self.cluster.start()
        self.engine.kill()

    def _drive(self, point: str) -> None:
        deadline = time.monotonic() + ROUND_SECONDS
        try:
            with self.engine.connect() as connection:
                self._compare_after_restart(connection)
                if point.startswith("checkpoint"):
                    self._shut_down()
                while not point.startswith("checkpoint") and self.engine.running and time.monotonic() < deadline:
                    self.world.topics.produce(self.rng, self.rng.randint(1, 30))
                    self._change(connection)
                    if self.rng.random() < (0.8 if point.startswith("ddl") else 0.1):
                        self._ddl(connection)
                    time.sleep(self.rng.uniform(0, 0.02))  # the pace of the input
        except psycopg.OperationalError:
            pass  # it is dead, or dying
        while self.engine.running and time.monotonic() < deadline:
            time.sleep(0.01)

    def _shut_down(self) -> None:
        """The file is checkpointed when the engine stops: that is where this kill falls."""
        assert self.engine.process is not None
        self.world.topics.produce(self.rng, 50)
        self.engine.process.terminate()

    def _change(self, connection: Connection) -> None:
        statement, ledger, change, needs_flush = self.world.client.next_change()
        if needs_flush:
            self._flush(connection)
        ledger.changes.append(change)
        connection.execute(statement)  # type: ignore[call-overload]  # psycopg wants a literal
        if needs_flush or self.rng.random() < 0.3:
            self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        client = self.world.client
        sent = [(ledger, len(ledger.changes)) for ledger in (client.customers, client.rates)]
        connection.execute("FLUSH")
        self.outcome.acknowledged_flushes += 1
        for ledger, length in sent:
            ledger.acknowledged = length

    def _ddl(self, connection: Connection) -> None:
        name = self.rng.choice(list(workload.PASSING))
        there = self.world.passing[name]
        text = f"DROP MATERIALIZED VIEW {name}" if there else f"CREATE MATERIALIZED VIEW {name} AS {workload.PASSING[name][0]}"
        self.unsure = name
        connection.execute(text)  # type: ignore[call-overload]  # psycopg wants a literal
        self.unsure = None
        self.world.passing[name] = not there

    def _compare_after_restart(self, connection: Connection) -> None:
        """What must hold at once: acknowledged changes are there, and a view that passed by is there wholly or not at all."""
        found = checks.reconcile(self.world, connection)
        stored = {str(row[0]).removeprefix("public.") for row in query(connection, "SHOW MATERIALIZED VIEWS")}
        for name, there in self.world.passing.items():
            if name == self.unsure:
                self.world.passing[name] = name in stored
                self.outcome.ddl_kept += name in stored
                self.outcome.ddl_absent += name not in stored
            elif (name in stored) != there:
                found.append(f"view {name} was acknowledged as {'created' if there else 'dropped'}, but it is not so")
            if name in stored:
                query(connection, f"SELECT count(*) FROM {name}")
        self.unsure = None
        self.outcome.violations["after each restart"] += found

    def _finish(self) -> None:
        world = self.world
        world.topics.produce(self.rng, 60)
        world.topics.settle()
        self.engine.start()
        assert self.engine.await_port()
        violations = self.outcome.violations
        with self.engine.connect() as connection:
            self._compare_after_restart(connection)
            try:
                checks.await_caught_up(world, connection)
            except TimeoutError as error:
                violations["everything goes through"] = [str(error)]
            for name, check in checks.CHECKS.items():
                violations[name] = check(world, connection)
        status = self.engine.stop()
        violations["graceful stop"] = [] if status == 0 else [f"exit status {status}"]
        violations["nothing is left behind by DDL"] = checks.orphans(self.engine.folder)
        self.outcome.records = world.topics.events + world.topics.payments
        self.outcome.changes = len(world.client.customers.changes) + len(world.client.rates.changes)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further round after so long")
    parser.add_argument("--json", type=Path, help="where the outcome is written")
    parser.add_argument("--folder", type=Path, help="kept afterwards; default: a temporary one")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="headrace-rounds-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        cluster = start_embedded(folder) if options.broker == "embedded" else start_apache(folder, REPOSITORY / ".cache")
        try:
            outcome = Matrix(cluster, folder, seed).run(options.rounds, options.seconds)
        finally:
            cluster.stop()
    print(outcome.table())
    if options.json is not None:
        options.json.write_text(json.dumps(outcome.as_json(), indent=1) + "\n")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
