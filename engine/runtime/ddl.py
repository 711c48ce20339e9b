"""DDL: what creates, drops and recovers objects. All of it runs on the writer thread, between epochs, in one transaction each.

A statement is stored as its text and a few facts; opening a folder builds every object again from them, oldest first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from core.errors import UnavailableError
from engine.catalog.catalog import OWN_NAMES, QUARANTINE_ID, Catalog
from engine.catalog.objects import CatalogObject, Function, Input, Pins, Sink
from engine.connectors.lake_access import with_lake_access
from engine.connectors.registry import build_sink, build_source
from engine.operators.base import StateTable
from engine.runtime.accounts import drop_user, recover_users
from engine.runtime.backfill import Backfill
from engine.runtime.builder import Built, Place, build
from engine.runtime.comments import recover_comments
from engine.runtime.delivery import Delivery
from engine.runtime.engine import Engine
from engine.runtime.epoch import Epoch
from engine.runtime.inputs import ConnectorInput, TableInput, source_fields
from engine.runtime.jobs import Job
from engine.sql.errors import DependentObjects, DuplicateObject, SqlError
from engine.sql.parser import parse, parse_query
from engine.sql.statements import (
    CreateConnection,
    CreateFunction,
    CreateSecret,
    CreateSource,
    CreateTable,
    Drop,
    ObjectName,
    Statement,
)
from engine.sql.types import SqlType

logger = logging.getLogger(__name__)

_REPLAY_SECONDS = 600.0
_REPLAY_ROWS = 100_000


@dataclass(frozen=True)
class _Attached:
    """What the runtime starts for a new object."""

    job: Job | None = None
    table: TableInput | None = None
    connector: ConnectorInput | None = None
    delivery: Delivery | None = None


def create(
    engine: Engine,
    statement: Statement,
    database: str,
    settings: Mapping[str, str],
    path: tuple[str, ...] = ("public",),
    *,
    background: bool = False,
) -> CatalogObject | Backfill:
    """Run a CREATE statement of an object. Call it through `Engine.submit`.

    Args:
        settings: the session's own settings for a source (`max_future_skew_us`, `required_columns`).
        path: the session's search path.
        background: a view that is built in parts goes on being built after a restart.

    Returns:
        the object, or what builds it in parts in the coming epochs.

    Raises:
        SqlError: refused; nothing has changed.
    """
    from engine.runtime import building

    name: ObjectName = statement.name  # type: ignore[attr-defined]  # every CREATE of an object has one
    catalog = engine.catalog.seen_from(path)
    target, schema = catalog.place(name, database)
    if isinstance(statement, CreateFunction):
        _check_function_free(statement, catalog, target, schema)
    else:
        kinds = {CreateSecret: "secret", CreateConnection: "connection"}
        catalog.check_free(name, database, kinds.get(type(statement), ""))
    place = Place(catalog.next_id(), target, schema, name.name)
    building.must_be_free(engine, place, name.position)
    facts = dict(settings) if isinstance(statement, (CreateTable, CreateSource)) else {}
    built = pin(build(statement, place, catalog, facts), catalog)
    if isinstance(built.object, Function):
        engine.udfs.check_allowed(built.object, name.position)
    attached = _attach(engine, built)
    if isinstance(statement, CreateFunction) and statement.link is not None:
        _check_function(engine, built)
    parts = building.plan(engine, attached.job)
    if parts is not None and attached.job is not None:
        return building.begin(engine, built, attached.job, parts, background=background)
    _commit_new(engine, built, attached)
    logger.info("object created", extra={"kind": built.object.kind, "object": name.name, "id": place.id})
    return built.object


def _check_function_free(statement: CreateFunction, catalog: Catalog, database: str, schema: str) -> None:
    types = [t for _, t in statement.arguments]
    for found in catalog.find_functions(statement.name.name, database, schema):
        if [t for _, t in found.arguments] == types:
            raise DuplicateObject(
                f"function `{found.name}` already exists with these argument types", position=statement.name.position, sqlstate="42723",
                fix="Give the new version a name of its own, for example a suffix.",
            )  # fmt: skip


def _check_function(engine: Engine, built: Built) -> None:
    """Compare the signature with the server's; a server that is away is told, not an error."""
    function = built.object
    assert isinstance(function, Function)
    assert function.link is not None
    try:
        engine.udfs.client(function.link).check(function.symbol, [t for _, t in function.arguments], function.returns)
    except UnavailableError as error:
        logger.warning(
            "function created, its server does not answer yet", extra={"function": function.name, "error": str(error)}
        )


