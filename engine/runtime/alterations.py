"""Columns that were added, dropped and renamed after a table or source was created.

They are stored beside the CREATE statement and applied again when the object is built. A column keeps its physical position
for ever: a new one goes behind all others, a dropped one stays as a hidden column without values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from engine.catalog.catalog import Catalog
from engine.catalog.objects import ColumnInfo, Input
from engine.catalog.text import definition
from engine.sql.binder.expression import ExpressionBinder
from engine.sql.binder.scope import Environment, Scope
from engine.sql.errors import DuplicateObject, UnsupportedQuery
from engine.sql.expressions import Column, walk
from engine.sql.parser import parse
from engine.sql.statements import Alter

FACT = "alterations"


@dataclass(frozen=True)
class Alteration:
    """One step; `text` is the definition of a new column, or the new name."""

    kind: Literal["add", "drop", "rename"]
    position: int
    text: str = ""


def read_alterations(facts: Mapping[str, str]) -> list[Alteration]:
    return [Alteration(*item) for item in json.loads(facts.get(FACT, "[]"))]


def with_alteration(facts: Mapping[str, str], alteration: Alteration) -> dict[str, str]:
    """The facts with one step more."""
    steps = [*read_alterations(facts), alteration]
    return {**facts, FACT: json.dumps([[step.kind, step.position, step.text] for step in steps])}


def altered(relation: Input, facts: Mapping[str, str], catalog: Catalog) -> Input:
    """The relation after all steps."""
    steps = read_alterations(facts)
    for step in steps:
        relation = apply(relation, step, catalog)
    return replace(relation, sql=definition(relation)) if steps else relation


def apply(relation: Input, step: Alteration, catalog: Catalog) -> Input:
    """The relation after one step.

    Raises:
        SqlError: the step is not possible.
    """
    columns = list(relation.columns)
    if step.kind == "add":
        columns.append(_new_column(relation, step.text, catalog))
    elif step.kind == "drop":
        _check_droppable(relation, step.position)
        columns[step.position] = ColumnInfo(f"_dropped_{step.position}", columns[step.position].type, hidden=True)
    else:
        _check_free(relation, step.text)
        columns[step.position] = replace(columns[step.position], name=step.text)
    return replace(relation, columns=tuple(columns))


def _new_column(relation: Input, text: str, catalog: Catalog) -> ColumnInfo:
    (statement,) = parse(f"ALTER TABLE t ADD COLUMN {text}")
    assert isinstance(statement, Alter)
    assert statement.column is not None
    column = statement.column
    _check_free(relation, column.name)
    if column.generated is not None or column.primary_key:
        what = "a generated column" if column.generated is not None else "a primary key"
        raise UnsupportedQuery(f"{what} cannot be added to a table that exists", fix="Build a new table and SWAP WITH it.")
    default = None
    if column.default is not None:
        binder = ExpressionBinder(Environment(catalog, relation.database), Scope(), "DEFAULT")
        default = binder.assign(binder.bind(column.default), column.type, column.name, None)
    if column.not_null and default is None:
        raise UnsupportedQuery(
            f"column `{column.name}` is NOT NULL and the table may have rows", fix="Give it a DEFAULT, or leave NOT NULL out."
        )
    return ColumnInfo(column.name, column.type, column.not_null, default=default)


def _check_free(relation: Input, name: str) -> None:
    if any(c.name == name for c in relation.columns):
        raise DuplicateObject(
            f"column `{name}` of relation `{relation.name}` already exists", sqlstate="42701", fix="Choose another name."
        )


def _check_droppable(relation: Input, position: int) -> None:
    name = relation.columns[position].name
    users = [
        c.name
        for c in relation.columns
        if c.generated is not None and any(isinstance(e, Column) and e.index == position for e in walk(c.generated))
    ]
    reason = None
    if position in relation.key:
        reason = "it is part of the primary key"
    elif position in relation.watermarked or position in relation.version:
        reason = "the watermark or version of the table is made of it"
    elif users:
        reason = f"generated column `{users[0]}` is computed from it"
    elif any(p == position for _, p in relation.include):
        reason = "it is an INCLUDE column"
    elif len(relation.visible) == 1:
        reason = "it is the only one"
    if reason is not None:
        raise UnsupportedQuery(f"column `{name}` cannot be dropped: {reason}", fix="Build a new table and SWAP WITH it.")
