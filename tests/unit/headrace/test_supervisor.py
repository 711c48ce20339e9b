"""The supervisor, with small real processes in the place of ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import ConflictError, UnavailableError
from headrace.ports import accepts_connections, free_port
from headrace.supervisor import ProcessSpec, RestartPolicy, Supervisor

HOST = "127.0.0.1"

# Listens as told, and holds the real lifeline.
CHILD = """
import signal, socket, sys, threading
from headrace.lifeline import watch
port, mode, lifeline = int(sys.argv[-4]), sys.argv[-3], int(sys.argv[-1])
if mode == "dies":
    print("cannot go on", file=sys.stderr)
    sys.exit(7)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
watch(lifeline)
server = socket.create_server(("127.0.0.1", port))
while True:
    server.accept()[0].close()
"""


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" if Path("/proc").exists() else True
    return False


@pytest.fixture
def child() -> dict[str, str]:
    """The environment of the small processes."""
    return {"PATH": os.environ["PATH"]}


def spec(name: str, mode: str = "serves") -> ProcessSpec:
    port = free_port(HOST)
    return ProcessSpec(name, (sys.executable, "-c", CHILD, str(port), mode), HOST, port)


def test_everything_listens_after_start_and_nothing_after_stop(tmp_path: Path, child: dict[str, str]) -> None:
    specs = [spec("first"), spec("second")]
    with Supervisor(specs, tmp_path / "data", child) as supervisor:
        assert all(accepts_connections(each.host, each.port) for each in specs)
        run = json.loads((tmp_path / "data" / "run.json").read_text())
        pids = [supervisor.pid(each.name) for each in specs]
        assert [run["services"][each.name]["port"] for each in specs] == [each.port for each in specs]
        assert [run["services"][each.name]["pid"] for each in specs] == pids
    assert not any(map(alive, pids))
    assert not any(accepts_connections(each.host, each.port) for each in specs)
    assert not (tmp_path / "data" / "run.json").exists()


def test_a_nice_process_lets_the_others_go_first_with_all_its_threads(tmp_path: Path, child: dict[str, str]) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with Supervisor([spec("usual"), replace(spec("nice"), niceness=4)], tmp_path, child) as supervisor:
        assert os.getpriority(os.PRIO_PROCESS, supervisor.pid("usual")) == own
        tasks = Path(f"/proc/{supervisor.pid('nice')}/task")
        threads = [int(task.name) for task in tasks.iterdir()] if tasks.is_dir() else [supervisor.pid("nice")]
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {min(19, own + 4)}


def test_a_killed_process_comes_back_under_another_pid(tmp_path: Path, child: dict[str, str]) -> None:
    events: list[str] = []
    only = spec("only")
    with Supervisor([only], tmp_path, child, on_event=lambda event: events.append(event.kind)) as supervisor:
        killed = supervisor.kill("only")
        supervisor.wait_ready("only", restarts=1)
        assert supervisor.pid("only") != killed
        assert json.loads((tmp_path / "run.json").read_text())["services"]["only"]["restarts"] == 1
    assert events == ["started", "ready", "exited", "started", "ready", "stopped"]


def test_a_process_that_ends_before_it_is_ready_is_an_error_with_its_last_words(tmp_path: Path, child: dict[str, str]) -> None:
    with pytest.raises(UnavailableError, match=r"(?s)`bad` ended with 7.*cannot go on"):
        Supervisor([spec("good"), spec("bad", "dies")], tmp_path, child).start()
    assert not (tmp_path / "run.json").exists()


def test_a_process_that_keeps_crashing_is_given_up(tmp_path: Path, child: dict[str, str]) -> None:
    policy = RestartPolicy(first_seconds=0.01, longest_seconds=0.01, attempts=2)
    with Supervisor([spec("only")], tmp_path, child, policy) as supervisor:
        for restarts in (1, 2):
            supervisor.kill("only")
            supervisor.wait_ready("only", restarts=restarts)
        supervisor.kill("only")
        with pytest.raises(UnavailableError, match="3 times in a row"):
            supervisor.wait_ready("only", restarts=3)


def test_sigterm_that_is_ignored_is_followed_by_sigkill(tmp_path: Path, child: dict[str, str]) -> None:
    supervisor = Supervisor([spec("only", "stubborn")], tmp_path, child)
    supervisor.start()
    pid = supervisor.pid("only")
    supervisor.stop(grace_seconds=0.3)
    assert not alive(pid)


def test_a_port_that_somebody_else_holds_is_named(tmp_path: Path, child: dict[str, str]) -> None:
    only = spec("only")
    with Supervisor([only], tmp_path / "a", child), pytest.raises(ConflictError, match=f"{only.port}. is in use"):
        Supervisor([only], tmp_path / "b", child).start()


def test_two_supervisors_do_not_share_a_data_folder(tmp_path: Path, child: dict[str, str]) -> None:
    with Supervisor([spec("a")], tmp_path, child), pytest.raises(ConflictError, match="another headrace"):
        Supervisor([spec("b")], tmp_path, child).start()


def test_no_process_survives_a_supervisor_that_was_killed(tmp_path: Path, child: dict[str, str]) -> None:
    only = spec("only")
    script = textwrap.dedent(
        f"""
        import threading
        from pathlib import Path
        from headrace.supervisor import ProcessSpec, Supervisor
        only = ProcessSpec("only", {only.command!r}, {HOST!r}, {only.port})
        Supervisor([only], Path({str(tmp_path)!r}), {child!r}).start()
        print("ready", flush=True)
        threading.Event().wait()
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "ready\n"
        pid = json.loads((tmp_path / "run.json").read_text())["services"]["only"]["pid"]
        supervisor.send_signal(signal.SIGKILL)
    eventually(lambda: not alive(pid))
    eventually(lambda: not accepts_connections(only.host, only.port))


def test_back_off_doubles_up_to_its_limit() -> None:
    policy = RestartPolicy(first_seconds=0.1, longest_seconds=1.0)
    assert [policy.delay_seconds(crashes) for crashes in (1, 2, 3, 4, 5, 6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
