"""Brokers as real processes: the embedded one, and Apache Kafka from Maven Central's jars.

cluster = start_embedded(folder)            # or start_apache(folder, cache)
... cluster.bootstrap ...
cluster.kill(); cluster.start()             # SIGKILL, then again on the same folder and port
cluster.stop()
"""

from __future__ import annotations

import base64
import fcntl
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from core.settings import BrokerSettings

HERE = Path(__file__).parent / "kafka"
READY_SECONDS = 120.0  # Kafka needs 3 s on a quiet machine
STOP_SECONDS = 20.0

_EMBEDDED = """
import logging, os, sys, threading
def end_with_the_test_run():  # our end of the pipe closes when it dies (PR_SET_PDEATHSIG would follow a mere thread of it)
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=end_with_the_test_run, daemon=True).start()
sys.modules["hypothesis"] = None  # kio loads it where it is installed, 9 MB that a user's broker does not have
from pathlib import Path
from broker.main import run
from core.settings import BrokerSettings
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
run(Path(sys.argv[1]), "127.0.0.1", int(sys.argv[2]), BrokerSettings.model_validate_json(sys.argv[3]))
"""


class ServiceUnavailableError(Exception):
    """The service cannot be started on this machine; the text says why."""


@dataclass
class Cluster:
    """One broker process; `bootstrap` stays the same over restarts."""

    name: str
    port: int
    command: list[str]
    folder: Path
    log_path: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        wait_until(self._answers, READY_SECONDS, f"{self.name} does not answer")

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL if that takes too long.

        Returns:
            the exit status.
        """
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise ServiceUnavailableError(f"{self.name} ended with {self.process.returncode}:\n{self.log()[-2000:]}")
        # ApiVersions v0 with correlation id 7: an open port alone does not say that Kafka is ready.
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), timeout=2)) as connection:
                connection.sendall(b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x07\xff\xff")
                return connection.recv(8)[4:] == b"\x00\x00\x00\x07"
        except OSError:
            return False


def start_embedded(
    folder: Path,
    settings: BrokerSettings | None = None,
    *,
    wrap: Callable[[list[str]], list[str]] = list,
    log_folder: Path | None = None,
) -> Cluster:
    """Start our broker on `folder / "data"` and a free port.

    Args:
        wrap: makes the command that is run of the broker's, for example one inside a namespace.
        log_folder: where its own log goes; default: `folder`.
    """
    port = free_port()
    text = (settings or BrokerSettings()).model_dump_json()
    data = folder / "data"
    command = wrap([sys.executable, "-c", _EMBEDDED, str(data), str(port), text])
    cluster = Cluster("embedded broker", port, command, data, (log_folder or folder) / "broker.log")
    cluster.start()
    return cluster


def start_apache(folder: Path, cache: Path) -> Cluster:
    """Start Apache Kafka in KRaft mode on `folder / "data"` and free ports.

    Args:
        cache: where the jars are kept, about 43 MB.

    Raises:
        ServiceUnavailableError: no Java, no Maven, or the jars cannot be had.
    """
    libs = kafka_jars(cache)
    port, data = free_port(), folder / "data"
    properties = (HERE / "server.properties").read_text()
    for word, value in {"CONTROLLER_PORT": free_port(), "BROKER_PORT": port, "DATA_DIR": data}.items():
        properties = properties.replace(word, str(value))
    path = folder / "server.properties"
    path.write_text(properties)
    java, classpath = _tool("java"), f"{libs}/*"
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    subprocess.run(
        [java, "-cp", classpath, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(path), "--standalone"],
        check=True,
        capture_output=True,
    )
    cluster = Cluster(
        "Apache Kafka", port, [java, "-Xmx512m", "-cp", classpath, "kafka.Kafka", str(path)], data, folder / "kafka.log"
    )
    cluster.start()
    return cluster


def kafka_jars(cache: Path) -> Path:
    """Return the folder with Kafka's jars, fetching them once by Maven."""
    maven = _tool("mvn")
    _tool("java")
    libs = cache / "kafka" / "libs"
    libs.parent.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test workers may come at once
        done = libs / "complete.json"
        wanted = json.dumps((HERE / "pom.xml").read_text())
        if not done.is_file() or done.read_text() != wanted:
            shutil.rmtree(libs, ignore_errors=True)
            fetched = subprocess.run(
                [
                    maven,
                    "-q",
                    "-B",
                    "-f",
                    str(HERE / "pom.xml"),
                    "dependency:copy-dependencies",
                    f"-DoutputDirectory={libs}",
                    "-DincludeScope=runtime",
                ],
                capture_output=True,
                text=True,
            )
            if fetched.returncode != 0:
                raise ServiceUnavailableError(f"Maven cannot fetch Kafka: {(fetched.stdout + fetched.stderr)[-500:]}")
            done.write_text(wanted)
    return libs


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until the condition holds.

    Raises:
        TimeoutError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {seconds} s")
        time.sleep(0.02)


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ServiceUnavailableError(f"`{name}` is not installed")
    return path
