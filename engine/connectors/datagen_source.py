"""`connector = 'datagen'`: a load generator, as RisingWave documents it.

Every column has a generator (`fields.<column>.kind`: `random`, the default, or `sequence`); `datagen.rows.per.second` is the rate
of all splits together. Split s of n makes rows s, s + n, s + 2n ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from engine.connectors.datagen_fields import field_generator
from engine.connectors.generated_source import GeneratedSource
from engine.connectors.options import parse_int
from engine.sql.errors import InvalidParameter
from engine.sql.types import SqlType

_OPTIONS = ("connector", "datagen.rows.per.second", "datagen.split.num")
_DEFAULT_RATE = 10
_PREFIX = "fields."


def build_datagen_source(options: Mapping[str, str], fields: Sequence[tuple[str, SqlType]]) -> GeneratedSource:
    """The reader that the options describe.

    Raises:
        SqlError: an option is unknown or malformed, or a column's type cannot be made.
    """
    given = {name.removeprefix(_PREFIX): value for name, value in options.items() if name.startswith(_PREFIX)}
    used: set[str] = set()
    columns = [(name, field_generator(given, name, type_, used, seed=i)) for i, (name, type_) in enumerate(fields)]
    for name in options:
        if name not in _OPTIONS and not (name.startswith(_PREFIX) and name.removeprefix(_PREFIX) in used):
            raise InvalidParameter(
                f"unknown option `{name}` of connector datagen",
                fix="Options are fields.<column>.<kind, start, end, min, max, seed, length, max_past, max_past_mode, basetime> where"
                " the column's type and kind have them, datagen.rows.per.second and datagen.split.num.",
            )
    splits = parse_int(options, "datagen.split.num", default=1, minimum=1)
    rate = parse_int(options, "datagen.rows.per.second", default=_DEFAULT_RATE, minimum=1)

    def make(split: int, first: int, count: int) -> pa.Table:
        rows = np.arange(first, first + count, dtype=np.int64) * splits + split
        return pa.table({name: generate(rows) for name, generate in columns})

    return GeneratedSource(make, [None] * splits, float(rate))
