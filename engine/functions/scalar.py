"""The table of scalar functions and operators: one line an overload, one file a family.

Operators are functions named by their sign. A template is DuckDB SQL; DuckDB and PostgreSQL agree unless the template shows
otherwise, by a function `hr_...` of `engine.functions.native`.
"""

from __future__ import annotations

from engine.functions import (
    arrays,
    binary,
    ciphers,
    formats,
    int256,
    json,
    jsonpath,
    maths,
    numerics,
    operators,
    patterns,
    strings,
    system,
    times,
)
from engine.functions.registry import FunctionTable

_FAMILIES = (
    numerics,
    operators,
    strings,
    patterns,
    maths,
    times,
    formats,
    json,
    jsonpath,
    arrays,
    binary,
    ciphers,
    int256,
    system,
)


def build_scalar_functions() -> FunctionTable:
    table = FunctionTable()
    for family in _FAMILIES:
        family.declare(table)
    return table
