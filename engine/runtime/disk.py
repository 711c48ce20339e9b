"""What the disk refuses, in words that tell what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.sql.errors import SqlError

_CHECKPOINT_ROOM_BYTES = 4 << 20  # besides twice the log: blocks are written anew before the old ones are free

# What DuckDB passes on from the operating system, and what is said of it: SQLSTATE, what, what to do.
_REFUSALS: tuple[tuple[str, str, str, str], ...] = (
    ("No space left on device", "53100", "the disk of the data folder is full", "Free some space; it goes on by itself."),
    ("Disk quota exceeded", "53100", "the disk quota of the data folder is used up", "Free some space; it goes on by itself."),
    ("Read-only file system", "58030", "the data folder is on a read-only disk", "Mount it for writing, then start again."),
    ("Permission denied", "42501", "the data folder cannot be written", "Give this user the right to write it."),
    ("Input/output error", "58030", "the disk of the data folder fails", "Replace the disk, and restore the folder from a copy."),
    (
        "max_temp_directory_size", "53100", "more was spilled to disk than `max_temp_directory_size` allows",
        "Raise it or the memory limit, or bring the state of the view down.",
    ),
)  # fmt: skip


def disk_error(error: BaseException, folder: Path) -> SqlError | None:
    """The disk's refusal behind an error of DuckDB's, or None if it was something else."""
    text = str(error)
    for sign, sqlstate, what, fix in _REFUSALS:
        if sign in text:
            return SqlError(what, sqlstate=sqlstate, where=str(folder), fix=fix)
    return None


def has_room_for_checkpoint(file: Path) -> bool:
    """Whether the log can be folded in: a checkpoint that runs out of space ends DuckDB's work on the file."""
    log = file.with_name(file.name + ".wal")
    size = log.stat().st_size if log.exists() else 0
    return shutil.disk_usage(file.parent).free >= 2 * size + _CHECKPOINT_ROOM_BYTES
