"""Conditions that mean the same to SQL, to a scan of the lakehouse, and to a row in memory."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import sql

from api.live.changes import Row
from core.ids import TenantId

type_operator = Literal["=", "<", "<=", ">", ">="]
type_value = str | int | float | datetime

_COMPARE: Mapping[type_operator, Callable[[Any, Any], bool]] = {  # Any: both sides have the column's type
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """`column operator value`; a row whose column is NULL does not meet it."""

    column: str
    operator: type_operator
    value: type_value

    def holds(self, row: Row) -> bool:
        cell = row.get(self.column)
        return cell is not None and _COMPARE[self.operator](cell, self.value)

    def to_sql(self) -> sql.Composed:
        """As SQL with one placeholder; the operators are ours and not the caller's."""
        return sql.SQL("{} {} %s").format(sql.Identifier(self.column), sql.SQL(self.operator))


def of_tenant(tenant: TenantId) -> Condition:
    """The row filter of every read: the one place where it is made."""
    return Condition("tenant_id", "=", tenant)


def where(conditions: Sequence[Condition]) -> tuple[sql.Composed, list[type_value]]:
    """A WHERE clause that needs all conditions, and the values of its placeholders."""
    clause = sql.SQL("WHERE ") + sql.SQL(" AND ").join(condition.to_sql() for condition in conditions)
    return clause, [condition.value for condition in conditions]
