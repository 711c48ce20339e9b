"""`summary.json`: what the demo proved and measured, in the words of the contract."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Check:
    """One thing that was looked at from outside, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass
class TenantSummary:
    """What became of one tenant's events; see the contract for each name."""

    pipeline: str
    events_sent: int = 0
    events_read: int = 0
    late: int = 0
    quarantined: int = 0
    windows_closed: int = 0
    windows_open: int = 0
    predictions: int = 0
    prediction_errors: int = 0
    labels: int = 0
    accuracy: float | None = None
    baseline_accuracy: float | None = None


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds; None when nothing was measured."""

    p50: float | None = None
    p99: float | None = None


@dataclass
class Summary:
    """Everything that `summary.json` holds. `duplicates` and `missing` count over topic, lake and view together."""

    checks: list[Check] = field(default_factory=list)
    duplicates: int = 0
    missing: int = 0
    event_to_prediction_ms: Percentiles = Percentiles()
    event_to_prediction_ms_by_pipeline: dict[str, Percentiles] = field(default_factory=dict)
    graphql_frames: int = 0
    iceberg_snapshots: int = 0
    tenants: dict[str, TenantSummary] = field(default_factory=dict)
    timings_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    def check(self, name: str, ok: bool, detail: str) -> None:
        """Write down one check."""
        self.checks.append(Check(name, bool(ok), detail))

    def as_dict(self) -> dict[str, object]:
        """Plain values, `ok` first."""
        return {"ok": self.ok, **asdict(self)}

    def write(self, file: Path) -> None:
        """Write the file, whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(self.as_dict(), indent=2, default=str) + "\n", encoding="utf-8")
        partial.replace(file)
