"""Rewrites the paths inside a table's files, for a copy at another place.

Iceberg's metadata names every file by its absolute location, so a copied folder is of no use by itself. Four kinds of files hold
locations, and each is written anew with nothing else changed: ids, sequence numbers, statistics and partitions stay.

    metadata file          location, manifest lists, the log, statistics, path properties
    manifest list          manifests, and their sizes, which change with the paths in them
    manifest               data and delete files; sizes and bounds of position delete files
    position delete file   the data file of each deleted row

Data files, equality delete files and statistics hold no location and are copied as they are.

Source: Iceberg table specification, "Manifests", "Manifest Lists", "Position Delete Files".
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.io import InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    DEFAULT_READ_VERSION,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestFile,
    ManifestWriter,
    read_manifest_list,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from core.errors import InvalidInputError
from iceberg.manifests import AVRO_CODEC, DeletesWriter
from iceberg.storage import canonical

_PATH_ID = 2147483546  # of the column `file_path` in position delete files, by the specification
_FIELDS = {field.name: index for index, field in enumerate(DATA_FILE_TYPE[DEFAULT_READ_VERSION].fields)}
_PATH_PROPERTIES = ("write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path")


@dataclass(frozen=True)
class Move:
    """From where to where a table moves.

    Attributes:
        written: its location as the metadata has it.
        now: where its files lie; elsewhere when the folder was copied or moved by other means.
        target: its new location.
    """

    written: str
    now: str
    target: str

    def source(self, location: str) -> str:
        """Where a file lies that the metadata names."""
        return self.now + self._inner(location)

    def moved(self, location: str) -> str:
        """What the file is called in the copy."""
        return self.target + self._inner(location)

    def _inner(self, location: str) -> str:
        place = canonical(location)
        if not place.startswith(self.written + "/"):
            raise InvalidInputError(
                f"file `{location}` lies outside of the table's place `{self.written}`",
                fix="Rewrite the table's files into its own folder first (`headrace tables compact`), then copy it.",
            )
        return place.removeprefix(self.written)


def move_metadata(raw: dict[str, Any], move: Move, *, keep_log: Callable[[str], bool]) -> bytes:
    """The text of a metadata file for the copy.

    Args:
        raw: the source's, as JSON.
        keep_log: told the moved location of an older metadata file; whether the copy has it.
    """
    made = copy.deepcopy(raw)
    made["location"] = move.target
    for snapshot in made.get("snapshots", ()):
        snapshot["manifest-list"] = move.moved(snapshot["manifest-list"])
    log = [{**entry, "metadata-file": move.moved(entry["metadata-file"])} for entry in made.get("metadata-log", ())]
    made["metadata-log"] = [entry for entry in log if keep_log(entry["metadata-file"])]
    for kind in ("statistics", "partition-statistics"):
        for file in made.get(kind, ()):
            file["statistics-path"] = move.moved(file["statistics-path"])
    properties = made.get("properties", {})
    for name in _PATH_PROPERTIES:
        if name in properties:
            place = canonical(properties[name])
            properties[name] = move.target if place == move.written else move.moved(place)
    return json.dumps(made).encode()


def read_list(content: bytes, location: str) -> list[ManifestFile]:
    """The manifests in a manifest list; objects of their own, whatever PyIceberg has cached."""
    return list(read_manifest_list(_MemoryFile(location, content)))


def read_entries(content: bytes, manifest: ManifestFile) -> list[ManifestEntry]:
    """All entries of a manifest, with what they inherit from it."""
    return manifest.fetch_manifest_entry(_OneFile(content), discard_deleted=False)  # type: ignore[arg-type]


def move_list(
    snapshot: Snapshot, metadata: TableMetadata, manifests: list[ManifestFile], moved: dict[str, int], move: Move
) -> bytes:
    """The manifest list of a snapshot for the copy.

    Args:
        manifests: as `read_list` gives them.
        moved: the size of each manifest in the copy, by its moved location.
    """
    output = _MemoryFile(move.moved(snapshot.manifest_list))
    made = []
    for manifest in manifests:
        twin = copy.copy(manifest)
        twin._data = list(manifest._data)
        twin._data[0] = move.moved(manifest.manifest_path)
        twin._data[1] = moved[twin._data[0]]
        made.append(twin)
    with write_manifest_list(
        format_version=metadata.format_version,
        output_file=output,
        snapshot_id=snapshot.snapshot_id,
        parent_snapshot_id=snapshot.parent_snapshot_id,
        sequence_number=snapshot.sequence_number,
        avro_compression=AVRO_CODEC,
    ) as writer:
        writer.add_manifests(made)
    return output.content


def move_manifest(
    content: bytes,
    manifest: ManifestFile,
    metadata: TableMetadata,
    move: Move,
    deletes: dict[str, MovedDeletes],
) -> bytes:
    """A manifest for the copy.

    Args:
        content: the source's bytes.
        manifest: as its list has it.
        deletes: what became of each position delete file in it, by its moved location.
    """
    output = _MemoryFile(move.moved(manifest.manifest_path))
    with _writer(content, manifest, metadata, output) as writer:
        for entry in read_entries(content, manifest):
            file = entry.data_file
            twin = copy.copy(file)
            twin._data = list(file._data)
            place = move.moved(file.file_path)
            twin._data[_FIELDS["file_path"]] = place
            if (rewritten := deletes.get(place)) is not None:
                twin._data[_FIELDS["file_size_in_bytes"]] = rewritten.size_bytes
                for name, bound in (("lower_bounds", rewritten.least), ("upper_bounds", rewritten.most)):
                    twin._data[_FIELDS[name]] = {**(twin._data[_FIELDS[name]] or {}), _PATH_ID: bound.encode()}
            entry._data[4] = twin
            writer.add_entry(entry)
    return output.content


@dataclass(frozen=True)
class MovedDeletes:
    """A position delete file in the copy: its size, and the first and last data file that it names."""

    size_bytes: int
    least: str
    most: str


def holds_paths(file: DataFile) -> bool:
    """Whether a file must be written anew: position deletes do, all else is copied."""
    if file.content != DataFileContent.POSITION_DELETES:
        return False
    if file.file_format != FileFormat.PARQUET:
        raise InvalidInputError(
            f"position deletes of format `{file.file_format.value}` cannot be copied yet",
            where=file.file_path,
            fix="Compact the table first.",
        )
    return True


def move_deletes(content: bytes, move: Move) -> bytes:
    """A position delete file for the copy."""
    rows = pq.read_table(io.BytesIO(content))
    index = rows.schema.get_field_index("file_path")
    column = rows.column(index).combine_chunks()
    unique = pc.unique(column)
    names = dict(zip(unique.to_pylist(), (move.moved(name) for name in unique.to_pylist()), strict=True))
    moved = pa.array([names[name] for name in column.to_pylist()], rows.schema.field(index).type)
    stream = io.BytesIO()
    pq.write_table(rows.set_column(index, rows.schema.field(index), moved), stream, compression="zstd")
    return stream.getvalue()


def describe_deletes(content: bytes) -> MovedDeletes:
    """What a manifest must say of a position delete file."""
    column = pq.read_table(io.BytesIO(content), columns=["file_path"]).column(0)
    extremes = pc.min_max(column)
    return MovedDeletes(len(content), extremes["min"].as_py(), extremes["max"].as_py())


def _writer(content: bytes, manifest: ManifestFile, metadata: TableMetadata, output: OutputFile) -> ManifestWriter:
    """A writer with the schema and partitioning that the manifest was written with."""
    with AvroFile[ManifestEntry](_MemoryFile(manifest.manifest_path, content)) as reader:
        header = reader.header.meta
    schema = Schema.model_validate_json(header["schema"]) if "schema" in header else metadata.schema()
    spec: PartitionSpec = metadata.specs()[manifest.partition_spec_id]
    added_by = manifest.added_snapshot_id or 0
    if manifest.content == ManifestContent.DELETES:
        return DeletesWriter(spec, schema, output, added_by, AVRO_CODEC)
    return write_manifest(metadata.format_version, spec, schema, output, added_by, AVRO_CODEC)


class _MemoryFile(InputFile, OutputFile):
    """A file of PyIceberg's that lies in memory."""

    def __init__(self, location: str, content: bytes = b"") -> None:
        self._location = location
        self.content = content

    def __len__(self) -> int:
        return len(self.content)

    @property
    def location(self) -> str:
        return self._location

    def exists(self) -> bool:
        return True

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002  # PyIceberg's signature
        return io.BytesIO(self.content)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: ARG002  # PyIceberg's signature
        return _Kept(self)

    def to_input_file(self) -> InputFile:
        return self


class _Kept(io.BytesIO):
    def __init__(self, file: _MemoryFile) -> None:
        super().__init__()
        self._file = file

    def close(self) -> None:
        if not self.closed:
            self._file.content = self.getvalue()
        super().close()


class _OneFile:
    """Enough of PyIceberg's file access to read one file."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def new_input(self, location: str) -> InputFile:
        return _MemoryFile(location, self._content)