def _attach(engine: Engine, built: Built) -> _Attached:
    """Make the runtime parts of an object; nothing is started or stored yet."""
    created = built.object
    job = Job(created, built.root) if built.root is not None else None
    if isinstance(created, Function):
        engine.udfs.register(created, engine.store.writer)
    if isinstance(created, Input):
        if created.has_connector:
            reader = build_source(created.options, created.format, source_fields(created))
            return _Attached(connector=ConnectorInput(created, reader, built.watermark))
        return _Attached(table=TableInput(created, engine.take_row_ids, built.watermark))
    if isinstance(created, Sink) and job is not None and not created.into:
        fields = sink_fields(created, job, engine.catalog.pinned(created.pins))
        key = [fields[p][0] for p in job.root.key if p < len(fields)] if all(p < len(fields) for p in job.root.key) else []
        options = {name: value for name, value in created.options.items() if name != "snapshot"}
        writer = build_sink(UUID(created.uuid), with_lake_access(options, engine.settings), created.format, fields, key)
        return _Attached(
            job=job, delivery=Delivery(created, [name for name, _ in fields], writer, engine.store.cursor, engine.failpoint)
        )
    return _Attached(job=job)


def sink_fields(sink: Sink, job: Job, catalog: Catalog) -> list[tuple[str, SqlType]]:
    """Names and types of what a sink sends."""
    if sink.relation:
        return [(c.name, c.type) for c in catalog.relation(sink.relation).visible]
    from engine.sql.binder import bind_query
    from engine.sql.binder.scope import Environment
    from engine.sql.statements import CreateSink

    (statement,) = parse(sink.sql)
    assert isinstance(statement, CreateSink)
    query = statement.query
    if query is None:  # FROM a view, which is read as the query that it is
        assert statement.source is not None
        query = parse_query(f"SELECT * FROM {statement.source}")
    names = [c.name for c in bind_query(query, Environment(catalog, sink.database)).columns]
    return list(zip(names, job.root.types, strict=False))


def pin(built: Built, catalog: Catalog) -> Built:
    """Note in the object what its names meant, so that it is built the same after a restart."""
    pins = catalog.take_pins(built.object.depends_on)
    return replace(built, object=replace(built.object, pins=pins))


def write_facts(facts: Mapping[str, str], pins: Pins) -> str:
    """What is stored of an object beside its SQL text."""
    shapes = {str(i): [list(column) for column in shape] for i, shape in pins.columns.items()}
    return json.dumps({**facts, "pins": {"names": dict(pins.names), "columns": shapes, "path": list(pins.path)}})


def read_facts(text: str) -> tuple[dict[str, str], Pins]:
    """The facts that `build` asks for, and the pins."""
    facts = json.loads(text)
    stored = facts.pop("pins", {})
    columns = {int(i): tuple((p, name) for p, name in shape) for i, shape in stored.get("columns", {}).items()}
    return facts, Pins(stored.get("names", {}), columns, tuple(stored.get("path", ())))


def _commit_new(engine: Engine, built: Built, attached: _Attached) -> None:
    """Store the object, fill it from what exists, and make it part of the running graph, all or nothing."""
    connection = engine.store.writer
    created = built.object
    epoch = engine.new_epoch()
    epochs = [epoch]
    connection.execute("BEGIN")
    try:
        for sql in _ddl(created, attached):
            connection.execute(sql)
        connection.execute(
            "INSERT INTO hr.catalog VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                created.id,
                created.kind,
                created.database,
                created.schema,
                created.name,
                created.sql,
                write_facts(built.facts, built.object.pins),
            ],
        )
        if attached.job is not None:
            attached.job.rehearse(epoch)
            attached.job.initialize(epoch)
            epoch.run_deferred()
            if not (isinstance(created, Sink) and created.from_now):
                attached.job.backfill(epoch, engine.stored_relations())
                epoch.run_deferred()
                _feed(engine, created, epoch)
                epochs += _replay_sources(engine, attached.job, epoch)
        engine.store_number(epoch)
        engine.failpoint("ddl: before commit")
        connection.execute("COMMIT")
        engine.failpoint("ddl: after commit")
    except BaseException:
        engine.store.rollback()
        if isinstance(created, Sink) and created.into in engine.tables:
            engine.tables[created.into].rolled_back()
        raise
    finally:
        for used in epochs:
            used.release()
    if isinstance(created, Sink) and created.into:
        engine.tables[created.into].committed()
    engine.catalog = engine.catalog.with_objects([created])
    _activate(engine, created, attached)
    engine.epoch = epoch.number
    engine.note_watermarks(epoch)
    for delivery in engine.deliveries.values():
        delivery.notify()


def _feed(engine: Engine, created: CatalogObject, epoch: Epoch) -> None:
    """Rows that a new sink found there already go into its table, and on to what is built on that."""
    if isinstance(created, Sink) and created.into:
        epoch.forget_deltas()
        engine.tables[created.into].step(epoch)
        engine.run_steps(epoch)
        epoch.run_deferred()


