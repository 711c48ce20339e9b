"""Produce and consume rates, latency and memory of the embedded broker, beside Apache Kafka where Java and Maven are there.

    python -m benchmarks.broker [--messages 200000] [--size 200] [--rounds 3] [--apache/--no-apache]

Both brokers get the same client (confluent-kafka, idempotent, acks=all), one after the other, on the same machine that
the client shares. Prints one JSON object. The embedded broker acknowledges after fdatasync, Apache Kafka from the page
cache (its default).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from core.settings import BrokerSettings
from tests.services.kafka import Cluster, ServiceUnavailableError, start_apache, start_embedded

REPOSITORY = Path(__file__).parent.parent
LATENCY_MESSAGES = 2000
LATENCY_RATE = 1000  # messages a second, without linger
TRANSACTIONS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=200, help="bytes of a message's value")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--apache", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()},
        "messages": arguments.messages,
        "size_bytes": arguments.size,
    }
    with tempfile.TemporaryDirectory() as folder:
        clusters, skipped = started(Path(folder), apache=arguments.apache)
        results["skipped"] = skipped
        try:
            results["brokers"] = measured(clusters, arguments)
        finally:
            for cluster in clusters.values():
                cluster.stop()
    print(json.dumps(results, indent=1))


def started(folder: Path, *, apache: bool) -> tuple[dict[str, Cluster], dict[str, str]]:
    """Start all brokers; returns them by name, and why one is missing."""
    clusters: dict[str, Cluster] = {}
    skipped: dict[str, str] = {}
    for policy in ("group", "interval", "never"):
        place = folder / policy
        place.mkdir()
        clusters[f"embedded, fsync {policy}"] = start_embedded(place, BrokerSettings(fsync=policy))
    if apache:
        place = folder / "apache"
        place.mkdir()
        try:
            clusters["apache kafka"] = start_apache(place, REPOSITORY / ".cache")
        except ServiceUnavailableError as error:
            skipped["apache kafka"] = str(error)
    return clusters, skipped


def measured(clusters: dict[str, Cluster], arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the brokers in turns, round by round, so that a busy machine is busy for all of them."""
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in clusters}

    def note(name: str, figure: str, value: float) -> None:
        figures[name].setdefault(figure, []).append(value)

    for cluster in clusters.values():
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        admin.create_topics([NewTopic("latency", 1, 1)])["latency"].result(30)
        produce(cluster, "warm-up", arguments.messages // 2, arguments.size)
    for number in range(arguments.rounds):
        for name, cluster in clusters.items():
            before = cpu_seconds(cluster)
            note(
                name,
                "produce_per_second",
                arguments.messages / produce(cluster, f"r{number}", arguments.messages, arguments.size),
            )
            note(name, "broker_cpu_seconds_per_produce_round", cpu_seconds(cluster) - before)
            note(name, "consume_per_second", arguments.messages / consume(cluster, f"r{number}", arguments.messages))
            delays = sorted(latency(cluster))
            note(name, "latency_ms_p50", delays[len(delays) // 2])
            note(name, "latency_ms_p99", delays[len(delays) * 99 // 100])
            note(name, "one_record_transaction_ms", transactions(cluster))
    return {
        name: {
            **{figure: spread(values) for figure, values in found.items()},
            "peak_memory_mb": peak_memory_mb(clusters[name]),
        }
        for name, found in figures.items()
    }


def spread(values: list[float]) -> dict[str, float]:
    digits = 0 if min(values) > 1000 else 2
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def produce(cluster: Cluster, topic: str, count: int, size: int) -> float:
    """Produce and return the seconds until the last acknowledgement."""
    client = Producer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 500_000,
        }
    )
    client.list_topics(topic, 10)
    value = os.urandom(size // 2).hex().encode()
    start = time.perf_counter()
    for number in range(count):
        client.produce(topic, value)
        if number % 1000 == 0:
            client.poll(0)
    assert client.flush(120) == 0
    return time.perf_counter() - start


def consume(cluster: Cluster, topic: str, count: int) -> float:
    client = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "bench", "enable.auto.commit": False})
    client.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    start, seen = time.perf_counter(), 0
    while seen < count:
        seen += len(client.consume(10_000, 1.0))
    seconds = time.perf_counter() - start
    client.close()
    return seconds


def latency(cluster: Cluster) -> list[float]:
    """Milliseconds from produce to acknowledgement at a steady rate, each message timed by its own callback."""
    client = Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 0, "enable.idempotence": True})
    client.produce("latency", b"connect, and get a producer id")
    assert client.flush(30) == 0
    found: list[float] = []
    start = time.perf_counter()
    for number in range(LATENCY_MESSAGES):
        due = start + number / LATENCY_RATE
        while time.perf_counter() < due:
            client.poll(max(0.0, due - time.perf_counter()))
        sent = time.perf_counter()
        client.produce(
            "latency", b"x" * 200, on_delivery=lambda *_, sent=sent: found.append((time.perf_counter() - sent) * 1000)
        )
        client.poll(0)
    assert client.flush(30) == 0
    return [round(value, 2) for value in found]


def transactions(cluster: Cluster) -> float:
    client = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": "bench", "linger.ms": 0})
    client.init_transactions(30)
    start = time.perf_counter()
    for _ in range(TRANSACTIONS):
        client.begin_transaction()
        client.produce("latency", b"x")
        client.commit_transaction(30)
    return round((time.perf_counter() - start) * 1000 / TRANSACTIONS, 2)


def cpu_seconds(cluster: Cluster) -> float:
    fields = Path(f"/proc/{cluster.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_mb(cluster: Cluster) -> int:
    status = Path(f"/proc/{cluster.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
