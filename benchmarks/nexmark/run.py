"""Nexmark q0 to q8, side by side: `python benchmarks/nexmark/run.py --events 1000000 --json`.

The engine runs from Arrow in memory and from JSON in the embedded broker; each peer in a virtual environment of its own under
`benchmarks/.venvs`, installed here when it is not there. Every answer is compared with plain DuckDB's first; a figure without
the right answer is not published. Rounds go in turns, so that a busy machine is busy for all. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.ipc as ipc

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from confluent_kafka import Producer  # noqa: E402
from engine_run import run_query  # noqa: E402
from events import QUERIES, differences, make_events, tables_of, to_json_lines, write_arrow  # noqa: E402

from core.settings import EngineSettings  # noqa: E402
from tests.services.kafka import start_embedded  # noqa: E402

PEERS = {
    "duckdb": "Arrow",
    "duckdb-growing": "Arrow",
    "chdb": "Arrow",
    "bytewax": "Arrow",
    "pyclink": "JSON lines",
    "pathway": "JSON lines",
}
VENVS = ROOT / "benchmarks" / ".venvs"
RESULTS = ROOT / "benchmarks" / "results"
PEER_SECONDS = 180.0

Outcome = tuple[float, int, pa.Table, int]
"""Seconds, source rows read, answer, epochs (0 where it has none)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", default=",".join(QUERIES))
    parser.add_argument("--peers", default=",".join(PEERS), help="comma list; empty for the engine alone")
    parser.add_argument("--inputs", default="Arrow,JSON in Kafka", help="of the engine")
    parser.add_argument("--epoch-rows", type=int, default=EngineSettings().epoch_max_rows)
    parser.add_argument(
        "--interval-ms", type=int, default=EngineSettings().epoch_interval_ms, help="the engine's epoch interval"
    )
    parser.add_argument("--minutes", type=float, default=14.0, help="rounds are left out where they would take longer")
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/nexmark.json and the table beside it")
    arguments = parser.parse_args()
    peers = [name for name in arguments.peers.split(",") if name]
    for name in peers:
        install(name)
    with tempfile.TemporaryDirectory() as place:
        measure(arguments, peers, Path(place))
    if arguments.json:
        print(f"written to {RESULTS.relative_to(ROOT)}/nexmark.json and nexmark.md")


def install(name: str) -> None:
    """A virtual environment with the peer from PyPI; DuckDB is a dependency of ours and needs none."""
    python = VENVS / name / "bin" / "python"
    if name.startswith("duckdb") or python.exists():
        return
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, VENVS / name], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", python, name, "pyarrow", "numpy"], check=True)


def measure(arguments: argparse.Namespace, peers: list[str], place: Path) -> None:
    events = make_events(arguments.events)
    write_arrow(events, place)
    queries = arguments.queries.split(",")
    inputs = arguments.inputs.split(",")
    settings = EngineSettings(epoch_max_rows=arguments.epoch_rows, epoch_interval_ms=arguments.interval_ms)
    kafka: dict[str, str] | None = None
    cluster = None
    needed = {name for query in queries for name in tables_of(query)}
    if "JSON in Kafka" in inputs or any(PEERS[name] == "JSON lines" for name in peers):
        lines = {name: to_json_lines(events[name]) for name in needed}
        for name in needed:
            (place / f"{name}.ndjson").write_bytes(b"\n".join(lines[name]) + b"\n")
        if "JSON in Kafka" in inputs:
            (place / "broker").mkdir()
            cluster = start_embedded(place / "broker")
            kafka = {"bootstrap": cluster.bootstrap, **{name: name for name in needed}}
            for name in needed:
                produce(cluster.bootstrap, name, lines[name])
        del lines
    runners: dict[tuple[str, str], Callable[[str], Outcome]] = {}
    for name in inputs:
        topics = kafka if name == "JSON in Kafka" else None

        def ours(query: str, topics: Mapping[str, str] | None = topics) -> Outcome:
            run = run_query(query, events, settings, topics)
            return run.seconds, run.rows, run.answer, run.epochs

        runners["headrace", name] = ours
    for name in peers:
        runners[name, PEERS[name]] = lambda query, name=name: run_peer(name, query, place)  # type: ignore[misc]
    report: dict[str, Any] = {
        "benchmark": "nexmark",
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "events": arguments.events,
        "rounds": arguments.rounds,
        "epoch_max_rows": arguments.epoch_rows,
        "epoch_interval_ms": arguments.interval_ms,
        "unit": "source rows per second, median of the rounds; answers equal to plain DuckDB's",
        "queries": {},
    }
    end = time.monotonic() + 60 * arguments.minutes
    try:
        for number, query in enumerate(queries):
            wanted = reference(query, events)
            share = (end - time.monotonic()) / (len(queries) - number)
            report["queries"][query] = one_query(query, runners, wanted, arguments.rounds, share)
            report["minutes"] = round(arguments.minutes - (end - time.monotonic()) / 60, 1)
            publish(report, arguments.json)  # after every query: what was measured is kept whatever comes
    finally:
        if cluster is not None:
            cluster.stop()


