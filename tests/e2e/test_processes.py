"""`headrace dev` and `headrace engine` as a user starts and stops them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from headrace.ports import accepts_connections, free_port

HOST = "127.0.0.1"
FREE = {
    "HEADRACE_KAFKA": f"{HOST}:0",
    "HEADRACE_DATABASE_URL": f"postgresql://root@{HOST}:0/dev",
    "HEADRACE_UDF_URL": f"http://{HOST}:0",
}


@contextmanager
def started(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "headrace", *arguments],
        env={"PATH": os.environ["PATH"], **environ}, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def await_port(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not accepts_connections(HOST, port):
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.05)


def test_the_engine_alone_is_ready_when_it_accepts_connections_and_stops_on_sigterm(tmp_path: Path) -> None:
    port = free_port(HOST)
    url = f"postgresql://root@{HOST}:{port}/dev"
    for expected in ([], [(1,)]):
        with started("engine", "--listen", f"{HOST}:{port}", "--data-dir", str(tmp_path)) as engine:
            await_port(port)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS kept (x INT PRIMARY KEY)")
                assert connection.execute("SELECT x FROM kept").fetchall() == expected
                connection.execute("INSERT INTO kept VALUES (1)")
                connection.execute("FLUSH")
            engine.send_signal(signal.SIGTERM)
            assert engine.wait(20) == 0
        assert not accepts_connections(HOST, port)


@pytest.mark.timeout(200)
def test_dev_announces_where_everything_listens_and_leaves_nothing(tmp_path: Path) -> None:
    port = free_port(HOST)
    with started("dev", "--data-dir", str(tmp_path), "--port", str(port), "--json", **FREE) as dev:
        assert dev.stdout is not None
        told = json.loads(dev.stdout.readline())
        assert told["ready"]
        assert told["api"] == f"http://{HOST}:{port}"
        services = json.loads((tmp_path / "run.json").read_text())["services"]
        assert services.keys() == {"broker", "udf", "engine", "api", "maintenance"}
        with urllib.request.urlopen(f"{told['api']}/health", timeout=10) as answer:
            assert json.load(answer)["status"] == "ok"
        with psycopg.connect(told["database"], autocommit=True) as connection:
            routes = connection.execute("SELECT count(*) FROM active_routes WHERE tenant_id = 'default'").fetchone()
        assert routes == (3,)
        dev.send_signal(signal.SIGINT)
        assert dev.wait(60) == 0
    assert not any(accepts_connections(HOST, service["port"]) for service in services.values())
    assert not (tmp_path / "run.json").exists()
