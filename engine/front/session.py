"""A client's session on the engine: every statement finds its way from here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pyarrow as pa
from sqlglot import exp

from engine.catalog.objects import Function, Subscription
from engine.front.clients import parameter_oids, rewritten
from engine.front.cursors import QueryCursor, SubscriptionCursor, open_subscription_cursor
from engine.front.explaining import explained
from engine.front.live import live_relations
from engine.front.reading import read_sql
from engine.front.refusals import readable_errors, with_remedy
from engine.front.show import show, show_cursors
from engine.front.variables import REPORTED, Variables
from engine.front.writing import CopyTarget, Write, bind_write, changes_of, copy_target, table_of_query
from engine.runtime import building, ddl
from engine.runtime.accounts import alter_user, create_user
from engine.runtime.alter import alter
from engine.runtime.backfill import Backfill
from engine.runtime.comments import comment
from engine.runtime.engine import Engine
from engine.runtime.reads import Running
from engine.runtime.table_changes import add_generated
from engine.session import Field, Prepared, Result
from engine.sql.binder import BoundQuery, bind_query
from engine.sql.binder.from_clause import with_row_ids
from engine.sql.binder.scope import Environment
from engine.sql.errors import SqlError, UndefinedCursor, UnsupportedQuery
from engine.sql.expressions import Column, Expr, Literal, render
from engine.sql.parser import parse, parse_query
from engine.sql.statements import (
    Alter,
    AlterUser,
    CancelJobs,
    CloseCursor,
    Comment,
    Copy,
    CreateConnection,
    CreateDatabase,
    CreateFunction,
    CreateIndex,
    CreateMaterializedView,
    CreateSchema,
    CreateSecret,
    CreateSink,
    CreateSource,
    CreateSubscription,
    CreateTable,
    CreateUser,
    CreateView,
    DeclareCursor,
    DeclareSubscriptionCursor,
    Delete,
    Describe,
    Drop,
    Explain,
    Fetch,
    Flush,
    Insert,
    Kill,
    ObjectName,
    QueryStatement,
    SetVariable,
    Show,
    ShowCreate,
    Statement,
    Transaction,
    Update,
    Utility,
    Wait,
)
from engine.sql.types import UNKNOWN, VARCHAR, SqlType

T = TypeVar("T")


class EngineSession:
    """See `engine.session.Session`."""

    def __init__(self, engine: Engine, database: str, user: str, options: Mapping[str, str]) -> None:
        self._engine = engine
        self._database = database
        self._user = user
        self._variables = Variables(dict(options))
        self._cursors: dict[str, QueryCursor | SubscriptionCursor] = {}
        self._status = "I"
        self._running: Running | None = None
        self._building: int | None = None
        self._bound: tuple[Statement, Environment, Write | BoundQuery] | None = None

    @property
    def parameters(self) -> Mapping[str, str]:
        return {name: self._variables.get(name) for name in REPORTED}

    @property
    def idle_in_transaction_seconds(self) -> float | None:
        return self._variables.idle_in_transaction_seconds

    def parse(self, sql: str) -> Sequence[Statement]:
        try:
            return parse(rewritten(sql))
        except SqlError as error:
            raise with_remedy(error) from error.__cause__

    async def prepare(self, statement: Statement, parameter_types: Sequence[SqlType | None] = ()) -> Prepared:
        with readable_errors(statement):
            return await self._prepare(statement, parameter_types)

    async def _prepare(self, statement: Statement, parameter_types: Sequence[SqlType | None]) -> Prepared:
        environment = self._environment()
        environment.parameter_types.update(
            {i: t for i, t in enumerate(parameter_types, start=1) if t is not None and t != UNKNOWN}
        )
        fields: tuple[Field, ...] | None = None
        if isinstance(statement, QueryStatement):
            environment = with_row_ids(statement.query, environment)
            bound = bind_query(statement.query, environment)
            fields = _fields(bound, environment)
            if not environment.parameter_types:
                self._bound = (statement, environment, bound)
        elif isinstance(statement, (Insert, Update, Delete)):
            write = bind_write(statement, environment)
            fields = write.returning
            if write.constants is not None:
                self._bound = (statement, environment, write)
        elif isinstance(statement, (Show, Describe, ShowCreate)):
            fields = (await self._show(statement))[0]
        elif isinstance(statement, CancelJobs):
            fields = (Field("Id", VARCHAR),)
        elif isinstance(statement, Explain):
            fields = (Field("QUERY PLAN", VARCHAR),)
        elif isinstance(statement, Copy):
            return self._prepare_copy(statement, environment)
        elif isinstance(statement, Fetch):
            fields = self._must_get_cursor(statement.cursor).fields
        highest = max(environment.parameter_types, default=len(parameter_types))
        types = tuple(environment.parameter_types.get(i, VARCHAR) for i in range(1, max(highest, len(parameter_types)) + 1))
        return Prepared(statement, types, fields, parameter_oids=parameter_oids(statement))

    async def execute(self, prepared: Prepared, values: Sequence[object] = ()) -> Result:
        statement = prepared.statement
        handler = _HANDLERS.get(type(statement))
        if handler is None:
            raise UnsupportedQuery(
                f"`{type(statement).__name__}` is not supported yet", fix="See docs/reference/sql.md for what is."
            )
        environment = self._environment()
        environment.parameters = tuple(values)
        environment.parameter_types.update(enumerate(prepared.parameters, start=1))
        with readable_errors(statement):
            return await handler(self, statement, environment)

    def _prepare_copy(self, statement: Copy, environment: Environment) -> Prepared:
        if statement.direction == "from":
            return Prepared(statement, copy_fields=copy_target(statement, environment).fields)
        return Prepared(statement, fields=_fields(bind_query(_copied_query(statement), environment), environment))

    async def copy_in(self, prepared: Prepared, batches: AsyncIterator[pa.Table]) -> Result:
        assert isinstance(prepared.statement, Copy)
        target = copy_target(prepared.statement, self._environment())
        parts = [batch async for batch in batches]
        count = sum(part.num_rows for part in parts)
        if count:
            rows = await self._complete_rows(target, pa.concat_tables(parts))
            write = Write(target.table, "", "insert")
            await self._hand_over(write, rows)
        return self._done(f"COPY {count}")

    async def _complete_rows(self, target: CopyTarget, rows: pa.Table) -> pa.Table:
        """All visible columns in order; defaults where the data has none, generated columns computed."""
        columns = target.table.columns
        missing = [i for i, c in enumerate(columns) if not c.hidden and i not in target.positions]
        if not missing and target.positions == sorted(target.positions):
            return rows.rename_columns([f"c{i}" for i in range(rows.num_columns)])
        values: dict[int, Expr] = {i: columns[i].default or Literal(columns[i].type, None) for i in missing}
        values |= {position: Column(columns[position].type, i) for i, position in enumerate(target.positions)}
        add_generated(target.table, values)
        visible = [i for i, c in enumerate(columns) if not c.hidden]
        sql = f"SELECT {', '.join(f'{render(values[p])} AS c{i}' for i, p in enumerate(visible))} FROM copied"
        copied = rows.rename_columns([f"c{i}" for i in range(rows.num_columns)])
        return await self._read(sql, {"copied": copied})

    async def _copy_out(self, statement: Copy, environment: Environment) -> Result:
        bound = bind_query(_copied_query(statement), environment)
        rows = await self._read(read_sql(bound.node, environment), environment.tables)
        return Result(f"COPY {rows.num_rows}", _fields(bound, environment), rows, transaction_status=self._status)

    def cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()
        if self._building is not None:
            numbers = (self._building,)
            self._engine.submit(lambda: building.cancel(self._engine, numbers))

    async def close(self) -> None:
        self._cursors.clear()

    # Handlers, by statement; the table is at the end.

    async def _query(self, statement: QueryStatement, environment: Environment) -> Result:
        environment = with_row_ids(statement.query, environment)
        bound = self._take_bound(statement, environment)
        if not isinstance(bound, BoundQuery):
            bound = bind_query(statement.query, environment)
        rows = await self._read(read_sql(bound.node, environment), environment.tables)
        return Result(f"SELECT {rows.num_rows}", _fields(bound, environment), rows, transaction_status=self._status)

    async def _write(self, statement: Insert | Update | Delete, environment: Environment) -> Result:
        write = self._take_bound(statement, environment)
        if not isinstance(write, Write):
            write = bind_write(statement, environment)
        if write.kind != "insert":
            # What this session wrote before must be seen by UPDATE and DELETE.
            await self._flush_if_pending(write.table.id)
        constants = write.constants
        rows, answer = write.split(constants if constants is not None else await self._read(write.select, environment.tables))
        if rows.num_rows:
            await self._hand_over(write, rows)
        tag = f"INSERT 0 {rows.num_rows}" if write.kind == "insert" else f"{write.kind.upper()} {rows.num_rows}"
        return Result(tag, write.returning, answer, transaction_status=self._status)

    def _take_bound(self, statement: Statement, environment: Environment) -> Write | BoundQuery | None:
        """What a statement without parameters was bound to when it was prepared, if nothing has changed since."""
        bound, self._bound = self._bound, None
        if bound is None or bound[0] is not statement:
            return None
        before, now = bound[1], environment
        same = before.catalog.objects is now.catalog.objects and before.catalog.path == now.catalog.path
        return bound[2] if same and before.database == now.database and before.settings == now.settings else None

    async def _hand_over(self, write: Write, rows: pa.Table) -> None:
        self._engine.write(write.table.id, changes_of(write, rows, self._engine.take_row_ids))
        if self._variables.implicit_flush:
            await self._wait(self._engine.flush())

    async def _flush_if_pending(self, table: int) -> None:
        if self._engine.tables[table].pending:
            await self._wait(self._engine.flush())

    async def _create(self, statement: Any, environment: Environment) -> Result:
        settings = self._variables.source_settings
        path = self._variables.search_path
        if statement.if_not_exists and self._exists(statement, environment):
            return self._done(_create_tag(statement), (f'relation "{statement.name.name}" already exists, skipping',))
        if isinstance(statement, CreateTable) and statement.query is not None:
            return await self._create_table_as(statement, statement.query, environment)
        if isinstance(statement, CreateView) and statement.or_replace:
            raise UnsupportedQuery("CREATE OR REPLACE VIEW is not supported yet", fix="Drop the view first.")
        background = self._variables.get("background_ddl") == "true"
        made = await self._on_writer(
            lambda: ddl.create(self._engine, statement, self._database, settings, path, background=background), flush=True
        )
        if isinstance(made, Backfill) and not background:
            await self._built(made)
        return self._done(_create_tag(statement))

    async def _built(self, backfill: Backfill) -> None:
        """Wait for a view that is built in parts; cancelling the statement, or its client's end, ends the job."""
        self._building = backfill.object.id
        try:
            await asyncio.shield(asyncio.wrap_future(backfill.future))
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._building = None

    async def _create_table_as(self, statement: CreateTable, query: exp.Query, environment: Environment) -> Result:
        """Create the table with the query's columns, then insert its rows."""
        created = table_of_query(statement, bind_query(query, environment))
        path = self._variables.search_path
        await self._on_writer(lambda: ddl.create(self._engine, created, self._database, {}, path), flush=True)
        result = await self._write(Insert("", statement.name, (), query), self._environment())
        await self._wait(self._engine.flush())
        return self._done(_create_tag(statement), (result.tag,))

    def _exists(self, statement: Any, environment: Environment) -> bool:
        catalog = environment.catalog
        if isinstance(statement, CreateFunction):
            types = [t for _, t in statement.arguments]
            found: list[Function] = catalog.find_functions(statement.name.name, self._database)
            return any([t for _, t in f.arguments] == types for f in found)
        database, schema = catalog.place(statement.name, self._database)
        if isinstance(statement, (CreateSecret, CreateConnection)):
            kind = "secret" if isinstance(statement, CreateSecret) else "connection"
            return catalog.find_own(kind, ObjectName(statement.name.name, schema, database), self._database) is not None
        return catalog.find(ObjectName(statement.name.name, schema, database), self._database) is not None

    async def _create_schema(self, statement: CreateSchema, environment: Environment) -> Result:
        del environment
        database = statement.name.schema or self._database
        if database not in self._engine.catalog.databases:
            raise SqlError(f"database `{database}` does not exist", position=statement.name.position, sqlstate="3D000")
        await self._on_writer(lambda: ddl.create_schema(self._engine, database, statement.name.name, statement.if_not_exists))
        return self._done("CREATE_SCHEMA")

    async def _create_database(self, statement: CreateDatabase, environment: Environment) -> Result:
        del environment
        await self._on_writer(lambda: ddl.create_database(self._engine, statement.name.name, statement.if_not_exists))
        return self._done("CREATE_DATABASE")

    async def _create_user(self, statement: CreateUser, environment: Environment) -> Result:
        del environment
        made = await self._on_writer(lambda: create_user(self._engine, statement))
        return self._done("CREATE_USER", () if made else (f'user "{statement.name.name}" already exists, skipping',))

    async def _alter_user(self, statement: AlterUser, environment: Environment) -> Result:
        del environment
        await self._on_writer(lambda: alter_user(self._engine, statement))
        return self._done("UPDATE_USER")

    async def _comment(self, statement: Comment, environment: Environment) -> Result:
        del environment
        path = self._variables.search_path
        await self._on_writer(lambda: comment(self._engine, statement, self._database, path))
        return self._done("COMMENT")

    async def _drop(self, statement: Drop, environment: Environment) -> Result:
        del environment
        tag = "DROP_" + statement.kind.upper().replace(" ", "_")
        name = statement.name.name
        if statement.kind == "schema":
            database = statement.name.schema or self._database
            if database not in self._engine.catalog.databases:
                raise SqlError(f"database `{database}` does not exist", position=statement.name.position, sqlstate="3D000")
            done = await self._on_writer(
                lambda: ddl.drop_schema(self._engine, database, name, statement.if_exists, statement.cascade), flush=True
            )
        elif statement.kind == "database":
            done = await self._on_writer(
                lambda: ddl.drop_database(self._engine, name, statement.if_exists, self._database), flush=True
            )
        else:
            path = self._variables.search_path
            done = await self._on_writer(lambda: ddl.drop(self._engine, statement, self._database, path), flush=True)
        return self._done(tag, () if done else (f'{statement.kind} "{name}" does not exist, skipping',))

    async def _flush(self, statement: Flush | Wait, environment: Environment) -> Result:
        del environment
        await self._wait(self._engine.flush())
        if isinstance(statement, Flush):
            return self._done("FLUSH")
        futures = [backfill.future for backfill in list(self._engine.backfills.values())]
        await asyncio.gather(*(asyncio.wrap_future(future) for future in futures), return_exceptions=True)
        return self._done("WAIT")

    async def _cancel_jobs(self, statement: CancelJobs, environment: Environment) -> Result:
        del environment
        gone = await self._on_writer(lambda: building.cancel(self._engine, statement.jobs))
        rows = pa.table([pa.array([str(number) for number in gone], pa.string())], names=["c0"])
        return Result("CANCEL_COMMAND", (Field("Id", VARCHAR),), rows, transaction_status=self._status)

    async def _show_rows(self, statement: Show | Describe | ShowCreate, environment: Environment) -> Result:
        del environment
        fields, rows = await self._show(statement)
        columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(fields))]
        table = pa.table(columns, names=[f"c{i}" for i in range(len(fields))])
        tag = "DESCRIBE" if isinstance(statement, Describe) else "SHOW"
        return Result(tag, fields, table, transaction_status=self._status)

    async def _show(self, statement: Show | Describe | ShowCreate) -> tuple[tuple[Field, ...], list[tuple[str | None, ...]]]:
        if isinstance(statement, Show) and statement.what in ("cursors", "subscription cursors"):
            return show_cursors(statement.what, self._cursors, self._user, self._database)
        return show(statement, self._engine, self._environment(), self._variables)

    async def _explain(self, statement: Explain, environment: Environment) -> Result:
        lines = explained(statement.statement, environment)
        table = pa.table([pa.array(lines, pa.string())], names=["c0"])
        return Result("EXPLAIN", (Field("QUERY PLAN", VARCHAR),), table, transaction_status=self._status)

    async def _set(self, statement: SetVariable, environment: Environment) -> Result:
        if statement.name == "database" and statement.value is not None:
            name = statement.value.strip("'\"")
            if name not in environment.catalog.databases:
                raise SqlError(f"database `{name}` does not exist", sqlstate="3D000", fix="SHOW DATABASES lists them.")
            self._database = name
            return Result("SET_VARIABLE", transaction_status=self._status)
        changed = self._variables.set(statement.name, statement.value)
        return Result("SET_VARIABLE", parameters=changed, transaction_status=self._status)

    async def _transaction(self, statement: Transaction, environment: Environment) -> Result:
        """As in RisingWave, each statement takes effect by itself; the block only exists for clients that open one."""
        del environment
        self._status = "T" if statement.kind == "begin" else "I"
        return self._done(statement.kind.upper())

    async def _declare(self, statement: DeclareCursor, environment: Environment) -> Result:
        bound = bind_query(statement.query, environment)
        rows = await self._read(read_sql(bound.node, environment), environment.tables)
        self._add_cursor(statement.name, QueryCursor(_fields(bound, environment), rows))
        return self._done("DECLARE_CURSOR")

    async def _declare_subscription(self, statement: DeclareSubscriptionCursor, environment: Environment) -> Result:
        found = environment.catalog.must_find(statement.subscription, self._database, ("subscription",))
        assert isinstance(found, Subscription)
        cursor = await open_subscription_cursor(self._engine, environment.catalog, found, statement)
        self._add_cursor(statement.name, cursor)
        return self._done("DECLARE_CURSOR")

    def _add_cursor(self, name: str, cursor: QueryCursor | SubscriptionCursor) -> None:
        if name in self._cursors:
            raise SqlError(f"cursor `{name}` already exists", sqlstate="42P03", fix=f"CLOSE {name} first.")
        self._cursors[name] = cursor

    async def _fetch(self, statement: Fetch, environment: Environment) -> Result:
        del environment
        cursor = self._must_get_cursor(statement.cursor)
        if isinstance(cursor, SubscriptionCursor) and cursor.subscription.id not in self._engine.catalog.objects:
            raise UndefinedCursor(f"the subscription of cursor `{statement.cursor}` was dropped", fix="Declare a new cursor.")
        rows = await cursor.fetch(statement.count, statement.timeout_seconds)
        return Result("FETCH_CURSOR", cursor.fields, rows, transaction_status=self._status)

    def _must_get_cursor(self, name: str) -> QueryCursor | SubscriptionCursor:
        cursor = self._cursors.get(name)
        if cursor is None:
            raise UndefinedCursor(f"cursor `{name}` does not exist", fix="DECLARE it first; a cursor ends with its session.")
        return cursor

    async def _close_cursor(self, statement: CloseCursor, environment: Environment) -> Result:
        del environment
        if statement.cursor is None:
            self._cursors.clear()
        else:
            self._must_get_cursor(statement.cursor)
            del self._cursors[statement.cursor]
        return self._done("CLOSE_CURSOR")

    async def _alter(self, statement: Alter, environment: Environment) -> Result:
        del environment
        path = self._variables.search_path
        done = await self._on_writer(lambda: alter(self._engine, statement, self._database, path), flush=True)
        notices = () if done else (f"nothing to alter in `{statement.name}`, skipping",)
        return self._done("ALTER_" + statement.kind.upper().replace(" ", "_"), notices)

    async def _kill(self, statement: Kill, environment: Environment) -> Result:
        del environment
        raise SqlError(
            f"process `{statement.process}` does not exist", sqlstate="42704", fix="SHOW PROCESSLIST lists them; cancel queries by the driver."
        )  # fmt: skip

    async def _utility(self, statement: Utility, environment: Environment) -> Result:
        del environment
        return self._done(statement.what.upper().replace(" ", "_"))

    # Helpers

    def _environment(self) -> Environment:
        path = self._variables.search_path
        constants = {
            "current_database": self._database,
            "current_catalog": self._database,
            "current_schema": path[0] if path else "public",
            "current_user": self._user,
            "session_user": self._user,
            "user": self._user,
        }
        return Environment(
            self._engine.catalog.seen_from(path),
            self._database,
            constants=constants,
            settings=dict(self._variables.all()),
            live=live_relations(self._engine),
        )

    async def _read(self, sql: str, tables: Mapping[str, pa.Table] | None = None) -> pa.Table:
        self._running = Running(self._variables.statement_timeout_seconds)
        try:
            return await asyncio.wrap_future(self._engine.reads.submit(sql, self._running, tables))
        finally:
            self._running = None

    async def _on_writer(self, command: Callable[[], T], *, flush: bool = False) -> T:
        """Run DDL between epochs; with `flush`, after what was written before."""
        if flush and any(table.pending for table in self._engine.tables.values()):
            await self._wait(self._engine.flush())
        return await self._wait(self._engine.submit(command))

    async def _wait(self, future: Future[T]) -> T:
        return await asyncio.wrap_future(future)

    def _done(self, tag: str, notices: tuple[str, ...] = ()) -> Result:
        return Result(tag, notices=notices, transaction_status=self._status)


