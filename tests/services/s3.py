"""An S3 server as a real process: moto, in a virtual environment of its own, because it moves botocore.

server = start_s3(folder, cache, buckets=("lake",))
... server.endpoint ...
server.stop()
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.services.kafka import ServiceUnavailableError, free_port, wait_until

VERSION = "moto[server]==5.2.5"
ACCESS_KEY, SECRET_KEY, REGION = "headrace-test", "headrace-test-secret", "us-east-1"
READY_SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass
class S3Server:
    """A running server."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def properties(self) -> dict[str, str]:
        """What PyIceberg must know to reach it."""
        return {
            "s3.endpoint": self.endpoint,
            "s3.access-key-id": ACCESS_KEY,
            "s3.secret-access-key": SECRET_KEY,
            "s3.region": REGION,
            "s3.force-virtual-addressing": "false",
        }

    @property
    def environment(self) -> dict[str, str]:
        """The platform's settings that reach it."""
        return {
            "HEADRACE_S3__ENDPOINT": self.endpoint,
            "HEADRACE_S3__ACCESS_KEY": ACCESS_KEY,
            "HEADRACE_S3__SECRET_KEY": SECRET_KEY,
        }

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)


def start_s3(folder: Path, cache: Path, buckets: Sequence[str]) -> S3Server:
    """Start a server whose objects lie in its memory.

    Args:
        folder: takes the log.
        cache: where the virtual environment is kept, about 150 MB.
        buckets: are made.

    Raises:
        ServiceUnavailableError: moto cannot be installed or does not answer.
    """
    binary = _environment(cache) / "bin" / "moto_server"
    port = free_port()
    log_path = folder / "s3.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen([str(binary), "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    server = S3Server(f"http://127.0.0.1:{port}", process)

    def answers() -> bool:
        if process.poll() is not None:
            raise ServiceUnavailableError(f"moto ended with {process.returncode}:\n{log_path.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{server.endpoint}/moto-api/data.json", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_until(answers, READY_SECONDS, "moto does not answer")
        for bucket in buckets:
            urllib.request.urlopen(urllib.request.Request(f"{server.endpoint}/{bucket}", method="PUT"), timeout=10).close()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return server


def _environment(cache: Path) -> Path:
    """The virtual environment with moto, made once."""
    home = (cache / "moto").absolute()
    place, done = home / "venv", home / "complete"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test workers may come at once
        if not done.is_file() or done.read_text() != VERSION:
            shutil.rmtree(place, ignore_errors=True)
            uv = str(Path(sys.executable).with_name("uv"))
            environ = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
            for command in (["venv", str(place)], ["pip", "install", "--python", str(place / "bin" / "python"), VERSION]):
                made = subprocess.run([uv, *command, "--quiet"], env=environ, capture_output=True, text=True, check=False)
                if made.returncode != 0:
                    raise ServiceUnavailableError(f"moto cannot be installed: {made.stderr[-500:]}")
            done.write_text(VERSION)
    return place
