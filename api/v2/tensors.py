"""Tensors of the V2 protocol and NumPy arrays.

Source: Open Inference Protocol, "HTTP/REST" and "Binary tensor data extension".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InvalidInputError

Array = npt.NDArray[Any]  # Any: of the tensor's element type

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Numeric types; BYTES stands for texts and cannot be a feature."""

_NAMES = {dtype.name: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Output:
    """A named result: a numeric array, or texts (`values` is then of objects)."""

    name: str
    values: Array

    @property
    def datatype(self) -> str:
        return datatype_of(self.values.dtype.name)


def datatype_of(dtype: str) -> str:
    """NumPy's name of a type in the protocol's words."""
    return _NAMES.get(dtype, "BYTES")


def from_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> Array:  # Any: JSON, nested or flat
    """A tensor from the numbers of a JSON array, or of a repeated field.

    Raises:
        InvalidInputError: type, shape or values do not fit together.
    """
    dtype = _dtype(name, datatype)
    size = _size(name, shape)
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise ValueError("it holds what is no number")
        if array.dtype != np.bool_ and array.size and dtype.kind in "iu" and not np.array_equal(array, array.astype(dtype)):
            raise ValueError(f"a value does not fit into {datatype}")
        if array.size != size:
            raise ValueError(f"it has {array.size} values, its shape {list(shape)} means {size}")
        return array.astype(dtype).reshape(tuple(shape))
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(f"tensor `{name}` cannot be read: {error}") from error


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Array:
    """A tensor from its little-endian, row-major bytes; raises as `from_values`."""
    dtype = _dtype(name, datatype)
    size = _size(name, shape)
    if len(raw) != size * dtype.itemsize:
        raise InvalidInputError(
            f"tensor `{name}` has {len(raw)} bytes, its shape {list(shape)} of {datatype} means {size * dtype.itemsize}"
        )
    return np.frombuffer(raw, dtype).reshape(tuple(shape))


def to_bytes(output: Output) -> bytes:
    """The bytes of a result: numbers little-endian, texts each behind its length in four bytes."""
    if output.datatype != "BYTES":
        return np.ascontiguousarray(output.values, output.values.dtype.newbyteorder("<")).tobytes()
    encoded = [str(text).encode() for text in output.values.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise InvalidInputError(f"tensor `{name}` has datatype `{datatype}`", fix=f"Send one of {', '.join(DTYPES)}.")
    return dtype


def _size(name: str, shape: Sequence[int]) -> int:
    if not all(isinstance(extent, int) and not isinstance(extent, bool) and 0 <= extent < 2**31 for extent in shape):
        raise InvalidInputError(f"tensor `{name}` has shape `{list(shape)}`", fix="Give its extents as whole numbers.")
    return math.prod(shape)
