"""The page between the PostgreSQL wire and the engine: what a connection may ask, and what comes back.

The wire decodes bytes into Python values and encodes Arrow columns into bytes; it knows types, but no SQL. The engine
knows SQL, but no bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from engine.sql.statements import Statement
from engine.sql.types import SqlType


@dataclass(frozen=True)
class Field:
    """One column of an answer."""

    name: str
    type: SqlType


@dataclass(frozen=True)
class Prepared:
    """A bound statement.

    Attributes:
        statement: what was parsed.
        parameters: the type of `$1`, `$2` ... as given by the client or inferred.
        fields: columns of the answer; None when the statement returns no rows.
        parameter_oids: what the parameters are announced as, where that is not the oid of their type.
        copy_fields: for COPY ... FROM STDIN the columns that the data has, in its order; None for everything else.
    """

    statement: Statement
    parameters: tuple[SqlType, ...] = ()
    fields: tuple[Field, ...] | None = None
    copy_fields: tuple[Field, ...] | None = None
    parameter_oids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Result:
    """The whole answer of one statement; rows are already in memory, no transaction is open behind them.

    Attributes:
        tag: the command tag, e.g. `SELECT 3`, `INSERT 0 1`, `CREATE_TABLE`.
        fields: columns, None when the statement returns no rows.
        rows: one Arrow column a field, physical types as `SqlType.duckdb` has them (timestamptz is a naive UTC timestamp).
        notices: texts for NoticeResponse.
        parameters: changed run-time parameters for ParameterStatus.
        transaction_status: `I` idle, `T` in a transaction, `E` in a failed one, after this statement.
    """

    tag: str
    fields: tuple[Field, ...] | None = None
    rows: pa.Table | None = None
    notices: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    transaction_status: str = "I"


class Session(Protocol):
    """One client connection to the engine. All errors a client may see are `SqlError`."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """Run-time parameters to announce at start-up: server_version, server_encoding, client_encoding, DateStyle ..."""
        ...

    @property
    def idle_in_transaction_seconds(self) -> float | None:
        """How long the client may leave a transaction block open without a word; None for ever."""
        ...

    def parse(self, sql: str) -> Sequence[Statement]:
        """Split a simple query into its statements; an empty query is an empty sequence.

        Positions in errors, also in those of `prepare` and `execute`, count from the start of this text.
        """
        ...

    async def prepare(self, statement: Statement, parameter_types: Sequence[SqlType | None] = ()) -> Prepared:
        """Bind a statement; None asks for the type of that parameter to be inferred."""
        ...

    async def execute(self, prepared: Prepared, values: Sequence[object] = ()) -> Result:
        """Run it with one Python value a parameter (None, bool, int, float, Decimal, str, bytes, date, time, datetime, timedelta, list).

        A timestamptz arrives as a naive datetime in UTC, as it is stored; an interval with months as its text; a struct as a
        dict; jsonb and a parameter of unknown type as str. COPY ... TO STDOUT is executed like a query, its rows are the data.
        """
        ...

    async def copy_in(self, prepared: Prepared, batches: AsyncIterator[pa.Table]) -> Result:
        """Run COPY ... FROM STDIN: append the batches, columns as `prepared.copy_fields`, all of them or, when one raises, none."""
        ...

    def cancel(self) -> None:
        """Interrupt the statement that is running, if any. Called from another task."""
        ...

    async def close(self) -> None:
        """Release cursors and everything else the connection held."""
        ...


class SessionFactory(Protocol):
    """Opens a session, or raises `SqlError` with SQLSTATE 3D000 (no such database) or 28000 (no such user)."""

    async def __call__(self, *, database: str, user: str, options: Mapping[str, str]) -> Session: ...