def _fields(bound: BoundQuery, environment: Environment) -> tuple[Field, ...]:
    return tuple(Field(c.name, c.type.in_zone(environment.zone)) for c in bound.columns)


def _copied_query(statement: Copy) -> exp.Expr:
    if statement.query is not None:
        return statement.query
    columns = ", ".join(f'"{name}"' for name in statement.columns) or "*"
    table = statement.table
    assert table is not None
    return parse_query(
        f"SELECT {columns} FROM " + ".".join(f'"{part}"' for part in (table.database, table.schema, table.name) if part)
    )


def _create_tag(statement: Statement) -> str:
    """`CREATE_MATERIALIZED_VIEW` from the class's name, as RisingWave tags it."""
    name = type(statement).__name__
    if isinstance(statement, CreateFunction) and statement.aggregate:
        name = "CreateAggregate"
    return "".join("_" + c if c.isupper() and i else c for i, c in enumerate(name)).upper()


_Handler = Callable[[EngineSession, Any, Environment], Awaitable[Result]]
_HANDLERS: dict[type[Statement], _Handler] = {
    QueryStatement: EngineSession._query,
    Insert: EngineSession._write,
    Update: EngineSession._write,
    Delete: EngineSession._write,
    **dict.fromkeys(
        (
            CreateTable,
            CreateSource,
            CreateMaterializedView,
            CreateView,
            CreateSink,
            CreateSubscription,
            CreateFunction,
            CreateIndex,
            CreateSecret,
            CreateConnection,
        ),
        EngineSession._create,
    ),
    CreateSchema: EngineSession._create_schema,
    CreateDatabase: EngineSession._create_database,
    CreateUser: EngineSession._create_user,
    AlterUser: EngineSession._alter_user,
    Comment: EngineSession._comment,
    Drop: EngineSession._drop,
    Alter: EngineSession._alter,
    Copy: EngineSession._copy_out,
    Flush: EngineSession._flush,
    Wait: EngineSession._flush,
    CancelJobs: EngineSession._cancel_jobs,
    Kill: EngineSession._kill,
    Show: EngineSession._show_rows,
    ShowCreate: EngineSession._show_rows,
    Describe: EngineSession._show_rows,
    Explain: EngineSession._explain,
    SetVariable: EngineSession._set,
    Transaction: EngineSession._transaction,
    DeclareCursor: EngineSession._declare,
    DeclareSubscriptionCursor: EngineSession._declare_subscription,
    Fetch: EngineSession._fetch,
    CloseCursor: EngineSession._close_cursor,
    Utility: EngineSession._utility,
}


class EngineSessions:
    """See `engine.session.SessionFactory`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, *, database: str, user: str, options: Mapping[str, str]) -> EngineSession:
        if database not in self._engine.catalog.databases:
            known = ", ".join(f"`{name}`" for name in sorted(self._engine.catalog.databases))
            raise SqlError(f"database `{database}` does not exist", sqlstate="3D000", fix=f"Known: {known}.")
        return EngineSession(self._engine, database, user, options)
