"""How a system relation is declared: name, columns, and the rows made from what the catalog and the session know.

Source: PostgreSQL documentation, chapters 37 and 54; RisingWave documentation, "System catalogs".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from engine.catalog.catalog import Catalog
from engine.catalog.objects import CatalogObject
from engine.sql.types import BOOL, FLOAT8, INT2, INT4, INT8, JSONB, TIMESTAMPTZ, VARCHAR, SqlType, list_of

Row = tuple[object, ...]
LiveRows = Callable[[], "Iterable[Row] | str"]
"""Rows, or a DuckDB SELECT with columns c0, c1 ... that gives them."""

TYPES: Mapping[str, SqlType] = {
    "bool": BOOL, "int2": INT2, "int4": INT4, "int8": INT8, "float8": FLOAT8, "text": VARCHAR, "jsonb": JSONB, "time": TIMESTAMPTZ,
    "int2[]": list_of(INT2), "text[]": list_of(VARCHAR), "int4[]": list_of(INT4),
}  # fmt: skip
"""Words of the declarations below."""

OWNER_ID = 1
DATABASE_ID = 1


@dataclass(frozen=True)
class View:
    """What rows are made from.

    Attributes:
        catalog, database: of the statement.
        user: of the session.
        settings: run-time parameters, name to value.
        live: rows that only the running engine knows, by relation name.
    """

    catalog: Catalog
    database: str
    user: str = "root"
    settings: Mapping[str, str] = field(default_factory=dict)
    live: Mapping[str, LiveRows] = field(default_factory=dict)

    def objects(self, *kinds: str) -> Iterator[CatalogObject]:
        """Objects of the database, oldest first."""
        found = (o for o in self.catalog.in_database(self.database) if not kinds or o.kind in kinds)
        return iter(sorted(found, key=lambda o: o.id))


Rows = Callable[[View], Iterable[Row]]


@dataclass(frozen=True)
class Declared:
    """A system relation.

    Attributes:
        schema, name: where it is found.
        columns: `name type, name type ...` with the words of `TYPES`.
        rows: makes them; None where the engine gives them while it runs.
    """

    schema: str
    name: str
    columns: str
    rows: Rows | None = None

    @property
    def fields(self) -> tuple[tuple[str, SqlType], ...]:
        pairs = (part.split() for part in self.columns.split(",") if part.strip())
        return tuple((name, TYPES[type_]) for name, type_ in pairs)


def nothing(_view: View) -> Iterable[Row]:
    """A relation that PostgreSQL has and that is always empty here."""
    return ()
