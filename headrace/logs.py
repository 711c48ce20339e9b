"""Logs to stderr: one JSON object a line for machines, or a short line for people."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}

_TALKATIVE = ("pyiceberg", "skl2onnx", "strawberry", "websockets")
"""Libraries whose INFO is nothing that an operator acts on."""

LogFormat = Literal["json", "human"]


def set_up(style: LogFormat, level: str = "INFO") -> None:
    """Send everything to stderr in the given style; replaces whatever was set up before."""
    _install(logging.StreamHandler(sys.stderr), style, level)


def move_to_file(file: Path) -> None:
    """From now on write JSON lines to a file, at the level that was set up: the screen belongs to a live view."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _install(logging.FileHandler(file, encoding="utf-8"), "json", logging.getLevelName(logging.getLogger().level))


def _install(handler: logging.Handler, style: LogFormat, level: str) -> None:
    handler.setFormatter(JsonFormatter() if style == "json" else HumanFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))


def fields(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """`{"time": ..., "level": ..., "logger": ..., "event": ..., <fields>}`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """`12:00:01 warning broker.log: segment cut  offset=12`."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        extra = "".join(f" {name}={value}" for name, value in fields(record).items())
        line = f"{when} {record.levelname.lower()} {record.name}: {record.getMessage()}{' ' if extra else ''}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
