"""Views that are built in parts: how they begin, what may not change meanwhile, and what a restart makes of them. On the writer's thread."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from engine.catalog.objects import CatalogObject
from engine.runtime import ddl
from engine.runtime.backfill import Backfill, Progress, can_be_built_in_parts, parts_of, read_progress
from engine.runtime.builder import Built, Place, build
from engine.runtime.engine import Engine
from engine.runtime.jobs import Job
from engine.sql.errors import DependentObjects, DuplicateObject, QueryCanceled, SqlError
from engine.sql.parser import parse

logger = logging.getLogger(__name__)


def plan(engine: Engine, job: Job | None) -> dict[int, Progress] | None:
    """How a new object is built in parts; None if it is small, or reads what is not stored."""
    if job is None or not can_be_built_in_parts(job, engine.stored_relations()):
        return None
    count = engine.store.writer.execute
    tables = {leaf.relation: leaf.physical for leaf in job.leaves}
    sizes = {relation: count(f"SELECT count(*) FROM {table}").fetchall()[0][0] for relation, table in tables.items()}
    rows = engine.settings.backfill_rows
    return parts_of(sizes, rows, job) if sum(sizes.values()) > rows else None


def begin(engine: Engine, built: Built, job: Job, progress: dict[int, Progress], *, background: bool) -> Backfill:
    """Make the tables of a view and let the epochs fill them."""
    backfill = Backfill(built, job, background=background, progress=progress)
    connection = engine.store.writer
    epoch = engine.new_epoch()
    connection.execute("BEGIN")
    try:
        for sql in job.ddl():
            connection.execute(sql)
        job.rehearse(epoch)
        job.initialize(epoch)
        epoch.run_deferred()
        facts = ddl.write_facts(built.facts, built.object.pins)
        connection.execute("INSERT INTO hr.jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*backfill.row, facts])
        connection.execute("COMMIT")
    except BaseException:
        engine.store.rollback()
        raise
    finally:
        epoch.release()
    engine.catalog = replace(engine.catalog, last_id=max(engine.catalog.last_id, built.object.id))
    engine.backfills[built.object.id] = backfill
    return backfill


def cancel(engine: Engine, numbers: Iterable[int]) -> list[int]:
    """CANCEL JOBS; returns those that were running."""
    running = [number for number in numbers if number in engine.backfills]
    for number in running:
        engine.abandon(
            engine.backfills[number], QueryCanceled("the statement was cancelled by CANCEL JOBS", fix="Run it again.")
        )
    return running


def cancel_dependents(engine: Engine, objects: Iterable[CatalogObject]) -> None:
    """Before these objects are dropped with all that is built on them."""
    gone = {o.id for o in objects}
    for backfill in [b for b in engine.backfills.values() if b.needs(gone)]:
        reason = SqlError(
            f"what `{backfill.object.name}` reads was dropped", sqlstate="57014", fix="Create it again on something else."
        )
        engine.abandon(backfill, reason)


def must_not_be_read(engine: Engine, objects: Iterable[CatalogObject], position: int | None = None) -> None:
    """Refuse to change what a view that is being built reads."""
    changed = {o.id for o in objects}
    for backfill in engine.backfills.values():
        if backfill.needs(changed):
            raise DependentObjects(
                f"`{backfill.object.name}`, which is being created, reads it",
                position=position,
                fix=f"WAIT until it is there, or CANCEL JOBS {backfill.object.id}.",
            )


def must_be_free(engine: Engine, place: Place, position: int | None) -> None:
    """Refuse the name of a view that is being built."""
    for backfill in engine.backfills.values():
        made = backfill.object
        if (made.database, made.schema, made.name) == (place.database, place.schema, place.name):
            raise DuplicateObject(
                f'relation "{made.name}" is being created',
                position=position,
                fix=f"WAIT until it is there, or CANCEL JOBS {made.id}.",
            )


def recover(engine: Engine) -> None:
    """What was being built when the engine ended: goes on if in the background, and otherwise is gone."""
    rows = engine.store.writer.execute("SELECT * FROM hr.jobs ORDER BY id").fetchall()
    for number, database, schema, name, sql, background, progress, facts in rows:
        (statement,) = parse(sql)
        settings, pins = ddl.read_facts(facts)
        built = build(statement, Place(number, database, schema, name), engine.catalog.pinned(pins, number), settings)
        built = replace(built, object=replace(built.object, pins=pins))
        assert built.root is not None
        job = Job(built.object, built.root)
        backfill = Backfill(built, job, background=background, progress=read_progress(progress))
        if background:
            engine.backfills[number] = backfill
        else:
            engine.store.run_all(backfill.removal)
        engine.catalog = replace(engine.catalog, last_id=max(engine.catalog.last_id, number))
