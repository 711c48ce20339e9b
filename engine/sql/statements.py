"""What the parser hands to the engine: one frozen dataclass a statement.

Queries stay sqlglot trees (`exp.Query`), as do expressions; everything around them is ours, because a statement such as
CREATE SOURCE has a meaning here that no general tree carries. Identifiers are already folded as PostgreSQL folds them:
lower case unless quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sqlglot import exp

from engine.sql.types import SqlType


@dataclass(frozen=True)
class ObjectName:
    """A possibly qualified name; `schema` and `database` are None when not written."""

    name: str
    schema: str | None = None
    database: str | None = None
    position: int | None = None

    def __str__(self) -> str:
        return ".".join(part for part in (self.database, self.schema, self.name) if part is not None)


@dataclass(frozen=True)
class ColumnDefinition:
    """One column of CREATE TABLE or CREATE SOURCE; the type of a generated column is `UNKNOWN` when it is not written."""

    name: str
    type: SqlType
    not_null: bool = False
    primary_key: bool = False
    default: exp.Expression | None = None
    generated: exp.Expression | None = None
    position: int | None = None


@dataclass(frozen=True)
class WatermarkDefinition:
    """`WATERMARK FOR column AS expression [WITH TTL]`."""

    column: str
    expression: exp.Expression
    with_ttl: bool = False


@dataclass(frozen=True)
class IncludeColumn:
    """`INCLUDE kind [inner] [AS alias]`, kind in key, timestamp, partition, offset, header, payload."""

    kind: str
    alias: str | None = None
    inner_field: str | None = None
    type: SqlType | None = None


@dataclass(frozen=True)
class Format:
    """`FORMAT plain ENCODE json (options)`, both upper case."""

    format: str
    encode: str
    options: Mapping[str, str] = field(default_factory=dict)
    key_encode: str | None = None


@dataclass(frozen=True)
class Statement:
    """Base of all statements; `text` is the exact source of this one statement, without the final semicolon."""

    text: str


@dataclass(frozen=True)
class QueryStatement(Statement):
    """SELECT, VALUES, WITH ..."""

    query: exp.Query


@dataclass(frozen=True)
class CreateTable(Statement):
    """CREATE TABLE, with or without a connector."""

    name: ObjectName
    columns: tuple[ColumnDefinition, ...]
    primary_key: tuple[str, ...] = ()
    watermark: WatermarkDefinition | None = None
    append_only: bool = False
    on_conflict: Literal["overwrite", "ignore", "do update if not null"] | None = None
    include: tuple[IncludeColumn, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    format: Format | None = None
    if_not_exists: bool = False
    query: exp.Query | None = None
    wildcard: bool = False
    """`*` stands among the columns: all columns of the external schema."""
    version_columns: tuple[str, ...] = ()
    """WITH VERSION COLUMN: an overwrite happens only when these are not smaller."""


@dataclass(frozen=True)
class CreateSource(Statement):
    """CREATE SOURCE; same parts as a table, but its rows are not kept."""

    name: ObjectName
    columns: tuple[ColumnDefinition, ...]
    primary_key: tuple[str, ...] = ()
    watermark: WatermarkDefinition | None = None
    include: tuple[IncludeColumn, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    format: Format | None = None
    if_not_exists: bool = False
    wildcard: bool = False


@dataclass(frozen=True)
class CreateMaterializedView(Statement):
    name: ObjectName
    query: exp.Query
    columns: tuple[str, ...] = ()
    emit_on_window_close: bool = False
    if_not_exists: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CreateView(Statement):
    name: ObjectName
    query: exp.Query
    columns: tuple[str, ...] = ()
    if_not_exists: bool = False
    or_replace: bool = False


@dataclass(frozen=True)
class CreateIndex(Statement):
    name: ObjectName
    table: ObjectName
    columns: tuple[exp.Expression, ...]
    include: tuple[str, ...] = ()
    distributed_by: tuple[str, ...] = ()
    if_not_exists: bool = False


@dataclass(frozen=True)
class CreateSink(Statement):
    """CREATE SINK name FROM relation | AS query, WITH options; or INTO table."""

    name: ObjectName
    source: ObjectName | None = None
    query: exp.Query | None = None
    into: ObjectName | None = None
    into_columns: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    format: Format | None = None
    if_not_exists: bool = False
    emit_on_window_close: bool = False


@dataclass(frozen=True)
class CreateFunction(Statement):
    """CREATE FUNCTION ... AS ident USING LINK 'url', or LANGUAGE sql/python AS body; `RETURN e` has the body `SELECT e`."""

    name: ObjectName
    arguments: tuple[tuple[str | None, SqlType], ...]
    returns: SqlType | None
    returns_table: tuple[tuple[str, SqlType], ...] = ()
    language: str | None = None
    body: str | None = None
    link: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    if_not_exists: bool = False
    aggregate: bool = False


@dataclass(frozen=True)
class CreateSubscription(Statement):
    name: ObjectName
    source: ObjectName
    options: Mapping[str, str] = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True)
class CreateSecret(Statement):
    name: ObjectName
    value: str = field(repr=False)
    options: Mapping[str, str] = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True)
class CreateConnection(Statement):
    """Options that sources and sinks share: `connection = name` among theirs."""

    name: ObjectName
    options: Mapping[str, str] = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True)
class CreateSchema(Statement):
    name: ObjectName
    if_not_exists: bool = False


@dataclass(frozen=True)
class CreateDatabase(Statement):
    name: ObjectName
    if_not_exists: bool = False


DropKind = Literal[
    "table", "source", "materialized view", "view", "index", "sink", "function", "aggregate", "subscription", "schema", "database",
    "user", "connection", "secret", "fragment",
]  # fmt: skip


@dataclass(frozen=True)
class Drop(Statement):
    kind: DropKind
    name: ObjectName
    if_exists: bool = False
    cascade: bool = False
    arguments: tuple[SqlType, ...] | None = None


@dataclass(frozen=True)
class Alter(Statement):
    """ALTER kind name action.

    `action` is one of `rename`, `rename column`, `add column`, `drop column`, `swap`, `set schema`, `owner`, `set`, `set system`,
    `refresh schema`, `connector`, `drop connector`, `format`, `as`, `secret`.
    """

    kind: DropKind
    name: ObjectName
    action: str
    new_name: str | None = None
    column: ColumnDefinition | None = None
    column_name: str | None = None
    other: ObjectName | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    if_exists: bool = False
    if_not_exists: bool = False
    """ADD COLUMN IF NOT EXISTS."""
    column_if_exists: bool = False
    """DROP COLUMN IF EXISTS."""
    cascade: bool = False
    query: exp.Query | None = None
    format: Format | None = None


@dataclass(frozen=True)
class Insert(Statement):
    table: ObjectName
    columns: tuple[str, ...]
    query: exp.Query
    returning: tuple[exp.Expression, ...] = ()


@dataclass(frozen=True)
class Update(Statement):
    table: ObjectName
    assignments: tuple[tuple[str, exp.Expression], ...]
    where: exp.Expression | None = None
    returning: tuple[exp.Expression, ...] = ()


@dataclass(frozen=True)
class Delete(Statement):
    table: ObjectName
    where: exp.Expression | None = None
    returning: tuple[exp.Expression, ...] = ()


@dataclass(frozen=True)
class Flush(Statement):
    pass


@dataclass(frozen=True)
class Wait(Statement):
    pass


@dataclass(frozen=True)
class CancelJobs(Statement):
    """CANCEL JOBS id, ...; the answer lists those that were cancelled."""

    jobs: tuple[int, ...]


@dataclass(frozen=True)
class Kill(Statement):
    """KILL process; the number that SHOW PROCESSLIST tells."""

    process: str


@dataclass(frozen=True)
class Show(Statement):
    """SHOW what [FROM name] [LIKE pattern]; `what` is lower case: `tables`, `columns`, `jobs`, `all`, a setting's name ..."""

    what: str
    name: ObjectName | None = None
    like: str | None = None


