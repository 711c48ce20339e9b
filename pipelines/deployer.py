"""Applies pipeline folders to a stream database, ours or RisingWave, over the PostgreSQL wire.

```
finish what was cut off ---> plan ---> add columns ---> 00_shared ---> endpoints, routes, FLUSH
    ---> each pipeline's new objects ---> the views over all pipelines, 99_scores ---> exchange what changed, beside and swapped
```

Applying twice changes nothing. A changed definition is exchanged with all that is built on it, without a name disappearing;
what would lose or repeat data is refused unless it is allowed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from core.errors import ConflictError, HeadraceError, InvalidInputError, UnavailableError
from core.settings import Settings
from pipelines import columns, exchange, ledger, planning, snapshot, sqltext, steps
from pipelines.columns import ColumnChanges
from pipelines.cost import Cost, costs
from pipelines.folder import SCORES, SHARED, Endpoint, Pipeline, PipelineData, Route, scores, shared
from pipelines.ledger import Entry
from pipelines.planning import GENERATED, Allowed, ObjectPlan, Plan
from pipelines.snapshot import Snapshot
from pipelines.statements import SqlStatement, split
from pipelines.template import Rendered, render
from pipelines.unions import union_views

logger = logging.getLogger(__name__)

Statement = tuple[str, SqlStatement]
"""A pipeline's name and one of its statements."""


@dataclass
class Applied:
    """What an application did: names of objects by what became of them, and how many routing rows were inserted.

    Attributes:
        rebuilt: exchanged for new ones that were built beside them.
        altered: got new columns.
        resumed: whether an exchange was finished first that an earlier run had begun.
    """

    created: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    resumed: bool = False
    endpoints: int = 0
    routes: int = 0


@dataclass(frozen=True)
class Preview:
    """What an application would do.

    Attributes:
        columns, costs: by name; see `columns.changes` and `cost.costs`.
        resumes: whether it would finish first what an earlier run began.
    """

    plan: Plan
    columns: dict[str, ColumnChanges]
    costs: dict[str, Cost]
    resumes: bool


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


def preview(
    database_url: str, pipelines: Sequence[Pipeline], values: Mapping[str, str], *, allowed: Allowed | None = None
) -> Preview:
    """Say what `apply` would do; nothing is changed.

    Raises:
        InvalidInputError: a file is wrong.
        UnavailableError: the database does not answer.
    """
    rendered = _split(pipelines, values)
    with connected(database_url) as connection:
        found = snapshot.read(connection)
        journal = exchange.pending(connection, found)
        if journal is not None and not steps.switched(journal, found):
            found = found.without(journal.temporary)
        planned = planning.plan(_with_unions(rendered, found), found, allowed)
        return Preview(planned, columns.changes(connection, planned), costs(planned, found), journal is not None)


def apply(
    database_url: str,
    pipelines: Sequence[Pipeline],
    values: Mapping[str, str],
    *,
    endpoints: Sequence[Endpoint] = (),
    routes: Sequence[Route] = (),
    allowed: Allowed | None = None,
    failpoint: Callable[[str], None] = exchange.nowhere,
) -> Applied:
    """Apply the shared folder, then `pipelines` in the given order, then the views over all of them.

    Args:
        database_url: where the stream database listens.
        values: of the placeholders, see `variables`.
        endpoints, routes: inserted besides those of the folders' pipeline.yaml; a tenant's endpoint that has rows
            already keeps them, because people and the re-ranker change routes at run time.
        allowed: what may be lost or repeated; nothing by default.
        failpoint: see `exchange.run`.

    Raises:
        InvalidInputError: a file is wrong, or the database refuses a statement; the place is file:line:column.
        ConflictError: a change was not allowed, or an object of that name is there that we did not make.
        UnavailableError: the database does not answer.
    """
    rendered = _split(pipelines, values)
    data = [shared().data, *(pipeline.data for pipeline in pipelines if pipeline.name != SHARED)]
    with connected(database_url) as connection:
        run = _Run(connection, Applied(), _guards(data), failpoint)
        run.start(rendered, allowed)
        try:
            run.alter()
            run.create_all([each for each in rendered if each[0] == SHARED])
            run.insert_routing(
                [*endpoints, *(row for each in data for row in each.endpoints)],
                [*routes, *(row for each in data for row in each.routes)],
            )
            run.create_all([each for each in run.statements if each[0] != SHARED])
        except HeadraceError:
            with contextlib.suppress(psycopg.Error):  # the first error is the one to be told
                run.finish()
            raise
        run.finish()
        run.exchange()
        logger.info(
            "pipelines applied",
            extra={"created_count": len(run.applied.created), "unchanged_count": len(run.applied.unchanged)},
        )
        return run.applied


