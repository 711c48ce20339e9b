"""Apache Iceberg's REST catalog as a real process, from Maven Central's jars.

server = start_iceberg_rest(folder, cache, "jdbc:sqlite:PATH", "file:///WAREHOUSE")
... server.uri ...
server.stop()
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.services.kafka import ServiceUnavailableError, free_port, wait_until

HERE = Path(__file__).parent / "iceberg-rest"
READY_SECONDS = 60.0
STOP_SECONDS = 20.0

NOTHING: Mapping[str, str] = {}


@dataclass
class IcebergRest:
    """A running server."""

    uri: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)


def start_iceberg_rest(
    folder: Path, cache: Path, jdbc_uri: str, warehouse: str, name: str = "headrace", *, more: Mapping[str, str] = NOTHING
) -> IcebergRest:
    """Start a server over Iceberg's JDBC catalog.

    Args:
        folder: takes the log.
        cache: where the jars are kept, about 150 MB.
        name: the name that the tables have inside the SQLite file.
        more: further properties of Iceberg's catalog, e.g. `io-impl`.

    Raises:
        ServiceUnavailableError: no Java, no Maven, or the jars cannot be had.
    """
    libs = _jars(cache)
    port = free_port()
    command = ["java", "-Xmx256m", "-cp", f"{libs}/*", str(HERE / "IcebergRest.java"), str(port), jdbc_uri, warehouse, name]
    command += [f"{key}={value}" for key, value in more.items()]
    log_path = folder / "iceberg-rest.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = IcebergRest(f"http://127.0.0.1:{port}", process)

    def answers() -> bool:
        if process.poll() is not None:
            raise ServiceUnavailableError(f"the REST catalog ended with {process.returncode}:\n{log_path.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{server.uri}/v1/config", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_until(answers, READY_SECONDS, "the REST catalog does not answer")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return server


def _jars(cache: Path) -> Path:
    """The folder with the jars, fetched once by Maven."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise ServiceUnavailableError(f"`{tool}` is not installed")
    home = (cache / "iceberg-rest").absolute()
    libs, done, pom = home / "libs", home / "libs" / "complete.xml", HERE / "pom.xml"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test workers may come at once
        if not done.is_file() or done.read_text() != pom.read_text():
            shutil.rmtree(libs, ignore_errors=True)
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={libs}", "-DincludeScope=runtime"]
            fetched = subprocess.run(["mvn", "-q", "-B", "-f", str(pom), *goal], capture_output=True, text=True, check=False)
            if fetched.returncode != 0:
                raise ServiceUnavailableError(f"Maven cannot fetch Iceberg: {(fetched.stdout + fetched.stderr)[-500:]}")
            done.write_text(pom.read_text())
    return libs
