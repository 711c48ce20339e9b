"""`headrace bench anomaly` on real recordings: each verdict equals the model's on features worked out by other means."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headrace.bench.anomaly import TRAIN_ROWS, Counts, score, training_readings
from headrace.demo.csv_files import read_file
from learning.models.level_band import fit_level_band, trailing_means

SKAB = Path(__file__).parents[3] / "shared" / "data" / "skab"
FILES = ("other_9.csv", "valve1_4.csv")

pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(not SKAB.is_dir(), reason="the SKAB recordings are not beside the project"),
]


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace", "bench", "anomaly", str(folder), "--json"]
    environ = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=240, check=False)


def test_the_pipeline_judges_each_row_as_the_model_would(tmp_path: Path) -> None:
    for name in FILES:
        shutil.copy(SKAB / name, tmp_path / name)
    done = _run(tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    total = Counts()
    for name in FILES:
        recording = read_file(tmp_path / name)
        assert recording.anomalous is not None
        readings = np.array([[float(cell) for cell in row] for row in recording.cells])
        model = fit_level_band(training_readings(recording))
        rows = np.arange(1, len(readings) + 1)[:, None]
        features = np.hstack([trailing_means(readings), rows]).astype(np.float32)
        alarms = model.probabilities(features)[:, 1] > 0.5
        expected = score(np.array(recording.anomalous), dict(enumerate(alarms.tolist())))
        assert result["files"][recording.tenant] == expected.as_dict()
        total += expected
    assert {key: result[key] for key in total.as_dict()} == total.as_dict()
    assert result["no_verdict"] == 0
    assert result["f1"] > 0.78
    assert result["far"] < 0.13


def test_counts_are_what_they_are_called() -> None:
    truth = np.array([False] * TRAIN_ROWS + [True, True, False, False, True])
    counts = score(truth, {400: True, 401: False, 402: True, 403: False})
    assert counts == Counts(hits=1, misses=2, false_alarms=1, quiet=1, no_verdict=1)
    assert counts.as_dict() == {"f1": 0.4, "far": 0.5, "mar": 0.6667, "rows": 5, "no_verdict": 1}


def test_files_without_labels_are_refused(tmp_path: Path) -> None:
    lines = (SKAB / "valve1_4.csv").read_text().splitlines()[:450]
    (tmp_path / "bare.csv").write_text("\n".join(";".join(line.split(";")[:9]) for line in lines) + "\n")
    done = _run(tmp_path)
    assert done.returncode == 2
    assert "no file has a column" in done.stderr