def _ddl(created: CatalogObject, attached: _Attached) -> list[str]:
    if attached.job is not None:
        return attached.job.ddl()
    if isinstance(created, Input) and created.kind == "table":
        return [StateTable(created.physical, tuple(c.type for c in created.columns)).ddl]
    return []


def _replay_sources(engine: Engine, job: Job, first: Epoch) -> list[Epoch]:
    """Read again what the job's sources have given to others already, so that it joins them at the same offsets."""
    used: list[Epoch] = []
    for relation in sorted(job.reads):
        shared = engine.connectors.get(relation)
        if shared is None or shared.relation.kind == "table" or not shared.positions:
            continue
        replay = shared.again()
        replay.start(engine.store.writer, engine.wake)
        deadline = engine.clock.monotonic_seconds() + _REPLAY_SECONDS
        try:
            while not replay.caught_up:
                if engine.clock.monotonic_seconds() > deadline:
                    raise SqlError(
                        "reading the source from its start took too long",
                        sqlstate="57014",
                        fix="Try again when the broker answers faster.",
                    )
                if not replay.poll(_REPLAY_ROWS):
                    engine.wait_for_wake(0.05)
                    continue
                epoch = Epoch(engine.store.writer, first.number, first.now_ms, engine.udfs.call)
                used.append(epoch)
                replay.step(epoch)
                job.run(epoch)
                epoch.run_deferred()
                _feed(engine, job.object, epoch)
                replay.committed()
        finally:
            replay.close()
    return used


def _activate(engine: Engine, created: CatalogObject, attached: _Attached) -> None:
    if attached.table is not None:
        attached.table.load(engine.store.writer)
        engine.tables[created.id] = attached.table
    if attached.connector is not None:
        engine.connectors[created.id] = attached.connector
        if created.kind == "table":
            attached.connector.start(engine.store.writer, engine.wake)
    if attached.job is not None:
        engine.jobs[created.id] = attached.job
        # A source is read once somebody needs it.
        for relation in attached.job.reads:
            source = engine.connectors.get(relation)
            if source is not None and not source.started:
                source.start(engine.store.writer, engine.wake)
    if attached.delivery is not None:
        engine.deliveries[created.id] = attached.delivery
        attached.delivery.start()


def recover(engine: Engine) -> None:
    """Build everything again that the folder holds."""
    connection = engine.store.writer
    catalog = Catalog()
    for database, schema in connection.execute("SELECT name, schema FROM hr.databases").fetchall():
        if database not in catalog.databases:
            catalog = catalog.with_database(database)
        catalog = catalog.with_schema(database, schema)
    engine.catalog = catalog
    rows = connection.execute("SELECT id, database, schema, name, sql, facts FROM hr.catalog ORDER BY id").fetchall()
    for object_id, database, schema, name, sql, facts in rows:
        (statement,) = parse(sql)
        settings, pins = read_facts(facts)
        built = build(statement, Place(object_id, database, schema, name), engine.catalog.pinned(pins, object_id), settings)
        built = replace(built, object=replace(built.object, pins=pins))
        attached = _attach(engine, built)
        engine.catalog = engine.catalog.with_objects([built.object])
        _activate(engine, built.object, attached)
    from engine.runtime import building

    building.recover(engine)
    recover_users(engine)
    recover_comments(engine)


def drop(engine: Engine, statement: Drop, database: str, path: tuple[str, ...] = ("public",)) -> bool:
    """Run DROP; False if there was nothing and IF EXISTS was said. Call it through `Engine.submit`."""
    from engine.runtime import building

    if statement.kind == "user":
        return drop_user(engine, statement.name, if_exists=statement.if_exists)

    found = _find_to_drop(engine.catalog.seen_from(path), statement, database)
    if found is None:
        return False
    dependents = engine.catalog.dependents_closure(found.id)
    if dependents and not statement.cascade:
        names = ", ".join(f"{o.kind} `{o.name}`" for o in dependents[::-1])
        raise DependentObjects(
            f"cannot drop {found.kind} `{found.name}` because other objects depend on it: {names}",
            position=statement.name.position,
            fix="Drop them first, or write DROP ... CASCADE.",
        )
    if not statement.cascade:
        building.must_not_be_read(engine, [found], statement.name.position)
    remove(engine, [*dependents, found])
    return True