@contextlib.contextmanager
def connected(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to the stream database, each statement on its own.

    Raises:
        UnavailableError: it does not answer.
    """
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


def _split(pipelines: Sequence[Pipeline], values: Mapping[str, str]) -> list[Statement]:
    return [
        (pipeline.name, statement)
        for pipeline, files in render_all(pipelines, values)
        for each in files
        for statement in split(each)
    ]


def _with_unions(statements: Sequence[Statement], found: Snapshot) -> list[Statement]:
    """The statements, behind them those of the views over all pipelines that are or will be there, and the scores over these."""
    kind = "MATERIALIZED VIEW"
    names = {entry.name for entry in found.entries.values() if entry.kind == kind and found.find(entry.name, kind) is not None}
    names |= {statement.name for _, statement in statements if statement.kind == kind}
    generated: list[Statement] = []
    for view in union_views(names):
        generated.append((GENERATED, _generated(view.name, kind, view.sql)))
        if view.subscription_sql is not None:
            generated.append((GENERATED, _generated(view.subscription, "SUBSCRIPTION", view.subscription_sql)))
    behind: list[Statement] = []
    if any(statement.name == "predictions" for _, statement in generated):
        files = [render(path, text, {}) for path, text in scores().files]
        behind = [(SCORES, statement) for file in files for statement in split(file)]
    return [*statements, *generated, *behind]


def _generated(name: str, kind: str, sql: str) -> SqlStatement:
    origin = Rendered(GENERATED, sql, sql)
    return SqlStatement(origin, 0, sql, kind, name, hashlib.sha256(sql.encode()).hexdigest()[:16])


def _guards(data: Sequence[PipelineData]) -> dict[str, dict[str, str]]:
    """What the embedded engine is to check at each source, as settings of the session that creates it."""
    result: dict[str, dict[str, str]] = {}
    for each in data:
        for name, guard in each.sources.items():
            chosen = {"headrace.max_future_skew": guard.max_future_skew} if guard.max_future_skew is not None else {}
            if guard.required:
                chosen["headrace.required_columns"] = ",".join(guard.required)
            result[name] = chosen
    return result


@dataclass
class _Run:
    connection: psycopg.Connection
    applied: Applied
    guards: Mapping[str, Mapping[str, str]]
    failpoint: Callable[[str], None]
    statements: list[Statement] = field(default_factory=list)
    plan: Plan = field(default_factory=lambda: Plan(()))
    found: Snapshot = field(default_factory=Snapshot)
    finished: list[Entry] = field(default_factory=list)

    def start(self, statements: Sequence[Statement], allowed: Allowed | None) -> None:
        """Finish what was cut off, refuse what is not allowed before anything is touched, and note what is to be made."""
        ledger.prepare(self.connection)
        row = self.connection.execute("SELECT version()").fetchone()
        if row is None or "headrace" not in str(row[0]).lower():
            self.guards = {}  # other databases know no such settings
        self._resume(statements, allowed)
        self.found = snapshot.read(self.connection)
        self.statements = _with_unions(statements, self.found)
        self.plan = planning.plan(self.statements, self.found, allowed)
        if self.plan.refused:
            raise _refusal(self.plan)
        # An entry that was never finished is taken up as it stands now: its statement failed, or the run was cut off.
        fresh = [_entry(each) for each in self.plan.objects if each.action == "create" and not self._noted(each)]
        ledger.write(self.connection, fresh)

    def alter(self) -> None:
        """Add columns at the end of tables and sources."""
        for each in self.plan.objects:
            if each.action != "alter":
                continue
            have = {column.name for column in self.found.columns.get(each.old_id, ())}
            for column in each.added:
                if sqltext.columns_and_rest(f"CREATE TABLE t ({column})")[0][0].name not in have:
                    self._execute_plain(f"ALTER {each.kind} {sqltext.quote(each.name)} ADD COLUMN {column}", each)
            self.finished.append(_entry(each, "applied"))
            self.applied.altered.append(each.name)

    def create_all(self, statements: Sequence[Statement]) -> None:
        """Create what is new and reads nothing that is exchanged; that waits for the exchange."""
        plans = {(each.name, each.kind): each for each in self.plan.objects}
        waiting = {(each.name, each.kind) for each in self.plan.rebuilt}
        for _, statement in statements:
            if statement.kind is None:
                self._execute(statement)
                continue
            each = plans[(statement.name, statement.kind)]
            if each.action == "unchanged":
                self.applied.unchanged.append(statement.name)
                known = self.found.entries.get((each.name, each.kind))
                if known is None or known.fingerprint != each.fingerprint or known.sql is None:
                    self.finished.append(_entry(each, "applied"))
            elif each.action == "create" and (each.name, each.kind) not in waiting:
                with exchange.session_settings(
                    self.connection, self.guards.get(each.name, {}) if each.kind == "SOURCE" else {}
                ):
                    self._create(statement, each)
                self.finished.append(_entry(each, "applied"))
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

    def finish(self) -> None:
        """Note in the ledger what was made."""
        ledger.write(self.connection, self.finished)
        self.finished = []

    def exchange(self) -> None:
        """Build what changed beside what runs, and swap."""
        if not self.plan.rebuilt:
            return
        found = snapshot.read(self.connection)
        journal = steps.steps(self.plan, found, self.guards)
        exchange.begin(self.connection, journal)
        rows = {name: each.rows for name, each in costs(self.plan, found).items()}
        exchange.run(self.connection, journal, rows, self.failpoint)
        for each in self.plan.rebuilt:
            (self.applied.rebuilt if each.old_id else self.applied.created).append(each.name)

    # -- below: called by the above

    def _resume(self, statements: Sequence[Statement], allowed: Allowed | None) -> None:
        """Go on with an exchange that was cut off, or take it back if it swapped nothing and the folders ask for another."""
        found = snapshot.read(self.connection)
        journal = exchange.pending(self.connection, found)
        if journal is None:
            return
        if not steps.switched(journal, found):
            before = found.without(journal.temporary)
            planned = planning.plan(_with_unions(statements, before), before, allowed)
            if steps.steps(planned, before, self.guards).steps != journal.steps:
                exchange.take_back(self.connection, journal)
                return
        texts = {(s.name, s.kind): (s.text, s.fingerprint) for _, s in _with_unions(statements, found) if s.kind is not None}
        journal = steps.refreshed(journal, texts)
        exchange.run(self.connection, journal, failpoint=self.failpoint)
        self.applied.resumed = True

    def _create(self, statement: SqlStatement, each: ObjectPlan) -> None:
        try:
            self._execute(statement)
        except ConflictError:
            if not self._noted(each):
                raise  # somebody else made it; ours would be in the ledger, not yet as applied

    def _noted(self, each: ObjectPlan) -> bool:
        """Whether an earlier run was about to make just this."""
        known = self.found.entries.get((each.name, each.kind))
        return known is not None and known.state == "applying" and known.fingerprint == each.fingerprint

    def _execute_plain(self, sql: str, each: ObjectPlan) -> None:
        try:
            self.connection.execute(sql.encode())
        except psycopg.Error as error:
            what = f"the stream database refuses to alter {each.kind.lower()} `{each.name}`: {_first_line(error)}"
            raise InvalidInputError(what, where=each.place, fix=error.diag.message_hint) from error

    def _execute(self, statement: SqlStatement) -> None:
        try:
            self.connection.execute(statement.text.encode())
        except psycopg.Error as error:
            raise _explain(error, statement) from error


def _entry(each: ObjectPlan, state: str = "applying") -> Entry:
    return Entry(each.name, each.kind, each.pipeline, each.place, each.fingerprint, state, each.sql)


def _refusal(plan: Plan) -> ConflictError:
    first, *more = plan.refused
    others = f" (and {len(more)} more: {', '.join(f'`{each.name}`' for each in more)})" if more else ""
    return ConflictError(
        f"{first.kind.lower()} `{first.name}` cannot be changed: {first.reason}{others}",
        where=first.place or None,
        fix="`headrace pipeline plan` shows everything; nothing was changed.",
    )


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