def one_query(
    query: str, runners: Mapping[tuple[str, str], Callable[[str], Outcome]], wanted: pa.Table, rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """All runners in turns; one that fails, or answers otherwise, is out at once, with its reason.

    Args:
        seconds: no round begins, but the first, that would probably end later than this.
    """
    began = time.monotonic()
    found: dict[str, dict[str, Any]] = {f"{who}, {what}": {"rates": []} for who, what in runners}
    for number in range(rounds):
        if number and (time.monotonic() - began) * (number + 1) / number > seconds:
            break
        for (who, what), run in runners.items():
            entry = found[f"{who}, {what}"]
            if "failed" in entry:
                continue
            try:
                took, rows, answer, epochs = run(query)
            except Exception as error:  # noqa: BLE001  whatever a peer does is its result
                entry["failed"] = str(error).strip()[-300:] or type(error).__name__
                continue
            wrong = differences(
                answer.select(wanted.column_names) if set(wanted.column_names) <= set(answer.column_names) else answer, wanted
            )
            if wrong:
                entry["failed"] = f"wrong answer: {wrong} of {wanted.num_rows} rows differ"
                continue
            entry["rates"].append(round(rows / took))
            if epochs:
                entry["epochs"] = epochs
    for name, entry in found.items():
        if "failed" not in entry:
            entry["median"] = round(statistics.median(entry["rates"]))
        print(query, name, entry.get("median", entry.get("failed")), flush=True)
    return found


def run_peer(name: str, query: str, place: Path) -> Outcome:
    script, _, schedule = name.partition("-")
    python = sys.executable if script == "duckdb" else str(VENVS / script / "bin" / "python")
    out = place / "answer.arrow"
    command = [python, str(HERE / "peers" / f"{script}_peer.py"), query, str(place), str(out)]
    environment = {**os.environ, "NEXMARK_EPOCHS": schedule}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PEER_SECONDS, check=False, env=environment)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and "warn" not in line.lower()]
        raise RuntimeError(f"exit code {done.returncode}: {(said or ['no message'])[-1].strip()}")
    line = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith('{"seconds"')))
    with ipc.open_file(str(out)) as reader:
        return line["seconds"], line["rows"], reader.read_all(), 0


def reference(query: str, events: Mapping[str, pa.Table]) -> pa.Table:
    connection = duckdb.connect()
    for name, table in events.items():
        connection.register(name, table)
    return connection.sql((HERE / "reference" / f"{query}.sql").read_text()).to_arrow_table()


def produce(bootstrap: str, topic: str, lines: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 2_000_000})
    for number, line in enumerate(lines):
        producer.produce(topic, line, partition=0 if number else -1)
        if number % 10_000 == 0:
            producer.flush(60) if number == 0 else producer.poll(0)
    if producer.flush(300):
        raise RuntimeError(f"not all events reached topic {topic}")


def machine() -> dict[str, Any]:
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")  # noqa: SIM115
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
    }


def publish(report: Mapping[str, Any], write: bool) -> None:
    """Print the table of what is measured so far, and write it."""
    names = list(next(iter(report["queries"].values())))
    lines = ["| | " + " | ".join(report["queries"]) + " |", "|---|" + "---|" * len(report["queries"])]
    for name in names:
        entries = [found[name] for found in report["queries"].values()]
        shown = [f"{entry['median'] / 1e6:.2f}" if "median" in entry else "-" for entry in entries]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    for what in ("Arrow", "JSON"):
        ratios = " | ".join(ahead(found, what) for found in report["queries"].values())
        lines += [f"| headrace / best peer, {what} | {ratios} |"]
    table = "\n".join(lines) + "\n"
    print("\n" + table + "million source rows/s\n", flush=True)
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "nexmark.json").write_text(json.dumps(report, indent=1) + "\n")
        (RESULTS / "nexmark.md").write_text(table)


def ahead(found: Mapping[str, Mapping[str, Any]], what: str) -> str:
    """How many times as fast as the best peer with the same input the engine is."""
    medians = {name: entry["median"] for name, entry in found.items() if "median" in entry and f", {what}" in name}
    ours = next((rate for name, rate in medians.items() if name.startswith("headrace")), None)
    best = max((rate for name, rate in medians.items() if not name.startswith("headrace")), default=None)
    return f"{ours / best:.2f}" if ours and best else "-"


if __name__ == "__main__":
    main()
