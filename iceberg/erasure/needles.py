"""What is looked for: the subject's name, and ids that were derived from it; and where it stands in some bytes.

A name is short and may be part of another one (`pump-1` in `pump-12`), so what stands beside it counts:

    in decoded text   a hit is whole when no identifier character (letter, digit, `_`, `-`) touches it
    in raw bytes      what touches it may be a length or a checksum that looks like a letter, so every hit counts,
                      unless exactly there stands a longer name that is known to be somebody else's

Derived ids are long and random; they need no such care, but there are many. They are found by their first eight bytes: every
position of the haystack is hashed into a table of a million bits, and only what falls on a set bit is compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from core.errors import InvalidInputError

_RUN_BEFORE = re.compile(rb"[A-Za-z0-9_-]+\Z")
_RUN_AFTER = re.compile(rb"\A[A-Za-z0-9_-]+")
_LONGEST_NAME = 256

# Below this a name stands in random bytes by chance: once in 16 MB at three bytes, once in 4 GB at four.
_TELLING_BYTES = 4

CUT = 16
_WORD = 8
_TABLE_BITS = 20
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: Knuth, The Art of Computer Programming 3, 6.4


@dataclass(frozen=True)
class Hit:
    """Where a needle stands: byte offset, and what it is."""

    offset: int
    needle: bytes


@dataclass
class Needles:
    """The subject's name and its derived ids.

    Args:
        name: as it is written in the data; UTF-8, case as is.
        derived: e.g. the ids of predictions about it; those shorter than eight bytes are refused.

    Attributes:
        others: longer names that hold `name` and are known to be somebody else's; grows while decoded text is read.
    """

    name: str
    derived: frozenset[str] = frozenset()
    others: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InvalidInputError("the subject is empty", where="subject", fix="Give the id as it is written in the data.")
        short = next((each for each in self.derived if len(each.encode()) < _WORD), None)
        if short is not None:
            raise InvalidInputError(f"derived id `{short}` is too short to be searched for", where="subject")
        self._name = self.name.encode()
        self._set = {each.encode() for each in self.derived}
        self._lengths = sorted({len(each) for each in self._set})
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        if self._set:
            words = np.array([int.from_bytes(each[:_WORD], "little") for each in self._set], dtype=np.uint64)
            self._words = np.unique(words)
            self._table[_slot(self._words)] = True

    @property
    def name_bytes(self) -> bytes:
        return self._name

    @cached_property
    def cut_ids(self) -> frozenset[str]:
        """Derived ids as Iceberg cuts bounds of text: the first 16 characters, below as they are, above the last one raised."""
        return frozenset(bound for each in self.derived if len(each) > CUT for bound in cut_bounds(each))

    def in_text(self, text: bytes) -> Iterator[Hit]:
        """Whole hits in decoded text; longer names that hold the name are remembered as somebody else's."""
        for offset in _all(text, self._name):
            other = _longer(text, offset, offset + len(self._name))
            if other is None:
                yield Hit(offset, self._name)
            else:
                self.others.add(other)
        yield from self._derived_in(text)

    def in_raw(self, data: bytes) -> Iterator[Hit]:
        """Hits in bytes of unknown structure; a name that is too short to tell must stand alone."""
        for offset in _all(data, self._name):
            longer = _longer(data, offset, offset + len(self._name))
            if longer is not None and len(self._name) < _TELLING_BYTES:
                continue
            if longer is None or not self._is_other(data, offset):
                yield Hit(offset, self._name)
        yield from self._derived_in(data)

    def replaced(self, text: str, pseudonym: str) -> str:
        """The text with every whole hit replaced."""
        data, parts, end = text.encode(), [], 0
        for hit in sorted(self.in_text(data), key=lambda each: each.offset):
            if hit.offset >= end:
                parts += [data[end : hit.offset], pseudonym.encode()]
                end = hit.offset + len(hit.needle)
        return b"".join([*parts, data[end:]]).decode()

    def _is_other(self, data: bytes, offset: int) -> bool:
        for other in self.others:
            at = other.find(self._name)
            while at != -1:
                begin = offset - at
                if begin >= 0 and data[begin : begin + len(other)] == other:
                    return True
                at = other.find(self._name, at + 1)
        return False

    def _derived_in(self, data: bytes) -> Iterator[Hit]:
        if not self._set or len(data) < _WORD:
            return
        for offset in np.sort(np.concatenate([self._candidates(data, shift) for shift in range(_WORD)])):
            at = int(offset)
            for length in self._lengths:
                if (found := data[at : at + length]) in self._set:
                    yield Hit(at, found)
                    break

    def _candidates(self, data: bytes, shift: int) -> npt.NDArray[np.int64]:
        count = (len(data) - shift) // _WORD
        if count < 1:
            return np.empty(0, dtype=np.int64)
        words = np.frombuffer(data, dtype="<u8", count=count, offset=shift)
        likely = np.flatnonzero(self._table[_slot(words)])
        certain = likely[np.isin(words[likely], self._words)]
        return certain.astype(np.int64) * _WORD + shift


def cut_bounds(value: str) -> tuple[str, str]:
    """The lower and the upper bound that stand for a value in Iceberg's metadata."""
    cut = value[:CUT]
    return cut, cut[:-1] + chr(ord(cut[-1]) + 1)


def _slot(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        mixed: npt.NDArray[np.uint64] = (words * _MULTIPLIER) >> np.uint64(64 - _TABLE_BITS)
    return mixed


def _all(data: bytes, needle: bytes) -> Iterator[int]:
    at = data.find(needle)
    while at != -1:
        yield at
        at = data.find(needle, at + 1)


def _longer(data: bytes, begin: int, end: int) -> bytes | None:
    """The whole identifier around a hit where it is longer than the hit, else None."""
    before = _RUN_BEFORE.search(data[max(0, begin - _LONGEST_NAME) : begin]) if begin else None
    after = _RUN_AFTER.search(data[end : end + _LONGEST_NAME])
    if before is None and after is None:
        return None
    return (before[0] if before else b"") + data[begin:end] + (after[0] if after else b"")
