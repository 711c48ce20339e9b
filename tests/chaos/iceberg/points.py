"""The steps of a commit at which a process kills itself.

data file ---> delete file ---> manifest ---> manifest list ---> metadata file ---> pointer swapped
half | whole    half | whole    half | whole   half | whole      half | whole       before | after
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from typing import Any

import iceberg.durable_io
from iceberg.sqlite_catalog import SqliteCatalog

FILES: Mapping[str, str] = {
    "data file": r"(?<!-deletes)\.parquet$",
    "delete file": r"-deletes\.parquet$",
    "manifest": r"-m\d+\.avro$",
    "manifest list": r"/snap-[^/]+\.avro$",
    "metadata file": r"\.metadata\.json$",
}
POINTS = (
    *(f"{file} {state}" for file in FILES for state in ("half written", "written")),
    "before the pointer is swapped",
    "after the pointer is swapped",
)

_HEADER_BYTES = 64  # the first bytes of a Parquet file are written by themselves; half a file is more


def kill_at(point: str, turn: int) -> None:
    """Make this process kill itself when it reaches a point for the `turn`-th time.

    It never comes to a point that its work does not pass; then it ends by itself.
    """
    left = turn

    def reached() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    if point.endswith("swapped"):
        _around_the_swap(point.startswith("before"), reached)
        return
    file = max((name for name in FILES if point.startswith(f"{name} ")), key=len)
    state = point.removeprefix(file).strip()
    pattern = re.compile(FILES[file])
    writer = iceberg.durable_io._SyncedWriter
    real_write, real_close = writer.write, writer.close

    def matches(this: Any) -> bool:
        return pattern.search(str(this.raw.name)) is not None

    def write(this: Any, content: Any) -> int:
        if state == "half written" and matches(this) and len(content) > _HEADER_BYTES and reached():
            real_write(this, bytes(content)[: len(content) // 2])
            this.flush()
            kill_this_process()
        return real_write(this, content)

    def close(this: Any) -> None:
        was_open = not this.closed
        real_close(this)
        if state == "written" and was_open and matches(this) and reached():
            kill_this_process()

    writer.write, writer.close = write, close  # type: ignore[method-assign, assignment]


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _around_the_swap(before: bool, reached: Any) -> None:
    real = SqliteCatalog._swap

    def swap(this: Any, *args: Any) -> bool:
        die = reached()
        if die and before:
            kill_this_process()
        swapped = real(this, *args)
        if die:
            kill_this_process()
        return swapped

    SqliteCatalog._swap = swap  # type: ignore[method-assign]
