"""What `datagen` puts into each column: sequences and random values, a pure function of the row's number.

Source: RisingWave documentation, "Datagen connector" (kinds, options and their defaults).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.connectors.arrow_types import physical_type
from engine.connectors.options import parse_choice, parse_duration, parse_int
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.intervals import parse_interval
from engine.sql.types import SqlType

Int64s = NDArray[np.int64]
Generate = Callable[[Int64s], pa.Array]
"""The column's values for rows with these numbers."""

_ALPHABET = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", np.uint8)
_INTEGERS = {"int2": np.iinfo(np.int16), "int4": np.iinfo(np.int32), "int8": np.iinfo(np.int64)}
_FLOATS = ("float4", "float8", "numeric")
_END = 32767
_LENGTH = 10
_ARRAY_LENGTH = 3
_MAX_PAST_US = 86_400_000_000


def field_generator(options: Mapping[str, str], name: str, type_: SqlType, used: set[str], seed: int = 0) -> Generate:
    """The generator of one column.

    Args:
        options: `fields.<column>.<parameter>` without `fields.`.
        name: the column, or the path of a nested field (`a._`, `s.x`).
        used: gets the names of the options that were read.
        seed: of columns that name none.

    Raises:
        SqlError: an option has no meaning for the type, or a wrong value.
    """
    own = {key[len(name) + 1 :]: value for key, value in options.items() if key.startswith(name + ".")}
    if type_.name == "struct":
        return _struct(options, name, type_, used, seed)
    if type_.name == "list":
        return _list(options, own, name, type_, used, seed)
    kind = parse_choice(own, "kind", ("random", "sequence"), default="random")
    used.add(f"{name}.kind")
    if kind == "sequence":
        used.update((f"{name}.start", f"{name}.end"))
        return _sequence(own, name, type_)
    used.add(f"{name}.seed")
    seed = parse_int(own, "seed", default=seed)
    if type_.name in _INTEGERS or type_.name in _FLOATS:
        used.update((f"{name}.min", f"{name}.max"))
        return _random_number(own, name, type_, seed)
    if type_.name == "varchar":
        used.add(f"{name}.length")
        return _random_text(parse_int(own, "length", default=_LENGTH, minimum=1), seed)
    if type_.name in ("timestamp", "timestamptz"):
        used.update((f"{name}.max_past", f"{name}.max_past_mode", f"{name}.basetime"))
        return _random_past(own, name, seed)
    if type_.name == "bool":
        return lambda rows: pa.array(_hash(rows, seed) >> np.uint64(63) == 1)
    raise UnsupportedQuery(f"datagen cannot make a column of type {type_.sql}", fix="Compute it in a view.")


def _struct(options: Mapping[str, str], name: str, type_: SqlType, used: set[str], seed: int) -> Generate:
    parts = [
        (field, field_generator(options, f"{name}.{field}", inner, used, seed * 31 + i + 1))
        for i, (field, inner) in enumerate(type_.fields)
    ]
    return lambda rows: pa.StructArray.from_arrays([part(rows) for _, part in parts], [field for field, _ in parts])


def _list(options: Mapping[str, str], own: Mapping[str, str], name: str, type_: SqlType, used: set[str], seed: int) -> Generate:
    assert type_.element is not None
    length = parse_int(own, "length", default=_ARRAY_LENGTH, minimum=0)
    used.add(f"{name}.length")
    element = field_generator(options, f"{name}._", type_.element, used, seed)

    def generate(rows: Int64s) -> pa.Array:
        numbers = (rows[:, None] * length + np.arange(length)).reshape(-1)
        offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * length)
        return pa.ListArray.from_arrays(offsets, element(numbers))

    return generate


def _sequence(own: Mapping[str, str], name: str, type_: SqlType) -> Generate:
    if type_.name not in _INTEGERS and type_.name not in _FLOATS:
        raise InvalidParameter(f"`fields.{name}.kind` cannot be sequence for type {type_.sql}", fix="Use random.")
    start, end = _number(own, "start", name, 0), _number(own, "end", name, _END)
    if end < start:
        raise InvalidParameter(f"`fields.{name}.end` is before its start", fix="Give a greater end.")
    target = physical_type(type_)
    whole = type_.name in _INTEGERS

    def generate(rows: Int64s) -> pa.Array:
        values: Any = rows + int(start) if whole else rows + float(start)
        return pa.array(values, mask=values > end).cast(target)  # behind the end there is NULL, as there

    return generate


