"""Where the state of a data folder is: in itself, or, where only a demo ran, in its `demo`."""

from __future__ import annotations

import logging
from pathlib import Path

from core.settings import Settings
from headrace.run_file import RUN_FILE

logger = logging.getLogger(__name__)

DEMO = "demo"
_OF_A_PLATFORM = ("engine", "broker", RUN_FILE)
_CATALOG = "catalog.db"


def state_folder(data_dir: Path) -> Path:
    """The folder itself, unless a demo ran in it and no platform of its own did."""
    demo = data_dir / DEMO
    own = any((data_dir / name).exists() for name in _OF_A_PLATFORM)
    others = any((demo / name).exists() for name in (*_OF_A_PLATFORM, _CATALOG))
    lake_only = (data_dir / _CATALOG).exists() and not (demo / _OF_A_PLATFORM[0]).exists()
    return demo if others and not own and not lake_only else data_dir


def at_state(settings: Settings) -> Settings:
    """The settings, pointed at where the state is; those that name another lake stay as they are."""
    if settings.catalog_uri is not None or settings.warehouse is not None:
        return settings
    found = state_folder(settings.data_dir)
    if found == settings.data_dir:
        return settings
    logger.info("the state of the demo is used", extra={"data_dir": str(found)})
    return settings.model_copy(update={"data_dir": found})
