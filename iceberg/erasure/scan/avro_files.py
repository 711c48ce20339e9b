"""Looks into Avro: manifests and manifest lists, or any other container file.

    header           schema and metadata, as text
    blocks           unpacked (deflate, zstandard, snappy, bzip2), as bytes: Avro writes strings as UTF-8
    bounds           of each data file that a manifest lists, also cut ones: by Iceberg's default a bound keeps 16 characters,
                     so `machine-in-hall-7-north` stands there as `machine-in-hall-` below and `machine-in-hall.` above

A cut bound is shared by all names with that beginning, and the same whole name may be another tenant's: both are told by what
the data file itself holds, which is looked into first. A bound that its file does not explain is the subject's.

Source: Avro 1.11 specification, "Object Container Files"; Iceberg specification, "Manifests", "Truncate transform".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.avro.codecs import KNOWN_CODECS
from pyiceberg.avro.decoder import BinaryDecoder, new_decoder
from pyiceberg.avro.file import META_SCHEMA, SYNC_SIZE, AvroFileHeader
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.schema import Schema

from iceberg.erasure.needles import Needles
from iceberg.erasure.scan.frames import unsnap
from iceberg.erasure.scan.traces import Findings
from iceberg.storage import canonical

MAGIC = b"Obj\x01"

# Iceberg's default is `truncate(16)`; the beginning of a name that is shorter than this names nobody.
_SHORTEST_CUT = 8


@dataclass(frozen=True)
class Neighbour:
    """What was found in a data file: another tenant's subject of the name, the longest shared prefix, shared cuts of derived ids."""

    same_name: bool = False
    shared_prefix: int = 0
    cuts: frozenset[str] = frozenset()


def look(data: bytes, needles: Needles, data_files: Mapping[str, Neighbour]) -> Findings:
    """Look into an Avro file.

    Args:
        data: the whole file.
        needles: what is looked for.
        data_files: by canonical location, the data files that exist and what is in them.
    """
    found = Findings()
    try:
        decoder = new_decoder(data)
        reader: Reader = construct_reader(META_SCHEMA, {-1: AvroFileHeader})
        header: AvroFileHeader = reader.read(decoder)
        for key, value in header.meta.items():
            found.found("header", sum(1 for text in (key, value) for _ in needles.in_text(text.encode())))
        blocks = list(_blocks(data, decoder, header))
        found.layers.add(f"avro:{header.meta.get('avro.codec', 'null')}")
        _search(blocks, needles, _bounds(blocks, header, needles, data_files, found), found)
    except (ValueError, EOFError, KeyError, TypeError, OSError, IndexError, ImportError) as error:
        found.unread["file"] = f"not readable as Avro: {error}"
        found.found("raw bytes", sum(1 for _ in needles.in_raw(data)))
    return found


def _blocks(data: bytes, decoder: BinaryDecoder, header: AvroFileHeader) -> Iterator[tuple[int, bytes]]:
    """Number of records and unpacked content of each block."""
    name = header.meta.get("avro.codec", "null")
    codec = KNOWN_CODECS[name]  # type: ignore[index]  # a KeyError is reported as an unknown codec
    while decoder.tell() < len(data):
        count, block = decoder.read_int(), decoder.read_bytes()
        if name == "snappy":  # PyIceberg wants another package for it; behind the content stands a checksum of four bytes
            content = unsnap(block[:-4])
            if content is None:
                raise ValueError("a snappy block cannot be unpacked")
            yield count, content
        else:
            yield count, codec.decompress(block) if codec is not None else block
        if decoder.read(SYNC_SIZE) != header.sync:
            raise ValueError("a block does not end with the file's marker")


def _search(blocks: Sequence[tuple[int, bytes]], needles: Needles, explained: int, found: Findings) -> None:
    """Search every block; `explained` hits of the name are another tenant's."""
    hits = [hit for _, content in blocks for hit in needles.in_raw(content)]
    of_name = sum(hit.needle == needles.name_bytes for hit in hits)
    found.not_ours("blocks", min(of_name, explained))
    found.found("blocks", len(hits) - min(of_name, explained))


def _bounds(
    blocks: Sequence[tuple[int, bytes]],
    header: AvroFileHeader,
    needles: Needles,
    data_files: Mapping[str, Neighbour],
    found: Findings,
) -> int:
    """Look at the bounds of each listed file; returns how many whole names in them are another tenant's."""
    if header.meta.get("content") not in ("data", "deletes"):
        return 0
    schema = header.get_schema()
    reader = resolve_reader(schema, schema)
    positions = _positions(schema)
    explained = 0
    for count, content in blocks:
        decoder = new_decoder(content)
        for _ in range(count):
            file = reader.read(decoder)[positions["data_file"]]
            neighbour = data_files.get(canonical(file[positions["file_path"]]), Neighbour())
            for kind in ("lower_bounds", "upper_bounds"):
                at = positions.get(kind)
                for bound in (file[at] or {}).values() if at is not None else ():
                    whole = bound == needles.name_bytes
                    if whole and neighbour.same_name:
                        explained += 1
                    elif not whole and _is_cut(bound, needles, neighbour):
                        found.found(kind.replace("_", " "), 1)
    return explained


def _positions(schema: Schema) -> dict[str, int]:
    """Where the fields that matter stand in an entry and in its data file."""
    outer = {field.name: at for at, field in enumerate(schema.fields)}
    inner = next(field.field_type for field in schema.fields if field.name == "data_file")
    wanted = ("file_path", "lower_bounds", "upper_bounds")
    return {
        "data_file": outer["data_file"],
        **{field.name: at for at, field in enumerate(inner.fields) if field.name in wanted},  # type: ignore[attr-defined]
    }


def _is_cut(bound: bytes, needles: Needles, neighbour: Neighbour) -> bool:
    """Whether a bound is the name, or a derived id, cut and (above) with its last character raised."""
    try:
        text = bound.decode()
    except UnicodeDecodeError:
        return False
    if len(text) >= _SHORTEST_CUT and len(text) > neighbour.shared_prefix and _begins(needles.name, text):
        return True
    return text in needles.cut_ids and text not in neighbour.cuts


def _begins(name: str, cut: str) -> bool:
    if len(cut) >= len(name):
        return False
    return name[: len(cut)] in (cut, cut[:-1] + _lowered(cut[-1]))


def _lowered(character: str) -> str:
    return chr(max(0, ord(character) - 1))
