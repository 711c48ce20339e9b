"""A command on a data folder means the platform of that folder: running, on the ports that it really has, or stopped."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from core.errors import ConflictError, NotFoundError, UnavailableError
from core.settings import Settings
from headrace.config import Loaded
from headrace.demo.run import MARKER, _empty
from headrace.lineage.trace import trace
from headrace.places import find_place
from headrace.ports import free_port
from headrace.run_file import LOCK_FILE, RUN_FILE, is_held, running_ports
from headrace.supervisor import ProcessSpec, Supervisor

HOST = "127.0.0.1"
LISTENER = f"import socket, time; s = socket.create_server(('{HOST}', int(__import__('sys').argv[1]))); time.sleep(600)"


def loaded(data_dir: Path, **named: object) -> Loaded:
    return Loaded(Settings(data_dir=data_dir).model_copy(update=named), dict.fromkeys(named, "environment"))


def test_a_running_platform_is_found_on_its_ports_and_a_named_address_is_kept(tmp_path: Path) -> None:
    specs = [
        ProcessSpec(name, (sys.executable, "-c", LISTENER, str(port)), HOST, port)
        for name, port in (("broker", free_port(HOST)), ("engine", free_port(HOST)))
    ]
    with Supervisor(specs, tmp_path, {"PATH": os.environ["PATH"]}):
        place = find_place(loaded(tmp_path, kafka="elsewhere:9092"))
        assert place.has_database
        assert place.settings.database_url == f"postgresql://root@{HOST}:{specs[1].port}/dev"
        assert place.settings.kafka == "elsewhere:9092"
        assert running_ports(tmp_path) == {each.name: each.port for each in specs}
    assert not find_place(loaded(tmp_path)).has_database


def test_what_a_killed_supervisor_left_behind_is_no_running_platform(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as somebody_else:
        port = somebody_else.getsockname()[1]
        (tmp_path / RUN_FILE).write_text(json.dumps({"services": {"engine": {"host": HOST, "port": port}}}))
        (tmp_path / LOCK_FILE).touch()
        assert running_ports(tmp_path) == {}
        assert not find_place(loaded(tmp_path)).has_database


def test_a_demo_that_is_still_starting_keeps_its_folder(tmp_path: Path) -> None:
    (tmp_path / MARKER).touch()
    (tmp_path / "engine").mkdir()
    with (tmp_path / LOCK_FILE).open("a") as starting:  # its processes are not ready, so there is no file that names them
        fcntl.flock(starting, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="a demo runs in this folder"):
            _empty(tmp_path)
    assert (tmp_path / "engine").exists()


def test_asking_for_a_lock_leaves_no_file_behind(tmp_path: Path) -> None:
    assert not is_held(tmp_path / LOCK_FILE)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_folder_is_not_asked_at_the_address_where_another_platform_may_listen(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as another:
        settings = Settings(data_dir=tmp_path, database_url=f"postgresql://root@{HOST}:{another.getsockname()[1]}/dev")
        place = find_place(Loaded(settings, {}))
        with pytest.raises(UnavailableError, match="stopped"), place.connect():
            pass
        with pytest.raises(NotFoundError, match=r"at lake\.predictions"):
            trace(place, "no-such-prediction")
        another.setblocking(False)
        with pytest.raises(BlockingIOError):
            another.accept()
