"""The same files by the public runner (crate `sqllogictest-bin`), where it is installed: one database a file, in parallel.

Its PostgreSQL client shows of an error no more than the SQLSTATE, so the messages that our files expect are left out here:
what must fail must fail.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
RUNNER = shutil.which("sqllogictest")
_MESSAGE = re.compile(r"^(statement|query) error .*$", re.MULTILINE)


@pytest.mark.nightly
@pytest.mark.skipif(RUNNER is None, reason="no `sqllogictest` on the PATH: cargo install sqllogictest-bin")
def test_every_file_is_green_by_the_public_runner(engine_port: int, tmp_path: Path) -> None:
    for path in FOLDER.glob("**/*.slt"):
        copy = tmp_path / path.relative_to(FOLDER)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(_MESSAGE.sub(r"\1 error", path.read_text()))
    command = [
        str(RUNNER),
        "--color",
        "never",
        "-e",
        "postgres",
        "-h",
        "127.0.0.1",
        "-p",
        str(engine_port),
        "-u",
        "root",
        "-d",
        "dev",
    ]
    done = subprocess.run(
        [*command, "-j", "2", f"{tmp_path}/**/*.slt"], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
