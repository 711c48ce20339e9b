"""The files of a warehouse, on a folder or an object store: list them, look at one, write one whole, remove them.

Readers and writers of tables go through PyIceberg's own file access. Maintenance needs more: what lies there that nobody
refers to, since when, and how large it is. Locations are compared in one form only (`canonical`), because engines write the
same file as `/w/a`, `file:/w/a` and `file:///w/a`, and the same object as `s3a://b/a` and `s3://b/a`.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyarrow import fs
from pyiceberg.io.pyarrow import PyArrowFileIO

from iceberg.durable_io import make_folders, sync_folder

logger = logging.getLogger(__name__)

type_progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

# An object store answers a request in some 20 to 50 ms, whatever else it does: ask several at once.
_REQUESTS_AT_ONCE = 16

# A part of an upload to S3 has at least 5 MB.
_CHUNK_BYTES = 8 * 1024 * 1024


def no_progress(_what: str, _done: int, _all: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class StoredFile:
    """A file as the storage lists it; `location` is canonical."""

    location: str
    size_bytes: int
    modified_at: datetime


def canonical(location: str) -> str:
    """One form for the same place: `file:///ABSOLUTE`, `s3://BUCKET/KEY`; without a final slash."""
    scheme, separator, rest = location.partition(":")
    if location.startswith("/") or not separator or "/" in scheme:
        return "file://" + os.path.abspath(location)
    if scheme == "file":
        return "file:///" + rest.lstrip("/").rstrip("/")
    return re.sub(r"^s3[an]$", "s3", scheme) + ":" + rest.rstrip("/")


class Storage:
    """Reaches files by their location. Threads may share one.

    Args:
        properties: the catalog's, for access to an object store.
    """

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._properties = dict(properties)
        self._io = PyArrowFileIO(self._properties)

    def files(self, root: str) -> Iterator[StoredFile]:
        """List all files below a place, at any depth; none where it does not exist.

        Raises:
            OSError: the storage does not answer.
        """
        filesystem, path = self._at(root)
        prefix = canonical(root).removesuffix(path)
        for info in filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True)):
            if info.type == fs.FileType.File:
                yield StoredFile(prefix + info.path, info.size, info.mtime or datetime.now(UTC))

    def size_bytes(self, location: str) -> int | None:
        """The size of a file; None if it is not there."""
        filesystem, path = self._at(location)
        info = filesystem.get_file_info(path)
        return info.size if info.type == fs.FileType.File else None

    def open(self, location: str) -> pa.NativeFile:
        """Open a file for reading at any position.

        Raises:
            FileNotFoundError: it is not there.
        """
        filesystem, path = self._at(location)
        return filesystem.open_input_file(path)

    def read(self, location: str) -> bytes:
        """Read a file whole.

        Raises:
            FileNotFoundError: it is not there.
        """
        with self.open(location) as stream:
            return bytes(stream.read())

    def write(self, location: str, content: bytes | Iterable[bytes]) -> None:
        """Write a file so that it is whole under its name, or not there; one that is there is replaced.

        Raises:
            OSError: it cannot be written; an object that was there still is.
        """
        filesystem, path = self._at(location)
        chunks = (content,) if isinstance(content, bytes) else content
        if not isinstance(filesystem, fs.LocalFileSystem):
            with filesystem.open_output_stream(path) as stream:  # an object appears when its upload is complete
                for chunk in chunks:
                    stream.write(chunk)
            return
        target = Path(path)
        if not target.parent.exists():
            make_folders(target.parent)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)

    def copy(self, source: Storage, location: str, target: str) -> None:
        """Copy a file from any storage into this one, whole or not at all.

        Raises:
            FileNotFoundError: the source is not there.
        """

        def chunks() -> Iterator[bytes]:
            with source.open(location) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk

        self.write(target, chunks())

    def remove(self, locations: Iterable[str], progress: type_progress = no_progress) -> tuple[str, ...]:
        """Remove files and return those that could not be removed; one that is gone already counts as removed."""
        wanted = list(locations)
        failed = []
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            for done, (location, removed) in enumerate(zip(wanted, pool.map(self._remove, wanted), strict=True), start=1):
                if not removed:
                    failed.append(location)
                progress("files removed", done, len(wanted))
        return tuple(failed)

    def _remove(self, location: str) -> bool:
        filesystem, path = self._at(location)
        try:
            filesystem.delete_file(path)
        except FileNotFoundError:
            return True
        except OSError:
            if self.size_bytes(location) is None:
                return True
            logger.warning("file not removed", extra={"file": location}, exc_info=True)
            return False
        return True

    def _at(self, location: str) -> tuple[fs.FileSystem, str]:
        scheme, netloc, path = PyArrowFileIO.parse_location(canonical(location), self._properties)
        return self._io.fs_by_scheme(scheme, netloc), path
