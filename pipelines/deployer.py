"""Applies pipeline folders to a stream database, ours or RisingWave, over the PostgreSQL wire.

```
00_shared ---> endpoints, routes, FLUSH ---> each pipeline's files, in order ---> the views over all pipelines
```

Applying twice changes nothing. A statement whose text changed since it was applied is an error that names it: a view
cannot be altered under those that depend on it, and dropping data is nothing to do in passing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import psycopg
import psycopg.sql

from core.errors import ConflictError, HeadraceError, InvalidInputError, UnavailableError
from core.settings import Settings
from pipelines import ledger
from pipelines.folder import SHARED, Endpoint, Pipeline, Route, SourceGuard, shared
from pipelines.ledger import Entry
from pipelines.statements import SqlStatement, split
from pipelines.template import Rendered, render
from pipelines.unions import UnionView, union_views

logger = logging.getLogger(__name__)

GENERATED = "(generated)"


@dataclass
class Applied:
    """What an application did: names of objects by what became of them, and how many routing rows were inserted."""

    created: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)
    endpoints: int = 0
    routes: int = 0


def variables(settings: Settings) -> dict[str, str]:
    """The values of the placeholders, from the settings."""
    return {
        "KAFKA_BOOTSTRAP": settings.kafka,
        "UDF_URL": settings.udf_url,
        "CATALOG_TYPE": settings.catalog_type,
        "CATALOG_URI": settings.resolved_catalog_uri,
        "WAREHOUSE": settings.resolved_warehouse,
    }


def render_all(pipelines: Sequence[Pipeline], values: Mapping[str, str]) -> list[tuple[Pipeline, list[Rendered]]]:
    """Fill in every file of the shared folder and of `pipelines`, in the order of application."""
    rest = [pipeline for pipeline in pipelines if pipeline.name != SHARED]
    return [(pipeline, [render(path, text, values) for path, text in pipeline.files]) for pipeline in (shared(), *rest)]


def apply(
    database_url: str,
    pipelines: Sequence[Pipeline],
    values: Mapping[str, str],
    *,
    endpoints: Sequence[Endpoint] = (),
    routes: Sequence[Route] = (),
) -> Applied:
    """Apply the shared folder, then `pipelines` in the given order, then the views over all of them.

    Args:
        database_url: where the stream database listens.
        values: of the placeholders, see `variables`.
        endpoints, routes: inserted besides those of the folders' pipeline.yaml; a tenant's endpoint that has rows
            already keeps them, because people and the re-ranker change routes at run time.

    Raises:
        InvalidInputError: a file is wrong, or the database refuses a statement; the place is file:line:column.
        ConflictError: a definition changed, or an object of that name is there that we did not make.
        UnavailableError: the database does not answer.
    """
    plan = [(pipeline, [s for each in files for s in split(each)]) for pipeline, files in render_all(pipelines, values)]
    with _connect(database_url) as connection:
        run = _Run(connection, Applied())
        run.start([(pipeline.name, statement) for pipeline, statements in plan for statement in statements])
        try:
            (shared_folder, shared_statements), *rest = plan
            run.create_all(shared_folder, shared_statements)
            run.insert_routing(
                [*endpoints, *(row for pipeline, _ in plan for row in pipeline.data.endpoints)],
                [*routes, *(row for pipeline, _ in plan for row in pipeline.data.routes)],
            )
            for pipeline, statements in rest:
                run.create_all(pipeline, statements)
            run.rebuild_unions()
        except HeadraceError:
            with contextlib.suppress(psycopg.Error):  # the first error is the one to be told
                run.finish()
            raise
        run.finish()
        return run.applied


@contextlib.contextmanager
def _connect(database_url: str) -> Iterator[psycopg.Connection]:
    try:
        connection = psycopg.connect(database_url, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise UnavailableError(
            "the stream database does not answer",
            where=psycopg.conninfo.make_conninfo(database_url, password=None)
            if "@" not in database_url
            else database_url.rpartition("@")[2],
            fix="Start it with `headrace dev`, or set HEADRACE_DATABASE_URL.",
        ) from error
    with connection:
        try:
            yield connection
        except psycopg.OperationalError as error:
            raise UnavailableError(f"the connection to the stream database was lost: {_first_line(error)}") from error
        except psycopg.Error as error:  # statements of our own, not the user's: those are explained where they are run
            raise HeadraceError(
                f"the stream database refuses a statement of the deployer: {_first_line(error)}", fix=error.diag.message_hint
            ) from error


@dataclass
class _Run:
    connection: psycopg.Connection
    applied: Applied
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    interrupted: frozenset[Entry] = frozenset()
    finished: list[Entry] = field(default_factory=list)
    guards: bool = False

    def start(self, statements: Sequence[tuple[str, SqlStatement]]) -> None:
        """Refuse changed definitions before anything is touched, and write down what is about to be made."""
        ledger.prepare(self.connection)
        self.entries = ledger.read(self.connection)
        self.interrupted = frozenset(entry for entry in self.entries.values() if entry.state == "applying")
        row = self.connection.execute("SELECT version()").fetchone()
        self.guards = row is not None and "headrace" in str(row[0]).lower()
        planned: dict[tuple[str, str], Entry] = {}
        for pipeline, statement in statements:
            if statement.kind is None:
                continue
            key = (statement.name, statement.kind)
            if key in planned:
                raise InvalidInputError(
                    f"`{statement.name}` is created twice",
                    where=statement.place(),
                    fix=f"It is created at {planned[key].place} too.",
                )
            known = self.entries.get(key)
            if known is not None and known.state == "applied" and known.fingerprint != statement.fingerprint:
                raise ConflictError(
                    f"the definition of {statement.kind.lower()} `{statement.name}` has changed since it was applied",
                    where=statement.place(),
                    fix=f"Restore it, give the new one another name, or first run: DROP {statement.kind} {statement.name} CASCADE, "
                    f"and DELETE FROM deployed_objects WHERE name = '{statement.name}'.",
                )
            planned[key] = Entry(statement.name, statement.kind, pipeline, statement.place(), statement.fingerprint)
        # An entry that was never finished is taken up as it stands now: its statement failed, or the run was cut off.
        fresh = {
            key: entry
            for key, entry in planned.items()
            if key not in self.entries or self.entries[key].fingerprint != entry.fingerprint
        }
        ledger.write(self.connection, fresh.values())
        self.entries |= fresh

    def create_all(self, pipeline: Pipeline, statements: Sequence[SqlStatement]) -> None:
        for statement in statements:
            if statement.kind is None:
                self._execute(statement)
                continue
            entry = self.entries[(statement.name, statement.kind)]
            if entry.state == "applied":
                self.applied.unchanged.append(statement.name)
                continue
            with self._guard(pipeline.data.sources.get(statement.name) if statement.kind == "SOURCE" else None):
                self._create(statement, entry)
            self.finished.append(replace(entry, state="applied"))
            self.applied.created.append(statement.name)

    def insert_routing(self, endpoints: Sequence[Endpoint], routes: Sequence[Route]) -> None:
        """Insert what is missing and wait until the views over it have it: a temporal join never looks again."""
        have_endpoints = set(self.connection.execute("SELECT tenant_id, endpoint FROM endpoints").fetchall())
        have_routes = set(self.connection.execute("SELECT DISTINCT tenant_id, endpoint FROM routes").fetchall())
        new_endpoints = [each for each in endpoints if (each.tenant_id, each.endpoint) not in have_endpoints]
        new_routes = [each for each in routes if (each.tenant_id, each.endpoint) not in have_routes]
        if new_routes:
            rows = [(r.tenant_id, r.endpoint, r.model, r.version, r.role, r.weight, r.fraction, r.epoch) for r in new_routes]
            ledger.insert_rows(self.connection, "routes", rows)
        if new_endpoints:
            ledger.insert_rows(self.connection, "endpoints", [(e.tenant_id, e.endpoint, e.strategy) for e in new_endpoints])
        self.connection.execute("FLUSH")
        self.applied.endpoints, self.applied.routes = len(new_endpoints), len(new_routes)

    def rebuild_unions(self) -> None:
        there = [entry.name for entry in self.entries.values() if entry.kind == "MATERIALIZED VIEW"]
        there += [entry.name for entry in self.finished if entry.kind == "MATERIALIZED VIEW"]
        for view in union_views(there):
            fingerprint = hashlib.sha256(view.sql.encode()).hexdigest()[:16]
            entry = Entry(view.name, "MATERIALIZED VIEW", GENERATED, GENERATED, fingerprint, "applied")
            known = self.entries.get((view.name, entry.kind))
            if known is not None and known.fingerprint == fingerprint:
                self.applied.unchanged.append(view.name)
                continue
            self._replace_union(view)
            self.finished.append(entry)
            (self.applied.created if known is None else self.applied.rebuilt).append(view.name)

    def finish(self) -> None:
        ledger.write(self.connection, self.finished)
        logger.info(
            "pipelines applied",
            extra={"created_count": len(self.applied.created), "unchanged_count": len(self.applied.unchanged)},
        )

    # -- below: called by the above

    def _create(self, statement: SqlStatement, entry: Entry) -> None:
        try:
            self._execute(statement)
        except ConflictError:
            if entry not in self.interrupted:
                raise  # somebody else made it; ours would be in the ledger

    def _execute(self, statement: SqlStatement) -> None:
        try:
            self.connection.execute(statement.text.encode())
        except psycopg.Error as error:
            raise _explain(error, statement) from error

    def _replace_union(self, view: UnionView) -> None:
        try:
            if view.subscription_sql is not None:
                self.connection.execute(f"DROP SUBSCRIPTION IF EXISTS {view.subscription}".encode())
            self.connection.execute(f"DROP MATERIALIZED VIEW IF EXISTS {view.name}".encode())
            self.connection.execute(view.sql.encode())
            if view.subscription_sql is not None:
                self.connection.execute(view.subscription_sql.encode())
        except psycopg.Error as error:
            raise ConflictError(
                f"the view `{view.name}` over all pipelines cannot be rebuilt: {_first_line(error)}",
                fix="Drop what you built on it, apply again, and create it anew.",
            ) from error

    @contextlib.contextmanager
    def _guard(self, guard: SourceGuard | None) -> Iterator[None]:
        """Set what the embedded engine checks at a source while it is created; other databases never see it."""
        chosen: dict[str, str] = {}
        if guard is not None and self.guards:
            if guard.max_future_skew is not None:
                chosen["headrace.max_future_skew"] = guard.max_future_skew
            if guard.required:
                chosen["headrace.required_columns"] = ",".join(guard.required)
        for name, value in chosen.items():
            self.connection.execute(f"SET {name} = {psycopg.sql.quote(value)}".encode())
        try:
            yield
        finally:
            for name in chosen:
                self.connection.execute(f"SET {name} = DEFAULT".encode())


def _explain(error: psycopg.Error, statement: SqlStatement) -> HeadraceError:
    position = error.diag.statement_position
    what = f"the stream database refuses {(statement.kind or 'statement').lower()} `{statement.name}`: {_first_line(error)}"
    where = statement.place(int(position) if position else None)
    if isinstance(error, psycopg.OperationalError) and error.diag.sqlstate is None:
        return UnavailableError(f"the connection was lost while creating `{statement.name}`", where=where)
    exists = isinstance(
        error, psycopg.errors.DuplicateTable | psycopg.errors.DuplicateObject | psycopg.errors.DuplicateFunction
    )
    if exists or "already exists" in str(error) or "duplicated" in str(error):
        return ConflictError(what, where=where, fix="It was not made by `headrace pipeline apply`: drop it, or rename yours.")
    return InvalidInputError(what, where=where, fix=error.diag.message_hint)


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip().splitlines()[0]
