"""A whole platform for the tests that only need one to talk to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headrace.ports import accepts_connections, free_port
from tests.e2e.deployment import Deployment


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What `headrace dev --json` says about itself: api, database, kafka, udf, data_dir."""
    folder = tmp_path_factory.mktemp("dev")
    environ = {
        "PATH": os.environ["PATH"],
        "HEADRACE_KAFKA": "127.0.0.1:0",
        "HEADRACE_DATABASE_URL": "postgresql://root@127.0.0.1:0/dev",
        "HEADRACE_UDF_URL": "http://127.0.0.1:0",
    }
    command = [
        sys.executable,
        "-m",
        "headrace",
        "--log-level",
        "error",
        "dev",
        "--json",
        "--port",
        "0",
        "--data-dir",
        str(folder),
    ]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as dev:
        assert dev.stdout is not None
        told = dev.stdout.readline()
        assert told, "dev did not start; what it said stands above"
        yield json.loads(told)
        dev.terminate()
        assert dev.wait(60) == 0


@pytest.fixture(scope="module")
def bare_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A broker and a stream database with nothing in it, for tests that deploy."""
    folder = tmp_path_factory.mktemp("bare")
    kafka, database = (f"127.0.0.1:{free_port('127.0.0.1')}" for _ in range(2))
    environ = {"PATH": os.environ["PATH"], "HEADRACE_KAFKA": kafka}
    with ExitStack() as stack:
        for name, address in (("broker", kafka), ("engine", database)):
            command = [sys.executable, "-m", "headrace", "--log-level", "error", "serve", name, "--listen", address]
            command = [part for part in command if name == "broker" or part != "serve"]
            process = stack.enter_context(subprocess.Popen([*command, "--data-dir", str(folder)], env=environ))
            stack.callback(_stop, process)
            host, _, port = address.partition(":")
            deadline = time.monotonic() + 60
            while not accepts_connections(host, int(port)):
                assert process.poll() is None, f"{name} did not start"
                assert time.monotonic() < deadline, f"{name} does not listen"
                time.sleep(0.05)
        yield {
            "database": f"postgresql://root@{database}/dev",
            "kafka": kafka,
            "udf": "http://127.0.0.1:1",
            "data_dir": str(folder),
        }


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(60) == 0


@pytest.fixture
def bare_deployment(bare_platform: dict[str, str], tmp_path: Path) -> Deployment:
    return Deployment(bare_platform, tmp_path)


@pytest.fixture
def deployment(platform: dict[str, str], tmp_path: Path) -> Deployment:
    return Deployment(platform, tmp_path)
