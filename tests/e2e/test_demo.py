"""The whole thing, as a user runs it. The demo checks itself; here its exit code, its summary and what it leaves are checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.ports import accepts_connections

TENANT_KEYS = {
    "pipeline", "events_sent", "events_read", "late", "quarantined", "windows_closed", "windows_open", "predictions",
    "prediction_errors", "labels", "accuracy", "baseline_accuracy",
}  # fmt: skip


def demo(data_dir: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "--log-level", "warning", "demo", "--json", "--data-dir", str(data_dir), *arguments],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr[-3000:]
    summary: dict[str, Any] = json.loads(done.stdout)
    failed = [f"{check['name']}: {check['detail']}" for check in summary["checks"] if not check["ok"]]
    assert not failed, "\n".join(failed)
    assert done.returncode == 0
    assert summary == json.loads((data_dir / "demo" / "summary.json").read_text())
    return summary


@pytest.mark.timeout(500)
def test_the_demo_passes_its_own_checks_and_writes_the_promised_summary(tmp_path: Path) -> None:
    summary = demo(tmp_path, "--seconds", "25")
    assert summary["ok"]
    assert (summary["duplicates"], summary["missing"]) == (0, 0)
    assert summary["graphql_frames"] > 0
    assert summary["iceberg_snapshots"] > 0
    assert 0 < summary["event_to_prediction_ms"]["p50"] <= summary["event_to_prediction_ms"]["p99"]
    assert {tenant["pipeline"] for tenant in summary["tenants"].values()} == {"plant", "telemetry", "vision"}
    for tenant in summary["tenants"].values():
        assert tenant.keys() == TENANT_KEYS
        assert tenant["events_sent"] == tenant["events_read"] > 0
        assert tenant["accuracy"] > tenant["baseline_accuracy"]
    assert sum(tenant["late"] for tenant in summary["tenants"].values()) > 0
    assert not (tmp_path / "demo" / "run.json").exists()
    assert not any(accepts_connections("127.0.0.1", port) for port in _ports(tmp_path / "demo" / "logs"))
    _check_features(tmp_path)


def _check_features(data_dir: Path) -> None:
    """What the stopped demo left: online and offline features agree, and nothing runs on afterwards."""
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "--log-level", "warning", "features", "verify", "--json", "--data-dir", str(data_dir)],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["mismatches"] == 0
    assert report["compared"] > 10_000
    assert {name for name, view in report["views"].items() if view["moments"] > 5} == {"plant", "telemetry", "vision"}
    assert not (data_dir / "demo" / "run.json").exists()


@pytest.mark.timeout(300)
def test_recordings_of_skab_are_predicted_as_the_batch_recomputation_says(tmp_path: Path, recorded_data: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("valve1_0.csv", "other_3.csv"):
        shutil.copy(recorded_data / "skab" / name, folder)
    summary = demo(tmp_path / "data", "--data", str(folder), "--seconds", "20")
    assert summary["tenants"].keys() == {"valve1_0", "other_3"}
    assert summary["tenants"]["valve1_0"]["events_sent"] == 1147 - 400
    assert all(tenant["labels"] > 0 and tenant["predictions"] > 0 for tenant in summary["tenants"].values())


def test_a_folder_without_recordings_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "demo", "--data", str(tmp_path), "--data-dir", str(tmp_path / "d")],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "no CSV file" in done.stderr
    assert not (tmp_path / "d").exists()


def _ports(logs: Path) -> set[int]:
    """Every port that a process said it listened on."""
    found = set()
    for log in logs.glob("*.log"):
        for line in log.read_text().splitlines():
            entry = json.loads(line) if line.startswith("{") else {}
            found |= {entry["port"]} if isinstance(entry.get("port"), int) else set()
    return found
