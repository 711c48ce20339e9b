"""What an erasure has to remember over a crash: one JSON file, replaced whole at every step.

The ids that were derived from the subject are found through rows that the first step deletes; so they are written down before
anything is changed. So is every file before it is deleted, with its hash: afterwards there is nothing to take one of.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import ConflictError, CorruptDataError
from iceberg.durable_io import make_folders, sync_folder
from iceberg.erasure.selection import Subject

JOURNAL = "journal.json"
CERTIFICATE = "certificate.json"


@dataclass
class Journal:
    """Of one erasure.

    Attributes:
        pseudonym: what stands in kept rows instead of the name; nowhere else, and gone with the journal.
        before: what the first search found.
        tables: by identifier, what was done to it.
        doomed: plain path -> what is known of a file that is to be deleted, its reason included.
        affected: what was made with the subject's rows.
    """

    erasure_id: str
    tenant: str | None
    name: str
    started_at: str
    pseudonym: str
    derived: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    doomed: dict[str, dict[str, Any]] = field(default_factory=dict)
    affected: dict[str, Any] = field(default_factory=dict)
    resumed: int = 0

    @property
    def subject(self) -> Subject:
        return Subject(self.tenant, self.name)


class JournalFile:
    """The journal of a subject's unfinished erasure, if there is one, below a folder for all erasures."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.journal = journal
        self.folder = folder / journal.erasure_id

    @classmethod
    def open(cls, folder: Path, subject: Subject, now: datetime) -> JournalFile:
        """Go on with the subject's unfinished erasure, or begin one; two at once are for the caller to prevent."""
        for path in sorted(folder.glob(f"*/{JOURNAL}")):
            journal = _read(path)
            if journal.subject == subject:
                journal.resumed += 1
                return cls(folder, journal)
        erasure_id = f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        journal = Journal(erasure_id, subject.tenant, subject.name, now.isoformat(), f"erased-{uuid.uuid4().hex}")
        return cls(folder, journal)

    def save(self) -> None:
        """Replace the file; it is on the disk when this returns."""
        write_json(self.folder / JOURNAL, asdict(self.journal))

    def remove(self) -> None:
        """Forget it: the certificate is written."""
        (self.folder / JOURNAL).unlink(missing_ok=True)
        sync_folder(self.folder)


def unfinished_subjects(folder: Path) -> list[Subject]:
    """Whose erasures were cut off."""
    return [_read(path).subject for path in sorted(folder.glob(f"*/{JOURNAL}"))]


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one erasure at a time into a folder; the kernel lets go of the lock when its holder is killed.

    Raises:
        ConflictError: one is running.
    """
    if not folder.exists():
        make_folders(folder)
    with (folder / "lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError("another erasure is running", where=str(folder), fix="Wait until it has ended.") from error
        yield


def write_json(path: Path, document: object) -> None:
    """Write a file durably, whole or not at all."""
    if not path.parent.exists():
        make_folders(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=1, ensure_ascii=False)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def _read(path: Path) -> Journal:
    try:
        return Journal(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CorruptDataError(
            f"journal `{path}` cannot be read: {error}",
            fix="Remove it and erase again; the erasure then starts from the begin.",
        ) from error
