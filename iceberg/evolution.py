"""Changes a table's columns by field id: add, rename, widen, drop; all in one commit.

A column is a number, and its name only a label of the schema that is current:

    schema 0   1 tenant_id   2 level (int)
    schema 1   1 tenant_id   2 height (int)        rename: files and snapshots of schema 0 read on, as `height` or as `level`
    schema 2   1 tenant_id   2 height (long)       widen
    schema 3   1 tenant_id                         drop: the values stay in old files until they are rewritten
    schema 4   1 tenant_id   3 level (text)        a new column of an old name: none of the old values come back

A writer that still says `level` is understood by the same numbers (`current_names`): after schema 1 its values go into `height`,
after schema 3 nowhere, after schema 4 into the new column, because a present name goes before an old one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, ValidationError
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from core.errors import InvalidInputError, UnavailableError
from iceberg.loading import must_load

Kind = Literal["add", "rename", "widen", "drop"]

_TYPES: Mapping[str, IcebergType] = {
    "boolean": BooleanType(), "bool": BooleanType(), "int": IntegerType(), "integer": IntegerType(), "smallint": IntegerType(),
    "long": LongType(), "bigint": LongType(), "float": FloatType(), "real": FloatType(), "double": DoubleType(),
    "double precision": DoubleType(), "string": StringType(), "varchar": StringType(), "text": StringType(),
    "jsonb": StringType(), "date": DateType(), "time": TimeType(), "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(), "binary": BinaryType(), "bytea": BinaryType(), "uuid": UUIDType(),
}  # fmt: skip
_DECIMAL = re.compile(r"(?:decimal|numeric)\((\d+),\s*(\d+)\)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Step:
    """One change of one column; `becomes` is the new name of a rename."""

    kind: Kind
    column: str
    type: IcebergType | None = None
    becomes: str | None = None

    def __str__(self) -> str:
        if self.kind == "rename":
            return f"rename {self.column} to {self.becomes}"
        return f"{self.kind} {self.column}" + (f" {self.type}" if self.type is not None else "")


@dataclass(frozen=True)
class Evolution:
    """What a table would look like, or looks like: columns with their types, by name."""

    before: Mapping[str, str]
    after: Mapping[str, str]


def parse_steps(
    add: Iterable[str] = (), rename: Iterable[str] = (), widen: Iterable[str] = (), drop: Iterable[str] = ()
) -> list[Step]:
    """Read `NAME:TYPE`, `OLD=NEW`, `NAME:TYPE`, `NAME`; in the order rename, widen, drop, add.

    Raises:
        InvalidInputError: something is malformed, or a type is not known.
    """
    steps = []
    for text in rename:
        old, new = _halves(text, "=", "OLD=NEW")
        steps.append(Step("rename", _name(old), becomes=_name(new)))
    for text in widen:
        name, kind = _halves(text, ":", "NAME:TYPE")
        steps.append(Step("widen", _name(name), parse_type(kind)))
    steps += [Step("drop", _name(text)) for text in drop]
    for text in add:
        name, kind = _halves(text, ":", "NAME:TYPE")
        steps.append(Step("add", _name(name), parse_type(kind)))
    if not steps:
        raise InvalidInputError("no change is given", fix="Give --add, --rename, --widen or --drop.")
    return steps


def parse_type(text: str) -> IcebergType:
    """A type by its Iceberg or SQL name; `TYPE[]` is a list.

    Raises:
        InvalidInputError: there is no such type.
    """
    written = " ".join(text.lower().split())
    if written.endswith("[]"):
        return ListType(element_id=0, element_type=parse_type(written[:-2]), element_required=False)
    if found := _DECIMAL.fullmatch(written):
        precision, scale = int(found[1]), int(found[2])
        if not 0 < precision <= 38 or scale > precision:
            raise InvalidInputError(f"`{text}` is no decimal", fix="Give a precision of 1 to 38 and a scale up to it.")
        return DecimalType(precision, scale)
    if written not in _TYPES:
        raise InvalidInputError(
            f"type `{text}` is not known", fix=f"Use one of {', '.join(_TYPES)}, decimal(P,S), or TYPE[] for a list."
        )
    return _TYPES[written]


def preview(table: Table, steps: Sequence[Step]) -> Evolution:
    """Say what the table would look like; nothing is changed.

    Raises:
        InvalidInputError: a step cannot be made.
    """
    return Evolution(_columns(table.schema()), _columns(_changed(table, steps)._apply()))


def evolve(catalog: Catalog, identifier: str, steps: Sequence[Step]) -> Evolution:
    """Make the steps, in one commit; a writer that was faster is followed.

    Raises:
        NotFoundError: the table does not exist.
        InvalidInputError: a step cannot be made; nothing has changed.
        UnavailableError: writers were faster for half a minute; nothing has changed.
    """
    table = must_load(catalog, identifier)
    before = _columns(table.schema())
    try:
        _commit(table, steps)
    except CommitFailedException as error:
        raise UnavailableError(f"the columns were not changed: {error}", where=identifier) from error
    return Evolution(before, _columns(table.schema()))


def current_names(metadata: TableMetadata, names: Iterable[str]) -> dict[str, str | None]:
    """What each name that a writer uses is called today: None where the column was dropped; a name that never was is left out."""
    schema = metadata.schema()
    today = {field.field_id: field.name for field in schema.fields}
    present = set(today.values())
    result: dict[str, str | None] = {}
    for name in names:
        if name in present:
            result[name] = name
            continue
        for old in sorted(metadata.schemas, key=lambda each: each.schema_id, reverse=True):
            former = next((field.field_id for field in old.fields if field.name == name), None)
            if former is not None:
                result[name] = today.get(former)
                break
    return result


# -- below: called by the above


@retry(
    retry=retry_if_exception_type(CommitFailedException),
    stop=stop_after_delay(30),
    wait=wait_random_exponential(multiplier=0.01, max=0.25),
    reraise=True,
)
def _commit(table: Table, steps: Sequence[Step]) -> None:
    table.refresh()
    _changed(table, steps).commit()
    table.refresh()


def _changed(table: Table, steps: Sequence[Step]) -> UpdateSchema:
    where = ".".join(table.name())
    update = table.update_schema()
    partitioned = {field.source_id: "partitions" for spec in table.specs().values() for field in spec.fields}
    sorted_by = {field.source_id: "sorts" for order in table.sort_orders().values() for field in order.fields}
    for step in steps:
        _refuse_key(table.schema(), step, {**sorted_by, **partitioned}, where)
        try:
            _make(update, table.schema(), step)
        except (ValueError, ValidationError) as error:
            raise InvalidInputError(f"`{step}` cannot be done: {error}", where=where, fix=_fix(step, table.schema())) from error
    return update


def _make(update: UpdateSchema, schema: Schema, step: Step) -> None:
    if step.kind == "add":
        assert step.type is not None, "parsed so"
        update.add_column(step.column, step.type)
    elif step.kind == "rename":
        assert step.becomes is not None, "parsed so"
        if step.becomes in schema.column_names:
            raise ValueError(f"there is a column `{step.becomes}` already")
        update.rename_column(step.column, step.becomes)
    elif step.kind == "widen":
        update.update_column(step.column, field_type=step.type)
    else:
        update.delete_column(step.column)


def _refuse_key(schema: Schema, step: Step, keys: Mapping[int, str], where: str) -> None:
    """Old files are found by the partition's source column for ever, so it cannot go."""
    if step.kind != "drop" or step.column not in schema.column_names:
        return
    use = keys.get(schema.find_field(step.column).field_id)
    if use is not None:
        raise InvalidInputError(
            f"column `{step.column}` {use} the table and cannot be dropped", where=where, fix="Rename it, or write a new table."
        )


def _columns(schema: Schema) -> dict[str, str]:
    return {field.name: str(field.field_type) for field in schema.fields}


def _fix(step: Step, schema: Schema) -> str:
    if step.kind == "widen":
        return "Iceberg widens int to long, float to double, and decimal(P,S) to a greater P."
    return f"The table has {', '.join(schema.column_names)}."


def _halves(text: str, separator: str, form: str) -> tuple[str, str]:
    left, found, right = text.partition(separator)
    if not found or not left.strip() or not right.strip():
        raise InvalidInputError(f"`{text}` is malformed", fix=f"Write {form}.")
    return left.strip(), right.strip()


def _name(text: str) -> str:
    if not _NAME.fullmatch(text.strip()):
        raise InvalidInputError(f"`{text}` is no column name", fix="Use letters, digits and `_`.")
    return text.strip()
