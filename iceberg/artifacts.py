"""Immutable files by content: a file's name is the SHA-256 of its bytes, so it is whole under its name or not there at all."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from pyiceberg.io import FileIO, load_file_io

from core.errors import CorruptDataError, UnavailableError
from iceberg.durable_io import make_folders, sync_folder


class ArtifactStore:
    """Files below a root, on a local folder or an object store.

    Args:
        root: as `iceberg.catalog.warehouse_location` gives it.
        properties: the catalog's, for access to an object store.
    """

    def __init__(self, root: str, properties: Mapping[str, str]) -> None:
        self._root = root
        self._folder = Path(root.removeprefix("file://")) if root.startswith("file://") else None
        self._properties = {key: value for key, value in properties.items() if key != "py-io-impl"}

    def put(self, content: bytes, suffix: str) -> str:
        """Store bytes durably and return their path below the root; storing the same bytes again changes nothing.

        Raises:
            UnavailableError: they could not be written; nothing is visible.
        """
        path = artifact_path(hashlib.sha256(content).hexdigest(), suffix)
        try:
            if self._folder is not None:
                _put_file(self._folder / path, content)
            else:
                # An object appears when its upload is complete.
                with self._remote().new_output(f"{self._root}/{path}").create(overwrite=True) as stream:
                    stream.write(content)
        except OSError as error:
            raise UnavailableError(f"artifact `{path}` cannot be written: {error}", where=self._root) from error
        return path

    def load(self, path: str, sha256: str) -> bytes:
        """Load bytes and check them.

        Raises:
            CorruptDataError: the file is missing, or its content is not what was stored.
        """
        fix = "Restore it from a replica of the warehouse, or register the model again."
        try:
            if self._folder is not None:
                content = (self._folder / path).read_bytes()
            else:
                with self._remote().new_input(f"{self._root}/{path}").open() as stream:
                    content = stream.read()
        except FileNotFoundError as error:
            raise CorruptDataError(f"artifact `{path}` is missing", where=self._root, fix=fix) from error
        except OSError as error:
            raise UnavailableError(f"artifact `{path}` cannot be read: {error}", where=self._root) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CorruptDataError(
                f"artifact `{path}` does not have the SHA-256 that was registered", where=self._root, fix=fix
            )
        return content

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error.

        Raises:
            UnavailableError: it could not be removed.
        """
        try:
            if self._folder is not None:
                (self._folder / path).unlink(missing_ok=True)
                sync_folder((self._folder / path).parent)
            else:
                self._remote().delete(f"{self._root}/{path}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnavailableError(f"artifact `{path}` cannot be removed: {error}", where=self._root) from error

    def _remote(self) -> FileIO:
        return load_file_io(self._properties, self._root)


def artifact_path(sha256: str, suffix: str) -> str:
    """Where content of this hash lies below the root."""
    return f"artifacts/sha256/{sha256[:2]}/{sha256}{suffix}"


def _put_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, sync, rename. A crash leaves a `.tmp` file, never half a file under the real name."""
    if path.exists() and path.read_bytes() == content:
        return
    if not path.parent.exists():
        make_folders(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
