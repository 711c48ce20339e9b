"""What a check found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        table: the table, or `catalog`, `warehouse`, `registry`.
        problem: a stable code, e.g. `data-missing`.
        where: the file, column or row.
        what: a sentence for people.
        fix: what to do.
    """

    table: str
    problem: str
    where: str
    what: str
    fix: str


@dataclass
class Report:
    """All findings, and how much was looked at."""

    deep: bool = False
    findings: list[Finding] = field(default_factory=list)
    tables: int = 0
    snapshots: int = 0
    files: int = 0
    rows: int = 0

    @property
    def problems(self) -> int:
        return len(self.findings)

    def add(self, findings: Iterable[Finding]) -> bool:
        """Take findings in; True when there were none."""
        before = len(self.findings)
        self.findings.extend(findings)
        return len(self.findings) == before
