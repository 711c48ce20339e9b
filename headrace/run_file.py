"""Whether a platform runs on a data folder, and on which ports: what the supervisor writes there, read back.

`run.json` names the processes; the lock beside it is held for as long as the supervisor lives. A supervisor that was killed leaves
the file, but the kernel takes its lock, and its processes end by themselves: so the file counts only while the lock is held.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

RUN_FILE = "run.json"
LOCK_FILE = "supervisor.lock"


def running_ports(data_dir: Path) -> dict[str, int]:
    """The port of each process that a supervisor runs on the folder; none where it is stopped."""
    try:
        text = (data_dir / RUN_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    if not is_held(data_dir / LOCK_FILE):
        return {}
    return {name: int(service["port"]) for name, service in json.loads(text)["services"].items()}


def is_held(lock: Path) -> bool:
    """Whether somebody holds the lock on a file; one that does not exist is not made."""
    try:
        with lock.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