def _random_number(own: Mapping[str, str], name: str, type_: SqlType, seed: int) -> Generate:
    target = physical_type(type_)
    if type_.name in _INTEGERS:
        low, high = int(_number(own, "min", name, 0)), int(_number(own, "max", name, _END))
    else:
        low, high = _number(own, "min", name, 0.0), _number(own, "max", name, float(_END))  # type: ignore[assignment]
    if high < low:
        raise InvalidParameter(f"`fields.{name}.max` is less than its min", fix="Give a greater maximum.")
    if type_.name in _INTEGERS:
        span = np.uint64(high - low + 1) if high - low + 1 < 2**64 else np.uint64(2**64 - 1)

        def generate(rows: Int64s) -> pa.Array:
            with np.errstate(over="ignore"):
                return pa.array((_hash(rows, seed) % span).astype(np.int64) + np.int64(low)).cast(target)
    else:

        def generate(rows: Int64s) -> pa.Array:
            floats = _hash(rows, seed) / 2.0**64 * (high - low) + low
            return pa.array(np.round(floats, 6) if type_.name == "numeric" else floats).cast(target, safe=False)

    return generate


def _random_text(length: int, seed: int) -> Generate:
    def generate(rows: Int64s) -> pa.Array:
        places = _hash((rows[:, None] * length + np.arange(length)).reshape(-1), seed) % np.uint64(len(_ALPHABET))
        letters = _ALPHABET[places.astype(np.int64)]
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * length
        return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets.tobytes()), pa.py_buffer(letters.tobytes()))

    return generate


def _random_past(own: Mapping[str, str], name: str, seed: int) -> Generate:
    """Before `basetime`, or before the source was built (`absolute`) or the row was made (`relative`)."""
    relative = parse_choice(own, "max_past_mode", ("absolute", "relative"), default="absolute") == "relative"
    span = _max_past_us(own, name)
    try:
        base = datetime.fromisoformat(own["basetime"]) if "basetime" in own else None
    except ValueError as error:
        raise InvalidParameter(
            f"`fields.{name}.basetime` cannot be `{own['basetime']}`", fix="Give a time such as 2023-04-01T16:39:00-08:00."
        ) from error
    if base is not None and base.tzinfo is None:
        base = base.replace(tzinfo=UTC)
    built_us = int((base or datetime.now(UTC)).timestamp() * 1_000_000)

    def generate(rows: Int64s) -> pa.Array:
        latest = int(datetime.now(UTC).timestamp() * 1_000_000) if relative and base is None else built_us
        past = (_hash(rows, seed) % np.uint64(max(span, 1))).astype(np.int64)
        return pa.array((latest - past) // 1000 * 1000).cast(pa.timestamp("us"))

    return generate


def _max_past_us(own: Mapping[str, str], name: str) -> int:
    if "max_past" not in own:
        return _MAX_PAST_US
    try:
        return int(parse_duration(own, "max_past", default=None).total_seconds() * 1e6)  # type: ignore[arg-type]
    except InvalidParameter:
        fixed = parse_interval(own["max_past"]).fixed_us
        if fixed is None:
            raise InvalidParameter(
                f"`fields.{name}.max_past` must have a fixed length", fix="Give it in days or less."
            ) from None
        return int(fixed)


def _number(own: Mapping[str, str], option: str, name: str, default: float) -> float:
    text = own.get(option)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError as error:
        raise InvalidParameter(f"`fields.{name}.{option}` cannot be `{text}`", fix="Give a number.") from error


def _hash(rows: Int64s, seed: int) -> NDArray[np.uint64]:
    """SplitMix64. Source: Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014."""
    with np.errstate(over="ignore"):
        z = rows.astype(np.uint64) + np.uint64((seed * 0x632BE59BD9B4E019 + 0x9E3779B97F4A7C15) % 2**64)
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