@dataclass(frozen=True)
class ShowCreate(Statement):
    kind: DropKind
    name: ObjectName


@dataclass(frozen=True)
class Describe(Statement):
    name: ObjectName


@dataclass(frozen=True)
class Explain(Statement):
    statement: Statement
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SetVariable(Statement):
    """SET name TO value; `value` None means DEFAULT (or RESET)."""

    name: str
    value: str | None
    local: bool = False


@dataclass(frozen=True)
class Transaction(Statement):
    kind: Literal["begin", "commit", "rollback"]
    read_only: bool = False


@dataclass(frozen=True)
class DeclareCursor(Statement):
    """DECLARE name CURSOR FOR query."""

    name: str
    query: exp.Query


@dataclass(frozen=True)
class DeclareSubscriptionCursor(Statement):
    """DECLARE name SUBSCRIPTION CURSOR FOR subscription [FULL | SINCE ...].

    `since` is None (from now), `"full"` (snapshot first), `"begin"`, `"now"`, or unix milliseconds.
    """

    name: str
    subscription: ObjectName
    since: Literal["full", "begin", "now"] | int | None = None


@dataclass(frozen=True)
class Fetch(Statement):
    """FETCH NEXT | count FROM cursor [WITH (timeout = '1s')]; the timeout in seconds."""

    cursor: str
    count: int = 1
    timeout_seconds: float | None = None


@dataclass(frozen=True)
class CloseCursor(Statement):
    """CLOSE name; None means ALL."""

    cursor: str | None


@dataclass(frozen=True)
class Copy(Statement):
    """COPY table [(columns)] FROM STDIN, or COPY table | (query) TO STDOUT."""

    direction: Literal["from", "to"]
    table: ObjectName | None = None
    columns: tuple[str, ...] = ()
    query: exp.Query | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CreateUser(Statement):
    """`rights` are `superuser`, `createdb`, `createuser` and `login`; a password is read over: the server's settings hold those."""

    name: ObjectName
    rights: Mapping[str, bool] = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True)
class AlterUser(Statement):
    """Other rights, or another name."""

    name: ObjectName
    rights: Mapping[str, bool] = field(default_factory=dict)
    new_name: str | None = None


@dataclass(frozen=True)
class Comment(Statement):
    """COMMENT ON TABLE name, or on a column of it; no comment removes the old one."""

    name: ObjectName
    column: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Utility(Statement):
    """Accepted and without effect here: DISCARD, DEALLOCATE, GRANT, REVOKE ..."""

    what: str
