"""An erasure is killed by SIGKILL at every step and started again: it ends as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import NotFoundError
from core.settings import Settings
from headrace.erasing import find_subject
from iceberg.erasure import certificate
from iceberg.erasure.journal import CERTIFICATE, JOURNAL
from tests.unit.iceberg.erasure_lake import WHO, contents, fill, open_lake, without_who
from tests.unit.iceberg.test_iceberg_erasure import bare

ROOT = Path(__file__).parents[3]
STEPS = ("searched", "staged", "committed", "rewritten", "doomed", "expired", "strays doomed", "deleted", "certified")


def erase_until(folder: Path, step: str | None, occurrence: int = 1) -> str:
    """Erase in a process of its own that kills itself at a step; `done`, or `killed`."""
    command = [sys.executable, "-m", "tests.chaos.iceberg.erasure_process", str(folder), step or "-", str(occurrence)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    if run.returncode == -signal.SIGKILL:
        return "killed"
    assert run.returncode == 0, run.stderr
    return "done"


def certificates(folder: Path) -> list[dict[str, object]]:
    found = [certificate.load(path) for path in (folder / "erasures").glob(f"*/{CERTIFICATE}")]
    return sorted(found, key=lambda each: str(each["finished_at"]))


def check(folder: Path, before: dict[str, list[dict[str, object]]], *, kills: int) -> None:
    catalog = open_lake(folder)
    assert bare(contents(catalog)) == bare(without_who(before))
    done = certificates(folder)
    last = done[-1]
    assert last["clean"], last["after"]
    # Killed behind its last step an erasure is complete; the next one then finds nothing to do.
    assert sum(int(str(each["rows_deleted"])) for each in done[:1]) == 4 * COMMITS
    assert int(str(done[0]["rows_pseudonymised"])) == 4 * COMMITS
    assert kills == 0 or int(str(done[0]["resumed"])) > 0 or len(done) > 1
    assert not list((folder / "erasures").glob(f"*/{JOURNAL}"))
    for entry in done[0]["files_deleted"]:  # type: ignore[attr-defined]
        assert not Path(entry["path"].removeprefix("file://")).exists()


COMMITS = 2


@pytest.mark.timeout(280)
def test_an_erasure_that_is_killed_once_at_every_kind_of_step_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    catalog = open_lake(tmp_path)
    fill(catalog, commits=COMMITS)
    before = contents(catalog)
    catalog.close()
    killed = [step for step in STEPS if erase_until(tmp_path, step) == "killed"]
    # Later attempts have less to do; a step that none of them reaches any more was passed by an earlier one.
    assert {"searched", "staged", "committed", "rewritten", "doomed", "expired", "strays doomed", "certified"} >= set(
        killed
    ) - {"deleted"}
    assert len(killed) >= 7
    assert erase_until(tmp_path, None) == "done"
    check(tmp_path, before, kills=len(killed))


def test_an_erasure_that_was_cut_off_is_found_by_the_name_alone_when_its_rows_are_gone(tmp_path: Path) -> None:
    catalog = open_lake(tmp_path)
    fill(catalog, commits=1)
    catalog.close()
    assert erase_until(tmp_path, "doomed") == "killed"
    settings = Settings(data_dir=tmp_path)
    assert find_subject(settings, WHO.name, None) == WHO
    with pytest.raises(NotFoundError):
        find_subject(settings, "nobody-at-all", None)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("step", STEPS)
def test_an_erasure_that_is_killed_again_and_again_at_a_step_ends(tmp_path: Path, step: str) -> None:
    catalog = open_lake(tmp_path)
    fill(catalog, commits=COMMITS)
    before = contents(catalog)
    catalog.close()
    kills = 0
    for occurrence in range(1, 12):  # the first time it comes by, the second time in the next attempt ...
        if erase_until(tmp_path, step, occurrence) == "done":
            break
        kills += 1
    assert kills
    assert erase_until(tmp_path, None) == "done"
    check(tmp_path, before, kills=kills)
