"""Brings Arrow rows into a table's schema, by column name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform

from core.errors import InvalidInputError
from iceberg.evolution import current_names

logger = logging.getLogger(__name__)

_TOLD: set[tuple[UUID, str]] = set()
"""Dropped columns that were told once; each delivery would tell them again."""


def conform(table: Table, rows: pa.Table, constants: Mapping[str, Any]) -> pa.Table:
    """Return the rows with exactly the table's columns, types and order.

    A column that the rows lack is filled from `constants`, else with NULL. Types are cast where nothing is lost; a timestamp
    without time zone is taken as UTC. Rows come out in the table's sort order.

    Args:
        table: its current schema counts.
        rows: any column order. A column of a former name goes where it is called otherwise today, or nowhere if it was dropped
            (`iceberg.evolution`); columns of names that the table never had are refused.
        constants: for columns that the rows lack, one value for all rows or a chunked array of the column's type; those that
            the table lacks are ignored.

    Raises:
        InvalidInputError: a column is unknown, cannot be cast, or is NULL or missing where the table requires a value.
    """
    schema = table.schema()
    where = ".".join(table.name())
    target = schema_to_pyarrow(schema, include_field_ids=False)
    rows = _in_present_names(table, rows, where)
    unknown = [name for name in rows.column_names if name not in target.names]
    if unknown:
        raise InvalidInputError(
            f"columns `{', '.join(unknown)}` are not in the table",
            where=where,
            fix=f"The table has {', '.join(target.names)}. Rename them in the sink's query, or add them to the table.",
        )
    columns = [_column(field, rows, constants, where) for field in target]
    conformed = pa.Table.from_arrays(columns, schema=target)
    order = sort_indices(table, conformed)
    return conformed if order is None else conformed.take(order)


def _in_present_names(table: Table, rows: pa.Table, where: str) -> pa.Table:
    """Rows of a writer that knows an older schema, in the names of the present one."""
    today = current_names(table.metadata, rows.column_names)
    if all(today.get(name, name) == name for name in rows.column_names):
        return rows
    kept = [name for name in rows.column_names if today.get(name, name) is not None]
    names = [today.get(name) or name for name in kept]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(
            f"columns `{', '.join(twice)}` come twice: by their present name and by a former one",
            where=where,
            fix="Take the former name out of the sink's query.",
        )
    for name in rows.column_names:
        if name not in kept and (told := (table.metadata.table_uuid, name)) not in _TOLD:
            _TOLD.add(told)
            logger.warning("column was dropped from the table, its values are left out", extra={"table": where, "column": name})
    return rows.select(kept).rename_columns(names)


def _column(field: pa.Field, rows: pa.Table, constants: Mapping[str, Any], where: str) -> pa.ChunkedArray | pa.Array:
    if field.name in rows.column_names:
        column = rows.column(field.name)
        try:
            column = column if column.type == field.type else column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidInputError(
                f"column `{field.name}` of type `{column.type}` does not fit the table's `{field.type}`: {error}",
                where=where,
                fix="Cast it in the sink's query, or change the table's column.",
            ) from error
    else:
        value = constants.get(field.name)
        column = value if isinstance(value, pa.ChunkedArray) else pa.repeat(pa.scalar(value, field.type), rows.num_rows)
    if not field.nullable and column.null_count:
        raise InvalidInputError(
            f"column `{field.name}` is NULL in {column.null_count} rows", where=where, fix="It is required."
        )
    return column


def sort_indices(table: Table, rows: pa.Table) -> pa.Array | None:
    """The order of the rows, which have the table's columns, in the table's sort order; None where it asks for none."""
    schema = table.schema()
    order = [
        (schema.find_column_name(field.source_id), "descending" if field.direction.name == "DESC" else "ascending")
        for field in table.sort_order().fields
        if isinstance(field.transform, IdentityTransform)
    ]
    return pc.sort_indices(rows, sort_keys=order) if order and rows.num_rows > 1 else None
