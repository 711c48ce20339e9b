"""Labelled rows that are sealed with a model version: an Arrow file, named by its hash.

    features  list<float>    in the order of the signature
    label     string         the true class
    expected  list<double>   what the Python source of the model answered, class by class; NULL where nobody said

Written without compression and metadata, so that the same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from core.errors import CorruptDataError, InvalidInputError

MAX_ROWS = 10_000
"""What a check looks at; more rows would make a promotion slow and a metric no truer."""

_SCHEMA = pa.schema([("features", pa.list_(pa.float32())), ("label", pa.string()), ("expected", pa.list_(pa.float64()))])


@dataclass(frozen=True)
class Evaluation:
    """`features` float32[rows, n]; `expected` float64[rows, classes], or None."""

    features: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    expected: npt.NDArray[np.float64] | None = None


def write_evaluation(
    features: npt.NDArray[np.float32], labels: Sequence[str], expected: npt.NDArray[np.floating] | None = None
) -> bytes:
    """The file.

    Args:
        features: float32[rows, n], finite.
        labels: the true classes.
        expected: float[rows, classes], of the Python source.
    """
    if len(features) != len(labels) or not len(labels):
        raise InvalidInputError(f"there are {len(features)} rows and {len(labels)} labels", fix="Give each row its label.")
    columns = [
        pa.array(features[:MAX_ROWS].astype(np.float32).tolist(), _SCHEMA.field(0).type),
        pa.array([str(label) for label in labels[:MAX_ROWS]], pa.string()),
        pa.nulls(len(labels[:MAX_ROWS]), _SCHEMA.field(2).type)
        if expected is None
        else pa.array(expected[:MAX_ROWS].astype(np.float64).tolist(), _SCHEMA.field(2).type),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _SCHEMA) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_evaluation(content: bytes) -> Evaluation:
    """Read the file.

    Raises:
        CorruptDataError: it is not of that form.
    """
    try:
        rows = pa.ipc.open_file(pa.BufferReader(content)).read_all().select(_SCHEMA.names)
        features = np.array(rows["features"].to_pylist(), np.float32)
        expected = None if rows["expected"].null_count else np.array(rows["expected"].to_pylist(), np.float64)
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise CorruptDataError(f"the sealed evaluation rows cannot be read: {error}") from error
    return Evaluation(features, tuple(rows["label"].to_pylist()), expected)
