"""Features beside Feast and beside plain DuckDB: point-in-time joins, and online reads over the wire. Equal results come first.

    .venv/bin/python benchmarks/feature_store.py [history] [online]      prints one JSON document

Feast comes in an environment of its own, Redis from Debian:

    python3.11 -m venv benchmarks/.venvs/feast && .venv/bin/uv pip install --python benchmarks/.venvs/feast/bin/python 'feast[redis]'
    apt-get install --no-install-recommends redis-server

**history**: 100,000 labels, 10 features of 2,000 entities, 50 rows of each (Feast's local store joins every label with every row of its
entity, so more rows only make it slower). headrace reads its Iceberg table, plain DuckDB the same Parquet files with `ASOF JOIN`, Feast
one Parquet file with its default offline store (Dask). **online**: 50 entities x 200 features in 4 views of 50, 1,000 entities in all;
headrace over the PostgreSQL wire from an engine in a process of its own, Feast with SQLite in its own process and with Redis on loopback.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from core.clock import SystemClock
from features import lake, online, training
from features.declaration import Feature, FeatureView, Offline
from features.references import choose
from features.serving_sql import serving_sql
from headrace.ports import accepts_connections, free_port
from iceberg.catalog import open_catalog
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

HERE = Path(__file__).parent
START = datetime(2026, 1, 1, tzinfo=UTC)
LABELS, ENTITIES, ROWS_EACH, FEATURES = 100_000, 2_000, 50, 10
READS, WARM_UP, ONLINE_ENTITIES, ASKED, VIEWS, PER_VIEW = 400, 50, 1_000, 50, 4, 50
ROUNDS = 5
STAMP = pa.timestamp("us", "UTC")


def main() -> None:
    wanted = sys.argv[1:] or ["history", "online"]
    result: dict[str, Any] = {
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    with tempfile.TemporaryDirectory() as folder:
        if "history" in wanted:
            result["history"] = history(Path(folder))
        if "online" in wanted:
            result["online"] = online_reads(Path(folder))
    print(json.dumps(result, indent=2))


def history(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    names = [f"x{i}" for i in range(FEATURES)]
    view = FeatureView(
        "wide", ("entity_id",), "feature_end", tuple(Feature(n, "double precision") for n in names), ttl=timedelta(days=365),
        offline=Offline("wide", "SELECT 1", emit="window_close", watermark=timedelta(seconds=5)),
    )  # fmt: skip
    rows = ENTITIES * ROWS_EACH
    stamps = [START + timedelta(hours=i // ENTITIES, seconds=i % 60) for i in range(rows)]
    table = pa.table(
        {
            "entity_id": [f"e{i % ENTITIES}" for i in range(rows)],
            "feature_end": pa.array(stamps, STAMP),
            **{name: rng.random(rows) for name in names},
        }
    )
    # Every label has a row before it: Feast drops the others without a word (feast#5590), and results must be equal.
    drawn = np.unique(rng.integers(0, ENTITIES * ROWS_EACH * 3600, LABELS * 2))
    drawn = rng.permutation(drawn)[:LABELS]
    labels = pa.table(
        {
            "n": np.arange(LABELS),
            "entity_id": [f"e{i}" for i in drawn % ENTITIES],
            "event_time": pa.array([START + timedelta(seconds=60 + int(s), microseconds=1) for s in drawn // ENTITIES], STAMP),
        }
    )
    pq.write_table(table, folder / "history.parquet")
    pq.write_table(labels, folder / "labels.parquet")
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{folder / 'catalog.db'}", str(folder / "warehouse"))
    create_table_for_arrow(catalog, view.history_table, table.schema)
    ExactlyOnceTable(catalog, view.history_table, uuid.uuid4()).append(1, table)
    files = [task.file.file_path.removeprefix("file://") for task in catalog.load_table(view.history_table).scan().plan_files()]

    def ours(*, seal: bool) -> pa.Table:
        return training.build(
            catalog, str(folder / "labels.parquet"), ["wide"], {"wide": view}, time="event_time", seal=seal
        ).rows

    def plain() -> pa.Table:
        values = ", ".join(
            f"CASE WHEN h.feature_end > l.event_time - INTERVAL 365 DAY THEN h.{name} END AS {name}" for name in names
        )
        with lake.connect() as connection:
            return connection.sql(
                f"SELECT l.n, {values} FROM read_parquet('{folder / 'labels.parquet'}') AS l ASOF LEFT JOIN read_parquet({files}) AS h"
                " ON l.entity_id = h.entity_id AND l.event_time >= h.feature_end ORDER BY l.n"
            ).to_arrow_table()

    made, expected = ours(seal=False), plain()
    renamed = made.select(["n", *(f"wide__{name}" for name in names)]).rename_columns(["n", *names])
    assert renamed.combine_chunks() == expected.combine_chunks(), "headrace and plain DuckDB differ"
    figures: dict[str, list[float]] = {"headrace": [], "headrace_with_manifest": [], "duckdb": []}
    for _ in range(ROUNDS):  # in turn, so that all meet the same load
        for name, run in (
            ("headrace", lambda: ours(seal=False)),
            ("headrace_with_manifest", lambda: ours(seal=True)),
            ("duckdb", plain),
        ):
            began = time.perf_counter()
            run()
            figures[name].append(time.perf_counter() - began)
    feast = _feast("history", str(folder))
    theirs = pq.read_table(folder / "feast.parquet")
    assert theirs.num_rows == LABELS, f"Feast gives {theirs.num_rows} rows for {LABELS} labels"
    for name in names:
        a, b = expected[name].to_numpy(), theirs[name].to_numpy()
        assert np.array_equal(a, b, equal_nan=True), f"Feast's {name} differs"
    best = {name: min(each) for name, each in figures.items()}
    return {
        "labels": LABELS, "features": FEATURES, "rows": rows, "equal_results": True,
        "seconds": {**figures, "feast": feast["seconds"]},
        "best_seconds": {**best, "feast": min(feast["seconds"])},
        "headrace_to_duckdb": best["headrace"] / best["duckdb"],
        "feast_to_headrace": min(feast["seconds"]) / best["headrace"],
    }  # fmt: skip


def online_reads(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(6)
    views, values = [], {}
    for number in range(VIEWS):
        names = [f"x{number * PER_VIEW + i}" for i in range(PER_VIEW)]
        view = FeatureView(f"wide{number}", ("entity_id",), "feature_end", tuple(Feature(n, "double precision") for n in names))
        views.append(view)
        values[view.name] = pa.table(
            {
                "entity_id": [f"e{i}" for i in range(ONLINE_ENTITIES)],
                "feature_end": pa.array([datetime.now(UTC)] * ONLINE_ENTITIES, STAMP),
                **{name: rng.random(ONLINE_ENTITIES) for name in names},
            }
        )
        pq.write_table(values[view.name], folder / f"{view.name}.parquet")
    reads = [[f"e{i}" for i in rng.choice(ONLINE_ENTITIES, ASKED, replace=False)] for _ in range(READS + WARM_UP)]
    (folder / "plan.json").write_text(json.dumps({"reads": reads, "warm_up": WARM_UP}))
    with _engine(folder) as url, psycopg.connect(url, autocommit=True) as connection:
        for view in views:
            _load(connection, view, values[view.name])
        chosen = choose([view.name for view in views], {view.name: view for view in views})
        ours = []
        for number, asked in enumerate(reads):
            began = time.perf_counter()
            answer = online.get(connection, chosen, [{"entity_id": each} for each in asked], SystemClock().now)
            ours.append((time.perf_counter() - began) * 1000)
            if number == 0:
                first = answer
    assert [found.status for row in first.rows for found in row.views.values()] == ["present"] * ASKED * VIEWS
    peers = {"feast_sqlite": _feast("online", str(folder), "sqlite")["milliseconds"]}
    with _redis(folder) as address:
        peers["feast_redis"] = _feast("online", str(folder), "redis", address)["milliseconds"]
    for kind in ("sqlite", "redis"):
        theirs = json.loads((folder / f"feast-{kind}.json").read_text())
        for each in chosen:
            assert [row.values[each.column] for row in first.rows] == theirs[each.feature.name], (
                f"Feast's {each.column} differs"
            )
    found = {name: _percentiles(each) for name, each in {"headrace": ours[WARM_UP:], **peers}.items()}
    return {
        "entities": ASKED, "features": VIEWS * PER_VIEW, "views": VIEWS, "reads": READS, "equal_results": True, "milliseconds": found,
        "p99_ratio": {name: found[name]["p99"] / found["headrace"]["p99"] for name in peers},
    }  # fmt: skip


# -- below: called by the above


def _load(connection: psycopg.Connection[Any], view: FeatureView, rows: pa.Table) -> None:
    columns = ", ".join(f"{each.name} DOUBLE PRECISION" for each in view.features)
    connection.execute(
        f"CREATE TABLE {view.relation} (entity_id VARCHAR, feature_end TIMESTAMP WITH TIME ZONE, {columns}, PRIMARY KEY (entity_id))".encode()
    )
    with connection.cursor() as cursor, cursor.copy(f"COPY {view.relation} FROM STDIN".encode()) as copy:
        for row in rows.to_pylist():
            copy.write_row(list(row.values()))
    connection.execute("FLUSH")
    connection.execute(serving_sql([view]).encode())


def _feast(*arguments: str) -> dict[str, Any]:
    python = HERE / ".venvs" / "feast" / "bin" / "python"
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", ""),
        "FEAST_USAGE": "False",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [str(python), str(HERE / "peers" / "feast_store.py"), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


@contextmanager
def _engine(folder: Path) -> Iterator[str]:
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "headrace", "--log-level", "error", "engine", "--listen", f"127.0.0.1:{port}"]
    environ = {**os.environ, "HEADRACE_ENGINE__METRICS_PORT": "0"}
    with _process([*command, "--data-dir", str(folder / "data")], port, environ):
        yield f"postgresql://root@127.0.0.1:{port}/dev"


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    assert program is not None, "redis-server is missing: apt-get install redis-server"
    port = free_port("127.0.0.1")
    with _process(
        [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)], port, dict(os.environ)
    ):
        yield f"127.0.0.1:{port}"


@contextmanager
def _process(command: Sequence[str], port: int, environ: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not accepts_connections("127.0.0.1", port):
            assert process.poll() is None, f"{command[0]} did not start"
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(milliseconds, q)), 2) for q in (50, 90, 99)}


if __name__ == "__main__":
    main()
