"""Asks the stream database what breaks the rules of a view: counts by rule, and rows as examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from core.errors import InvalidInputError, NotFoundError
from features.declaration import FeatureView
from features.validation import COLUMNS, verdicts_view, violations_query, violations_view

type_row = dict[str, Any]
"""A violation: the entity, then the columns of `features.validation`."""


@dataclass(frozen=True)
class RuleResult:
    """One rule that is broken.

    Attributes:
        examples: some of the violations, the latest first.
    """

    feature: str | None
    rule: str
    told: str
    severity: str
    on_failure: str
    violations: int
    examples: Sequence[type_row] = field(default_factory=tuple)


@dataclass(frozen=True)
class Validation:
    """What came of looking at a view.

    Attributes:
        rows: how many rows the view had.
        deployed: whether the violations were read from a view that keeps them, or asked for now.
    """

    view: str
    rows: int
    deployed: bool
    broken: Sequence[RuleResult]

    @property
    def ok(self) -> bool:
        return not any(result.severity == "error" for result in self.broken)


def validate(connection: psycopg.Connection[Any], view: FeatureView, *, examples: int = 3) -> Validation:
    """Look at all rows of a view as they are now.

    Raises:
        InvalidInputError: the view has no rules, or the database refuses one of them (a predicate, as a rule).
        NotFoundError: the database has no such view.
    """
    query = violations_query(view)
    if not _is_there(connection, view.relation):
        raise NotFoundError(f"the stream database has no `{view.relation}`", fix="Apply its pipeline.")
    deployed = _is_there(connection, violations_view(view))
    found = f"SELECT * FROM {violations_view(view)}" if deployed else query
    ((rows,),) = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(view.relation))).fetchall()
    by = "feature, rule, told, severity, on_failure"
    try:
        counted = connection.execute(
            f"SELECT {by}, count(*) FROM ({found}) AS v GROUP BY {by} ORDER BY severity, feature, rule, told".encode()
        ).fetchall()
        names = (*view.entity, *COLUMNS)
        results = []
        for feature, rule, told, severity, on_failure, count in counted:
            shown = connection.execute(
                f"SELECT {', '.join(names)} FROM ({found}) AS v WHERE told = %s AND rule = %s AND feature IS NOT DISTINCT FROM %s"
                f" ORDER BY feature_time DESC LIMIT {int(examples)}".encode(),
                (told, rule, feature),
            ).fetchall()
            rows_shown = tuple(dict(zip(names, row, strict=True)) for row in shown)
            results.append(RuleResult(feature, rule, told, severity, on_failure, count, rows_shown))
    except psycopg.DatabaseError as error:
        raise InvalidInputError(
            f"the stream database refuses the rules of `{view.name}`: {str(error).strip()}",
            where="features.yaml",
            fix="Look at `predicate`, and whether the declared types are the view's.",
        ) from error
    return Validation(view.name, int(rows), deployed, results)


@dataclass(frozen=True)
class Verdict:
    """What is wrong with one row of a view, now.

    Attributes:
        rules: each with its feature, e.g. `range temperature`.
        refused: whether the row is not among the valid ones.
    """

    rules: Sequence[str]
    refused: bool


def verdict_of(
    connection: psycopg.Connection[Any], view: FeatureView, entity: Sequence[object], feature_time: datetime
) -> Verdict | None:
    """The verdict on the row that an entity had at a time, for whoever traces a prediction back to it.

    Returns:
        None where nothing is wrong with it, or the view's rules are not deployed.
    """
    if not _is_there(connection, verdicts_view(view)):
        return None
    where = " AND ".join(f"{key} = %s" for key in (*view.entity, "feature_time"))
    found = connection.execute(
        f"SELECT rules, refused FROM {verdicts_view(view)} WHERE {where}".encode(), (*entity, feature_time)
    ).fetchone()
    return None if found is None else Verdict(tuple(found[0]), bool(found[1]))


def _is_there(connection: psycopg.Connection[Any], relation: str) -> bool:
    found = connection.execute("SELECT 1 FROM rw_catalog.rw_relations WHERE name = %s", (relation,)).fetchone()
    return found is not None
