"""Chooses what to compact: where it saves more than it costs.

A file costs a reader something before its first byte (open it, read its footer, plan it), here counted as 4 MiB of reading. Dead
rows are read and thrown away by each scan. Rewriting costs the bytes that are written. So a group of files is worth it when

    4 MiB x (files before - files after) + 3 x dead bytes  >=  live bytes        (`min_gain` times)

Small files are taken by size, smallest first, and a file that is larger than all before it together (each counted with its 4
MiB) ends the group: so a byte is rewritten only when its file grows to a multiple, a few times in its life, however small
the appends are. Files with many dead rows are taken at any size.

    partition   1M 1M 1M 2M 90M     -->   group 1M 1M 1M 2M;  90 MB are left as they are
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import FileFormat
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import PrimitiveType

from iceberg.live_files import LiveFile, LiveFiles
from iceberg.positions import is_of_one_file

TARGET_PROPERTY = "write.target-file-size-bytes"
DEFAULT_TARGET_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True)
class CompactionPolicy:
    """When rewriting is worth it, and how much at once.

    Attributes:
        target_bytes: size of the files that come out; by default the table's property `write.target-file-size-bytes`.
        min_files: so many small files of a partition at least.
        open_cost_bytes: what opening a file costs a reader, in bytes read in that time.
        dead_share: a file with this share of dead rows is rewritten, whatever its size.
        min_gain: what must be saved for a byte that is rewritten; 0 rewrites whatever can be joined.
        bytes_at_once: so many bytes of files are read, sorted and held in memory together (unpacked, some times as much). Files that
            come out of one such group cover separate ranges of the sort order.
        bytes_per_commit: a commit takes groups until they hold so much.
    """

    target_bytes: int | None = None
    min_files: int = 5
    open_cost_bytes: int = 4 * 1024 * 1024
    dead_share: float = 0.3
    min_gain: float = 1.0
    bytes_at_once: int = 128 * 1024 * 1024
    bytes_per_commit: int = 512 * 1024 * 1024

    def target_of(self, table: Table) -> int:
        return self.target_bytes or int(table.metadata.properties.get(TARGET_PROPERTY, DEFAULT_TARGET_BYTES))


EVERYTHING = CompactionPolicy(min_files=2, dead_share=1e-9, min_gain=0.0)
"""Joins all that can be joined, and takes all dead rows out."""


@dataclass(frozen=True)
class Candidate:
    """A data file with the delete files that are its own."""

    live: LiveFile
    deletes: tuple[LiveFile, ...]

    @cached_property
    def dead_rows(self) -> int:
        return sum(delete.file.record_count for delete in self.deletes)

    @cached_property
    def size_bytes(self) -> int:
        return self.live.file.file_size_in_bytes

    @cached_property
    def dead_share(self) -> float:
        return min(1.0, self.dead_rows / max(1, self.live.file.record_count))

    @property
    def live_bytes(self) -> float:
        return self.size_bytes * (1 - self.dead_share)


@dataclass(frozen=True)
class Group:
    """Files of one partition that are rewritten together."""

    spec_id: int
    partition: Record
    files: tuple[Candidate, ...]

    @property
    def live_bytes(self) -> float:
        return sum(file.live_bytes for file in self.files)

    @property
    def live_rows(self) -> int:
        return sum(file.live.file.record_count - file.dead_rows for file in self.files)

    @property
    def dead_rows(self) -> int:
        return sum(file.dead_rows for file in self.files)

    @property
    def removed(self) -> list[LiveFile]:
        """All that leaves the table when the group is rewritten."""
        return [live for file in self.files for live in (file.live, *file.deletes)]

    def files_after(self, target_bytes: int) -> int:
        """How many files come out, as their bytes say."""
        return 0 if self.live_rows == 0 else max(1, round(self.live_bytes / target_bytes))


def plan_groups(table: Table, files: LiveFiles, policy: CompactionPolicy) -> list[Group]:
    """Choose groups of files that are worth to be rewritten, those first that save most."""
    target = policy.target_of(table)
    partitions: dict[Record, list[Candidate]] = defaultdict(list)
    for live in files.data.values():
        # Files of an older partitioning are left: their rows may belong to several of today's partitions.
        if live.file.spec_id == table.metadata.default_spec_id and live.file.file_format == FileFormat.PARQUET:
            own = tuple(delete for delete in files.deletes_of(live) if is_of_one_file(delete.file))
            partitions[live.file.partition].append(Candidate(live, own))
    order = _Order(table)
    groups = [
        Group(table.metadata.default_spec_id, partition, tuple(cut))
        for partition, candidates in partitions.items()
        for cut in _cut(sorted(_choose(candidates, target, policy), key=order), max(target, policy.bytes_at_once))
    ]
    worth = [group for group in groups if len(group.files) > 1 or group.files[0].dead_rows]
    return sorted(worth, key=lambda group: _saved(group, target, policy) - group.live_bytes, reverse=True)


def _choose(candidates: Sequence[Candidate], target: int, policy: CompactionPolicy) -> list[Candidate]:
    """The files of one partition that are rewritten."""
    dying = [file for file in candidates if file.dead_rows and file.dead_share >= policy.dead_share]
    small = sorted(
        (file for file in candidates if file not in dying and file.size_bytes < 0.75 * target), key=lambda file: file.size_bytes
    )
    chosen: list[Candidate] = []
    weight = 0.0
    for file in small:
        if policy.min_gain and chosen and file.size_bytes > weight:
            break
        chosen.append(file)
        weight += file.size_bytes + policy.open_cost_bytes
    group = Group(0, Record(), tuple(chosen))
    if len(dying) + len(chosen) < policy.min_files or _saved(group, target, policy) < policy.min_gain * group.live_bytes:
        chosen = []
    return [*dying, *chosen]


def _saved(group: Group, target: int, policy: CompactionPolicy) -> float:
    dead_bytes = sum(file.size_bytes - file.live_bytes for file in group.files)
    opened = sum(1 + len(file.deletes) for file in group.files)
    return policy.open_cost_bytes * (opened - group.files_after(target)) + 3 * dead_bytes


def _cut(files: Sequence[Candidate], limit: int) -> Iterator[list[Candidate]]:
    """Cut a partition's files, in their order, into groups that are read together."""
    cut: list[Candidate] = []
    size = 0.0
    for file in files:
        if cut and size + file.live_bytes > 1.25 * limit:
            yield cut
            cut, size = [], 0.0
        cut.append(file)
        size += file.live_bytes
    if cut:
        yield cut


class _Order:
    """Where a file lies in the table's sort order, by the least value of the first sort column; else by age."""

    def __init__(self, table: Table) -> None:
        first = next(iter(table.sort_order().fields), None)
        self._source = first.source_id if first is not None and isinstance(first.transform, IdentityTransform) else None
        kind = table.schema().find_type(self._source) if self._source is not None else None
        self._kind = kind if isinstance(kind, PrimitiveType) else None

    def __call__(self, file: Candidate) -> tuple[bool, Any, int, str]:  # Any: what Iceberg decodes a bound of the column to
        raw = (file.live.file.lower_bounds or {}).get(self._source) if self._source is not None else None
        low = from_bytes(self._kind, raw) if raw is not None and self._kind is not None else None
        return (low is not None, low if low is not None else 0, file.live.entry.sequence_number or 0, file.live.path)
