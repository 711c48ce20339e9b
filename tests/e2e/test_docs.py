"""The commands of the readme and of the guides run: every shell block marked `sh test`, in order, against a platform of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(280)

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
BLOCK = re.compile(r"^```sh test\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_there_are_commands_to_run() -> None:
    assert sum(len(BLOCK.findall(guide.read_text(encoding="utf-8"))) for guide in GUIDES) >= 8


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_commands_of_a_guide_run(guide: Path, platform: dict[str, str], tmp_path: Path, services_required: bool) -> None:
    text = guide.read_text(encoding="utf-8")
    assert text.startswith("# "), "a guide has a title"
    script = "set -euo pipefail\n" + "\n".join(BLOCK.findall(text))
    if "psql " in script and subprocess.run(["sh", "-c", "command -v psql"], capture_output=True, check=False).returncode:
        assert not services_required, "psql is missing: install postgresql-client"
        pytest.skip("psql is not installed")
    database_port = re.search(r":(\d+)/dev", platform["database"])
    assert database_port is not None
    script = script.replace("127.0.0.1:8000", platform["api"].removeprefix("http://")).replace(
        "-p 4566", f"-p {database_port[1]}"
    )
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HEADRACE_DATABASE_URL": platform["database"],
        "HEADRACE_KAFKA": platform["kafka"],
        "HEADRACE_UDF_URL": platform["udf"],
        "HEADRACE_DATA_DIR": platform["data_dir"],
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=220, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