def remove(engine: Engine, objects: list[CatalogObject]) -> None:
    """Drop objects, dependents first, in one transaction."""
    from engine.runtime import building

    building.cancel_dependents(engine, objects)
    statements: list[str] = []
    for gone in objects:
        job = engine.jobs.get(gone.id)
        if job is not None:
            statements += job.drop_ddl()
        if isinstance(gone, Input):
            if gone.kind == "table":
                statements.append(f"DROP TABLE {gone.physical}")
            statements += [f"DELETE FROM hr.{table} WHERE relation = {gone.id}" for table in ("positions", "late")]
        statements.append(f"DELETE FROM hr.catalog WHERE id = {gone.id}")
        statements.append(f"DELETE FROM hr.comments WHERE object = {gone.id}")
    for gone in objects:
        delivery = engine.deliveries.pop(gone.id, None)
        if delivery is not None:
            delivery.stop(10.0)
    connection = engine.store.writer
    connection.execute("BEGIN")
    try:
        for sql in statements:
            connection.execute(sql)
        engine.failpoint("ddl: before commit")
        connection.execute("COMMIT")
        engine.failpoint("ddl: after commit")
    except BaseException:
        engine.store.rollback()
        raise
    engine.catalog = engine.catalog.without(o.id for o in objects)
    for gone in objects:
        engine.jobs.pop(gone.id, None)
        engine.watermarks.pop(gone.id, None)
        engine.tables.pop(gone.id, None)
        source = engine.connectors.pop(gone.id, None)
        if source is not None:
            source.close()
        logger.info("object dropped", extra={"kind": gone.kind, "object": gone.name, "id": gone.id})


def _find_to_drop(catalog: Catalog, statement: Drop, database: str) -> CatalogObject | None:
    name = statement.name
    if statement.kind in ("function", "aggregate"):
        functions = catalog.find_functions(name.name, database, name.schema)
        if statement.arguments is not None:
            wanted = list(statement.arguments)
            functions = [f for f in functions if [t for _, t in f.arguments] == wanted]
        if not functions and statement.if_exists:
            return None
        if len(functions) != 1:
            what = "is not unique" if functions else "does not exist"
            raise SqlError(f"function `{name.name}` {what}", position=name.position, sqlstate="42725" if functions else "42883")
        return functions[0]
    found = catalog.find_own(statement.kind, name, database) if statement.kind in OWN_NAMES else catalog.find(name, database)
    if statement.if_exists and found is None:
        return None
    return catalog.must_find(name, database, (statement.kind,))


def create_schema(engine: Engine, database: str, schema: str, if_not_exists: bool) -> None:
    if schema in engine.catalog.databases[database]:
        if if_not_exists:
            return
        raise DuplicateObject(f"schema `{schema}` already exists", sqlstate="42P06")
    if schema.startswith("pg_"):
        raise SqlError(
            f"unacceptable schema name `{schema}`",
            sqlstate="42939",
            fix="Names that begin with `pg_` are reserved for system schemas.",
        )
    engine.store.writer.execute("INSERT INTO hr.databases VALUES (?, ?)", [database, schema])
    engine.catalog = engine.catalog.with_schema(database, schema)


def create_database(engine: Engine, database: str, if_not_exists: bool) -> None:
    if database in engine.catalog.databases:
        if if_not_exists:
            return
        raise DuplicateObject(f"database `{database}` already exists", sqlstate="42P04")
    engine.store.writer.execute("INSERT INTO hr.databases VALUES (?, 'public')", [database])
    engine.catalog = engine.catalog.with_database(database)


def drop_schema(engine: Engine, database: str, schema: str, if_exists: bool, cascade: bool) -> bool:
    if schema not in engine.catalog.databases[database]:
        if if_exists:
            return False
        raise SqlError(f"schema `{schema}` does not exist", sqlstate="3F000")
    inside = [o for o in engine.catalog.in_database(database) if o.schema == schema]
    if inside and not cascade:
        raise DependentObjects(f"cannot drop schema `{schema}` because it is not empty", fix="Write DROP SCHEMA ... CASCADE.")
    _remove_with_dependents(engine, inside)
    engine.store.writer.execute("DELETE FROM hr.databases WHERE name = ? AND schema = ?", [database, schema])
    engine.catalog = engine.catalog.without_schema(database, schema)
    return True


def drop_database(engine: Engine, database: str, if_exists: bool, current: str) -> bool:
    if database not in engine.catalog.databases:
        if if_exists:
            return False
        raise SqlError(f"database `{database}` does not exist", sqlstate="3D000")
    if database == current:
        raise SqlError("cannot drop the currently open database", sqlstate="55006", fix="Connect to another one first.")
    _remove_with_dependents(engine, list(engine.catalog.in_database(database)))
    engine.store.writer.execute("DELETE FROM hr.databases WHERE name = ?", [database])
    engine.store.writer.execute(f"DELETE FROM hr.r{QUARANTINE_ID} WHERE database = ?", [database])
    engine.catalog = engine.catalog.without_database(database)
    return True


def _remove_with_dependents(engine: Engine, objects: list[CatalogObject]) -> None:
    everything = {o.id: o for o in objects}
    for found in objects:
        everything.update({o.id: o for o in engine.catalog.dependents_closure(found.id)})
    remove(engine, sorted(everything.values(), key=lambda o: o.id, reverse=True))
