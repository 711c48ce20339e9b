"""A whole platform for the tests that only need one to talk to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest


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
