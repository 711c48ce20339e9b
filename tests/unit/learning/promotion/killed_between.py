"""Promotes in a process that is killed after the checks and before the decision: run by `test_decisions`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from core.clock import SystemClock
from core.settings import Settings
from iceberg.catalog import open_lake
from iceberg.registry import Registry
from iceberg.stages import Stages
from learning.promotion.decisions import promote
from learning.promotion.policy import load_policy


def _kill(_point: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    settings = Settings(data_dir=Path(sys.argv[1]))
    catalog = open_lake(settings)
    promote(
        Registry(catalog, settings.resolved_warehouse),
        Stages(catalog),
        load_policy(),
        "pump",
        1,
        "staging",
        clock=SystemClock(),
        actor="killed",
        failpoint=_kill,
    )
