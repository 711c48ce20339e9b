"""Pages of predictions (and of anomalies, which have the same columns), newest first, now or as of a time.

A page is cut by keyset on `(feature_end, prediction_id)`: the cursor of a row is its key, so a page costs the same
wherever it is and rows that arrive between two pages move nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import sql

from api.database import Reads
from api.live.changes import Row
from api.reading.conditions import Condition, of_tenant, type_value, where
from api.reading.lake import Lake
from core.errors import InvalidInputError
from core.ids import TenantId
from iceberg import history

MAX_PAGE = 500

COLUMNS = (
    "prediction_id", "pipeline", "tenant_id", "endpoint", "entity_id", "feature_start", "feature_end", "features",
    "route_epoch", "label", "score", "members", "error",
)  # fmt: skip
_SELECT = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))


@dataclass(frozen=True)
class PredictionFilter:
    """Which predictions; what is None is not asked for. Equal filters share one channel of the live feed.

    Args:
        since, until: bounds of `feature_end`, the first inclusive, the second exclusive.
    """

    pipeline: str | None = None
    endpoint: str | None = None
    entity_id: str | None = None
    label: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[Condition]:
        wanted: Sequence[tuple[str, Any, type_value | None]] = (  # Any: an operator
            ("pipeline", "=", self.pipeline),
            ("endpoint", "=", self.endpoint),
            ("entity_id", "=", self.entity_id),
            ("label", "=", self.label),
            ("score", ">=", self.min_score),
            ("score", "<=", self.max_score),
            ("feature_end", ">=", self.since),
            ("feature_end", "<", self.until),
        )
        return [Condition(column, operator, value) for column, operator, value in wanted if value is not None]

    def matches(self, row: Row) -> bool:
        """Whether a changed row is wanted; the tenant has been compared before."""
        return all(condition.holds(row) for condition in self.conditions())


class Key(NamedTuple):
    """The place of a prediction in the order."""

    feature_end: datetime
    prediction_id: str

    def encode(self) -> str:
        return base64.urlsafe_b64encode(f"p1|{self.feature_end.isoformat()}|{self.prediction_id}".encode()).decode()

    @staticmethod
    def of(row: Row) -> Key:
        return Key(row["feature_end"], row["prediction_id"])

    @staticmethod
    def parse(cursor: str) -> Key:
        """Read what `encode` wrote.

        Raises:
            InvalidInputError: it is something else.
        """
        try:
            version, feature_end, prediction_id = base64.urlsafe_b64decode(cursor.encode("ascii")).decode().split("|", 2)
            at = datetime.fromisoformat(feature_end)
            if version == "p1" and at.tzinfo is not None:
                return Key(at, prediction_id)
        except (ValueError, binascii.Error):
            pass
        raise InvalidInputError("that is no cursor of a list", fix="Use `endCursor` or the `cursor` of an edge.")


@dataclass(frozen=True)
class Page:
    """Rows in order, and whether there are more."""

    rows: Sequence[Row]
    has_next: bool


class Predictions:
    """Reads one view and its history.

    Args:
        relation: `predictions` or `anomalies`.
        table: the lakehouse table with the same columns, or None where there is none.
    """

    def __init__(self, database: Reads, lake: Lake, relation: str, table: str | None) -> None:
        self._database = database
        self._lake = lake
        self._relation = relation
        self._table = table

    async def page(
        self, tenant: TenantId, wanted: PredictionFilter, *, first: int, after: str | None, as_of: datetime | None
    ) -> Page:
        """The next `first` predictions after a cursor.

        Raises:
            InvalidInputError: `first`, the cursor or `as_of` is out of bounds.
            NotFoundError: history does not reach back to `as_of`.
            UnavailableError: the stream database or the catalog is away.
        """
        if not 1 <= first <= MAX_PAGE:
            raise InvalidInputError(f"`first` is {first}", fix=f"Ask for 1 to {MAX_PAGE} rows; follow `endCursor` for more.")
        key = Key.parse(after) if after is not None else None
        conditions = [of_tenant(tenant), *wanted.conditions()]
        rows = await (self._now(conditions, first + 1, key) if as_of is None else self._then(conditions, first + 1, key, as_of))
        return Page(rows[:first], len(rows) > first)

    async def one(self, tenant: TenantId, prediction_id: str) -> Row | None:
        """The prediction with that id, if the tenant has it."""
        rows = await self._now([of_tenant(tenant), Condition("prediction_id", "=", prediction_id)], 1, None)
        return rows[0] if rows else None

    async def _now(self, conditions: list[Condition], limit: int, after: Key | None) -> Sequence[Row]:
        clause, values = where(conditions)
        if after is not None:
            # Spelled out, because not every engine compares rows of values.
            clause += sql.SQL(" AND (feature_end < %s OR (feature_end = %s AND prediction_id < %s))")
            values += [after.feature_end, after.feature_end, after.prediction_id]
        statement = sql.SQL("SELECT {} FROM {} {} ORDER BY feature_end DESC, prediction_id DESC LIMIT {}").format(
            _SELECT, sql.Identifier(self._relation), clause, sql.Literal(limit)
        )
        return await self._database.fetch(statement, values)

    async def _then(self, conditions: list[Condition], limit: int, after: Key | None, as_of: datetime) -> Sequence[Row]:
        if self._table is None:
            raise InvalidInputError(f"`{self._relation}` keeps no history of its own", fix="Ask `predictions` with `asOf`.")
        if as_of.tzinfo is None:
            raise InvalidInputError("`asOf` has no time zone", fix="Add `Z` or an offset.")
        return await asyncio.to_thread(self._read_history, self._table, conditions, limit, after, as_of)

    def _read_history(
        self, table: str, conditions: list[Condition], limit: int, after: Key | None, as_of: datetime
    ) -> Sequence[Row]:
        found = history.read_as_of(
            self._lake.catalog(),
            table,
            as_of=as_of,
            where=[history.Condition(condition.column, condition.operator, condition.value) for condition in conditions],
            columns=COLUMNS,
            after=after,
            limit=limit,
        )
        rows: list[Mapping[str, Any]] = found.to_pylist()
        return rows
