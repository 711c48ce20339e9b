"""INSERT of constants: rows that need no query to be computed."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from engine.connectors.arrow_types import physical_type
from engine.plan.algebra import Node, Values
from engine.sql.expressions import Column, Expr, Literal

_PYTHON: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int2": (int,), "int4": (int,), "int8": (int,), "float8": (float, int), "varchar": (str,),
}  # fmt: skip
"""Types whose constants are in Arrow what DuckDB would make of them; the others are left to DuckDB."""


def constant_rows(node: Node, values: Sequence[Expr]) -> pa.Table | None:
    """The rows of VALUES as c0 .., or None if DuckDB must compute them.

    Args:
        node: what is inserted.
        values: for each column to be written its expression over the node's columns.
    """
    if not isinstance(node, Values):
        return None
    arrays = []
    for value in values:
        cells = [row[value.index] for row in node.rows] if isinstance(value, Column) else [value] * len(node.rows)
        array = _array(value, cells)
        if array is None:
            return None
        arrays.append(array)
    return pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])


def _array(column: Expr, cells: Sequence[Expr]) -> pa.Array | None:
    plain = _PYTHON.get(column.type.name, ())
    constants = []
    for cell in cells:
        if not isinstance(cell, Literal) or cell.type != column.type:
            return None
        constant = cell.value
        if constant is not None and (type(constant) not in plain or (isinstance(constant, str) and "\0" in constant)):
            return None
        constants.append(constant)
    try:
        return pa.array(constants, physical_type(column.type))
    except (pa.ArrowException, OverflowError, ValueError):
        return None  # out of range, or no text: DuckDB says what is wrong
