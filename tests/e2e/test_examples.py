"""The two example files that RisingWave's own parser accepts run here as they stand, by psql."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from pipelines.template import VARIABLES

pytestmark = pytest.mark.timeout(200)

EXAMPLES = Path(__file__).parents[3] / "shared" / "example"


def test_both_example_files_run_as_they_stand(tmp_path: Path, services_required: bool) -> None:
    if not EXAMPLES.is_dir():
        pytest.skip("the example files are not beside this checkout")
    if shutil.which("psql") is None:
        assert not services_required, "psql is missing: install postgresql-client"
        pytest.skip("psql is not installed")
    environ = {
        "PATH": os.environ["PATH"],
        "HEADRACE_KAFKA": "127.0.0.1:0",
        "HEADRACE_DATABASE_URL": "postgresql://root@127.0.0.1:0/dev",
        "HEADRACE_UDF_URL": "http://127.0.0.1:0",
    }
    command = [sys.executable, "-m", "headrace", "--log-level", "error", "dev", "--json", "--port", "0", "--no-pipelines"]
    with subprocess.Popen([*command, "--data-dir", str(tmp_path)], env=environ, stdout=subprocess.PIPE, text=True) as dev:
        assert dev.stdout is not None
        told = json.loads(dev.stdout.readline())
        values = (told["kafka"], told["udf"], "jdbc", f"jdbc:sqlite:{tmp_path}/catalog.db", f"{tmp_path}/warehouse")
        for name in ("00_shared.sql", "plant.sql"):
            text = (EXAMPLES / name).read_text()
            for variable, value in zip(VARIABLES, values, strict=True):
                text = text.replace(f"${{{variable}}}", value)
            (tmp_path / name).write_text(text)
            done = subprocess.run(
                ["psql", "-v", "ON_ERROR_STOP=1", "-f", str(tmp_path / name), told["database"]],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        with psycopg.connect(told["database"], autocommit=True) as connection:
            views = {row[0] for row in connection.execute("SHOW MATERIALIZED VIEWS").fetchall()}
        assert {
            "active_routes",
            "labels",
            "features_plant",
            "predictions_plant",
            "anomalies_plant",
            "model_scores_plant",
        } <= views
        dev.terminate()
        assert dev.wait(60) == 0
