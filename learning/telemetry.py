"""Readings of nine sensors of a space shuttle, real and labelled: the Statlog (Shuttle) set that comes with river.

49,097 rows, 7 % of them anomalies (the rare flight states; the second largest class was left out by those who made the
anomaly set of it). The rows are in no time order, so each is scored by itself, and its event time is assigned by us.

The rows are divided by a seed: most go to the stream, the others train and measure the models. Exact duplicates of a row
stay on one side, so that nothing that is streamed was trained on.

Source: UCI Machine Learning Repository, data set 148; the anomaly version is that of the ODDS collection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from core.errors import InvalidInputError, NotFoundError
from learning.labelled import LabelledRows

Int64 = npt.NDArray[np.int64]

FEATURES = tuple(f"f{i}" for i in range(1, 10))
CLASSES = ("normal", "anomaly")
SPLIT_SEED = 148  # fixed, so that models and streams of different runs agree on who saw what
_TRAIN_SHARE, _VALIDATE_SHARE = 0.2, 0.08


@dataclass(frozen=True)
class TelemetryRows:
    """`train` and `validate` are for models, `stream` is what they never see: f1 .. f9 (double), label."""

    train: pa.Table
    validate: pa.Table
    stream: pa.Table


def load_telemetry() -> TelemetryRows:
    """Read and divide the set.

    Raises:
        NotFoundError: river is not installed.
    """
    try:
        from river.datasets import Shuttle
    except ImportError as problem:
        raise NotFoundError(
            "the shuttle readings come with river, which is not installed", fix="pip install river"
        ) from problem
    rows = pyarrow.csv.read_csv(pa.input_stream(str(Shuttle().path)))
    table = pa.table({name: pc.cast(rows[name], pa.float64()) for name in FEATURES})
    table = table.append_column("label", pa.array(CLASSES).take(rows["anomaly"]).combine_chunks())
    values = np.column_stack([table[name].to_numpy() for name in FEATURES])
    _, group = np.unique(values, axis=0, return_inverse=True)
    rng = np.random.default_rng(SPLIT_SEED)
    share = rng.random(int(group.max()) + 1)[group.reshape(-1)]
    order = rng.permutation(len(table))
    parts = np.digitize(share[order], [_TRAIN_SHARE, _TRAIN_SHARE + _VALIDATE_SHARE])
    return TelemetryRows(*(table.take(pa.array(order[parts == part])) for part in range(3)))


def telemetry_stream(
    start: datetime,
    rows: int,
    *,
    interval: timedelta = timedelta(milliseconds=10),
    tenants: Sequence[str] = ("acme", "globex"),
) -> pa.Table:
    """The first rows of the stream part with assigned times, dealt to the tenants in turn.

    Returns:
        tenant_id, entity_id, event_time, f1 .. f9, label; `label` is to be held back. No two rows share tenant, entity and
        time.
    """
    stream = load_telemetry().stream
    if not 0 < rows <= len(stream) or start.tzinfo is None:
        raise InvalidInputError(
            f"cannot stream {rows} rows from `{start}`", fix=f"Ask for 1 to {len(stream)}, from an instant in UTC."
        )
    position = np.arange(rows)
    first = round(start.timestamp() * 1_000_000)
    step = max(1, round(interval / timedelta(microseconds=1)))
    names = pa.array(list(tenants))
    columns = {
        "tenant_id": names.take(pa.array(position % len(tenants))),
        "entity_id": pa.array(["shuttle"] * rows),
        "event_time": pa.array(first + position * step, pa.timestamp("us", "UTC")),
    }
    chosen = stream.slice(0, rows)
    return pa.table(columns | {name: chosen[name].combine_chunks() for name in (*FEATURES, "label")})


def telemetry_rows(table: pa.Table) -> LabelledRows:
    """Rows of `TelemetryRows` as arrays."""
    features = np.column_stack([table[name].to_numpy() for name in FEATURES]).astype(np.float32)
    labels = pc.index_in(table["label"], pa.array(CLASSES)).to_numpy().astype(np.int64)
    return LabelledRows(features, labels, CLASSES)
