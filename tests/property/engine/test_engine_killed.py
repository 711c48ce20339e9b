"""SIGKILL in a loop of epochs: whatever the moment, the views are the queries of all batches, each taken once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.property.engine.harness import EngineBox, Oracle, bag, difference
from tests.property.engine.killing import ORACLE, TABLES, VIEWS, model_after


def _run(folder: Path, last: int, chance: random.Random | None) -> int:
    """Run the process; kill it at some moment if `chance` is given. Returns how many batches it had begun."""
    command = [sys.executable, "-m", "tests.property.engine.killing", str(folder), str(last)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert process.stdout is not None
    begun = 0
    patience = chance.randint(1, 12) if chance is not None else last + 1
    for line in process.stdout:
        begun = int(line)
        patience -= 1
        if patience == 0 and chance is not None:
            time.sleep(chance.uniform(0.0, 0.03))  # the random moment itself: before, inside or after the commit
            process.kill()
            break
    process.stdout.close()
    code = process.wait(60)
    assert code == (-9 if patience == 0 else 0)
    return begun


def _check(folder: Path, last: int) -> None:
    box, oracle = EngineBox(folder=folder), Oracle()
    try:
        oracle.load(model_after(last))
        assert box.rows("SELECT count(*), max(n) FROM progress") == [(last, last)]
        for name in TABLES:
            problem = difference(bag(box.rows(f"SELECT * FROM {name}")), bag(oracle.rows(f"FROM {name}")))
            assert problem is None, f"table {name}: {problem}"
        for name in VIEWS:
            found = bag(box.rows(f"SELECT * FROM {name}"))
            problem = difference(found, bag(oracle.rows(ORACLE[name])))
            assert problem is None, f"{name}: {problem}"
            box.run(f"DECLARE all_{name} SUBSCRIPTION CURSOR FOR changes_{name} SINCE begin()")
            added: Counter[tuple[object, ...]] = Counter()
            for *row, op, _ in box.rows(f"FETCH 1000000 FROM all_{name}"):
                (key,) = bag([tuple(row)])
                added[key] += 1 if "Insert" in op else -1
                assert added[key] >= 0, f"{name}: {key} was retracted more often than inserted"
            assert difference(+added, found) is None, f"the changes of {name} do not add up"
    finally:
        box.close()


def _kill_rounds(folder: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    last = 0
    for _ in range(rounds):
        last = max(last, _run(folder, 10_000, chance))
    last += 5
    _run(folder, last, None)
    _check(folder, last)


@pytest.mark.timeout(600)
def test_views_are_right_after_eight_kills(tmp_path: Path) -> None:
    _kill_rounds(tmp_path / "data", 8, seed=1)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_views_are_right_after_forty_kills(tmp_path: Path, seed: int) -> None:
    _kill_rounds(tmp_path / "data", 40, seed)
