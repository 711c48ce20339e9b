"""Reads recordings in the two shapes that are recognised by their header.

SKAB   datetime;Accelerometer1RMS;...;Volume Flow RateRMS[;anomaly;changepoint]    eight channels, a row a second
NAB    timestamp,value[,label]                                                     one channel; labels may stand in a
                                                                                   windows.json beside the files
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.errors import InvalidInputError, NotFoundError

MOST_CHANNELS = 8
TIME_NAMES = ("datetime", "timestamp")
LABEL_NAMES = ("anomaly", "label")
NOT_CHANNELS = frozenset({*TIME_NAMES, *LABEL_NAMES, "changepoint"})
WINDOWS_FILE = "windows.json"
FIX = "Known shapes: `datetime;CHANNEL;...[;anomaly;changepoint]` (SKAB) and `timestamp,value[,label]` (NAB)."


@dataclass(frozen=True)
class Recording:
    """One file.

    Attributes:
        tenant: the file's name without its ending.
        times: as written; the parsed time, or None where it is no time.
        cells: one tuple of texts a row, as written.
        anomalous: whether each row is labelled an anomaly; None where the file has no labels.
        train_rows: how many rows at the beginning are for training; they are not streamed.
    """

    tenant: str
    channels: tuple[str, ...]
    times: Sequence[tuple[str, datetime | None]]
    cells: Sequence[tuple[str, ...]]
    anomalous: Sequence[bool] | None
    train_rows: int


def read_folder(folder: Path) -> list[Recording]:
    """Read every CSV file of a folder, by name.

    Raises:
        NotFoundError: there is no such folder, or no CSV file in it.
        InvalidInputError: a file has another shape, or too few rows; the place names file and line.
    """
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder `{folder}`", fix="Name a folder with CSV files.")
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise NotFoundError("there is no CSV file", where=str(folder), fix=FIX)
    windows_file = folder / WINDOWS_FILE
    windows = json.loads(windows_file.read_text(encoding="utf-8")) if windows_file.is_file() else {}
    return [read_file(path, windows.get(path.name)) for path in paths]


def read_file(path: Path, windows: Sequence[Sequence[str]] | None = None) -> Recording:
    """Read one file; `windows` are begin and end of its anomalies, where a windows.json names them."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    header = lines[0] if lines else ""
    delimiter = ";" if ";" in header else ","
    names = [name.strip() for name in header.split(delimiter)]
    if len(names) < 2 or names[0].lower() not in TIME_NAMES:
        raise InvalidInputError(f"the header `{header[:80]}` is not recognised", where=f"{path}:1", fix=FIX)
    channels = [position for position, name in enumerate(names) if name.lower() not in NOT_CHANNELS]
    if not 1 <= len(channels) <= MOST_CHANNELS:
        raise InvalidInputError(f"{len(channels)} channels, not 1 to {MOST_CHANNELS}", where=f"{path}:1", fix=FIX)
    rows = [row for row in csv.reader(lines[1:], delimiter=delimiter) if row]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise InvalidInputError(
                f"{len(row)} cells, not {len(names)}", where=f"{path}:{number}", fix="Mend or remove the line."
            )
    if len(rows) < 40:
        raise InvalidInputError(
            f"{len(rows)} rows are too few to train on and to replay", where=str(path), fix="Give at least 40."
        )
    times = [(row[0], _parse_time(row[0])) for row in rows]
    label = next((position for position, name in enumerate(names) if name.lower() in LABEL_NAMES), None)
    # SKAB's own protocol trains on the first 400 rows of a file; NAB's on the first 15 %.
    train = min(400, int(0.35 * len(rows))) if delimiter == ";" else int(0.15 * len(rows))
    return Recording(
        path.stem,
        tuple(names[position] for position in channels),
        times,
        [tuple(row[position].strip() for position in channels) for row in rows],
        _labels(rows, label, times, windows),
        max(train, 20),
    )


def _labels(
    rows: Sequence[Sequence[str]],
    position: int | None,
    times: Sequence[tuple[str, datetime | None]],
    windows: Sequence[Sequence[str]] | None,
) -> list[bool] | None:
    if position is not None:
        return [_truth(row[position]) for row in rows]
    if windows is None:
        return None
    spans = [(_parse_time(begin), _parse_time(end)) for begin, end in windows]
    return [any(a is not None and b is not None and when is not None and a <= when <= b for a, b in spans) for _, when in times]


def _truth(cell: str) -> bool:
    try:
        return float(cell) > 0
    except ValueError:
        return cell.strip().lower() in ("true", "anomaly", "yes")


def _parse_time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def number_or_text(cell: str) -> float | str | None:
    """A cell as JSON will carry it: a number, null when empty, else the text, which the source will refuse."""
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return cell
