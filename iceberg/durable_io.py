"""Files of a local warehouse that are on the disk before anybody refers to them.

PyIceberg writes through the page cache, so after a power cut the catalog (which is synced) could point to files that are
empty. Every file of a table is immutable, so one fsync of the file and of its folder at close is enough.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from pyiceberg.io import OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO


class DurableFileIO(PyArrowFileIO):
    """PyIceberg's file access with synced writes for local files; other schemes are untouched."""

    def new_output(self, location: str) -> PyArrowFile:
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return _DurableFile(location=location, path=path, fs=self.fs_by_scheme(scheme, netloc))


class _DurableFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> OutputStream:
        mode = "wb" if overwrite else "xb"
        try:
            raw = io.FileIO(self._path, mode)
        except FileNotFoundError:
            make_folders(Path(self._path).parent)
            raw = io.FileIO(self._path, mode)
        return _SyncedWriter(raw, buffer_size=self._buffer_size)


class _SyncedWriter(io.BufferedWriter):
    def close(self) -> None:
        if self.closed:
            return
        path = Path(self.raw.name)  # type: ignore[attr-defined]  # io.FileIO has it, RawIOBase does not say so
        try:
            self.flush()
            os.fsync(self.fileno())
        except OSError:  # the disk is full, say: half a file helps nobody
            self.raw.close()
            path.unlink(missing_ok=True)
            raise
        super().close()
        sync_folder(path.parent)


def make_folders(folder: Path) -> None:
    """Create a folder and its parents, each entry synced."""
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
