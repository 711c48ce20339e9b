"""What a reader reports: where the subject stands in a file, and of which parts it could not look into."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Findings:
    """Of one file.

    Attributes:
        traces: part of the file -> number of hits that are the subject's.
        others: part -> hits of the same name that belong to another tenant's subject of that name.
        unread: parts that could not be decoded, with the reason: of these nothing is proven.
        layers: the encodings that were undone, e.g. `parquet:zstd`.
        cuts: beginnings that derived ids share with somebody else's values in the file, as bounds have them.
        shared: column -> length of the longest prefix that the name shares with somebody else's value there.
    """

    traces: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    unread: dict[str, str] = field(default_factory=dict)
    layers: set[str] = field(default_factory=set)
    cuts: set[str] = field(default_factory=set)
    shared: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return not self.traces and not self.unread

    def found(self, part: str, hits: int) -> None:
        if hits:
            self.traces[part] += hits

    def not_ours(self, part: str, hits: int) -> None:
        if hits:
            self.others[part] += hits


@dataclass(frozen=True)
class Whose:
    """The subject's tenant; None: every tenant's subject of the name is meant."""

    tenant: str | None
