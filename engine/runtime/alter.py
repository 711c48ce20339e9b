"""ALTER: new names, places and columns of objects that run. On the writer thread, between epochs, all or nothing.

What is built on an altered object goes on undisturbed: names are bound to ids, columns to physical positions (see `Pins`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from engine.catalog.catalog import OWN_NAMES, QUARANTINE_ID, Catalog
from engine.catalog.objects import CatalogObject, Function, Input, Pins, Relation, Secret, Shape
from engine.catalog.text import quote_name, with_name
from engine.connectors.registry import gives_columns
from engine.runtime import building, ddl
from engine.runtime.alterations import Alteration, apply, with_alteration
from engine.runtime.builder import RATE_LIMIT, Built, Place, build
from engine.runtime.engine import Engine
from engine.runtime.jobs import Job
from engine.sql.errors import DependentObjects, DuplicateObject, SqlError, UndefinedColumn, UndefinedObject, UnsupportedQuery
from engine.sql.expressions import render
from engine.sql.parser import parse
from engine.sql.statements import Alter, CreateView, ObjectName, Statement

logger = logging.getLogger(__name__)


def alter(engine: Engine, statement: Alter, database: str, path: tuple[str, ...] = ("public",)) -> bool:
    """Run ALTER; False if there was nothing to do and IF [NOT] EXISTS was said. Call it through `Engine.submit`.

    Raises:
        SqlError: refused; nothing has changed.
    """
    if statement.action in ("set", "set system", "owner"):
        _check_settings(statement)
        if statement.kind not in ("database", "schema", "user", "fragment") and statement.action != "set system":
            found = _find(engine, statement, database, path)
            if isinstance(found, Input) and RATE_LIMIT in statement.options:
                _set_rate_limit(engine, found, statement.options[RATE_LIMIT])
            return found is not None
        return True  # parallelism, rate limits and owners have no meaning in one process with one user
    if statement.kind in ("schema", "database"):
        return _rename_place(engine, statement, database)
    action = _ACTIONS.get(statement.action)
    if action is None:
        raise UnsupportedQuery(
            f"ALTER ... {statement.action.upper()} is not supported",
            position=statement.name.position,
            fix="Build a new object beside the old one and ALTER ... SWAP WITH it.",
        )
    found = _find(engine, statement, database, path)
    if found is not None:
        building.must_not_be_read(engine, [found], statement.name.position)
    return found is not None and action(engine, statement, found, path)


def _find(engine: Engine, statement: Alter, database: str, path: tuple[str, ...]) -> CatalogObject | None:
    catalog = engine.catalog.seen_from(path)
    if statement.kind == "function":
        functions = catalog.find_functions(statement.name.name, database, statement.name.schema)
        if len(functions) == 1:
            return functions[0]
        if not functions and statement.if_exists:
            return None
        what = "is not unique" if functions else "does not exist"
        raise SqlError(
            f"function `{statement.name.name}` {what}",
            position=statement.name.position,
            sqlstate="42725" if functions else "42883",
            fix="See SHOW FUNCTIONS.",
        )
    own = statement.kind in OWN_NAMES
    found = catalog.find_own(statement.kind, statement.name, database) if own else catalog.find(statement.name, database)
    if statement.if_exists and found is None:
        return None
    return catalog.must_find(statement.name, database, (statement.kind,))


_SETTINGS: Final = (
    "parallelism", "backfill_parallelism", "source_rate_limit", "backfill_rate_limit", "sink_rate_limit", "dml_rate_limit",
    "streaming_enable_unaligned_join", "resource_group", "config", "barrier_interval_ms", "checkpoint_frequency",
)  # fmt: skip


def _check_settings(statement: Alter) -> None:
    """How a job is spread over a cluster means nothing in one process; other settings would, and are refused."""
    for name in statement.options if statement.action == "set" else ():
        if name.lower() not in _SETTINGS and "." not in name:
            raise UnsupportedQuery(
                f"`{name}` of a {statement.kind} cannot be set",
                position=statement.name.position,
                fix=f"Known: {', '.join(_SETTINGS)}.",
            )


# Names and places


def _rename(engine: Engine, statement: Alter, found: CatalogObject, _path: tuple[str, ...]) -> bool:
    assert statement.new_name is not None
    if isinstance(found, Function):
        raise UnsupportedQuery(
            "functions cannot be renamed", position=statement.name.position, fix="Create it under the new name."
        )
    if statement.new_name != found.name:
        _check_free(engine.catalog, found, found.schema, statement)
        _store_all(engine, [(found, _renamed(found, statement.new_name))])
    return True


def _swap(engine: Engine, statement: Alter, found: CatalogObject, path: tuple[str, ...]) -> bool:
    assert statement.other is not None
    other = engine.catalog.seen_from(path).must_find(statement.other, found.database, (statement.kind,))
    if other.id == found.id:
        raise SqlError(
            f"cannot swap `{found.name}` with itself",
            position=statement.other.position,
            sqlstate="42602",
            fix="Name another one.",
        )
    building.must_not_be_read(engine, [other], statement.other.position)
    mine = replace(_renamed(found, other.name), schema=other.schema)
    theirs = replace(_renamed(other, found.name), schema=found.schema)
    _store_all(engine, [(found, mine), (other, theirs)])
    return True


def _set_schema(engine: Engine, statement: Alter, found: CatalogObject, _path: tuple[str, ...]) -> bool:
    assert statement.new_name is not None
    if statement.new_name not in engine.catalog.databases[found.database]:
        raise UndefinedObject(
            f"schema `{statement.new_name}` does not exist",
            position=statement.name.position,
            sqlstate="3F000",
            fix=f"Run `CREATE SCHEMA {statement.new_name}` first.",
        )
    if statement.new_name != found.schema:
        _check_free(engine.catalog, found, statement.new_name, replace(statement, new_name=found.name))
        _store_all(engine, [(found, replace(found, schema=statement.new_name))])
    return True


def _check_free(catalog: Catalog, found: CatalogObject, schema: str, statement: Alter) -> None:
    assert statement.new_name is not None
    if found.kind in OWN_NAMES:
        return
    taken = replace(catalog, trace=None, path=()).find(ObjectName(statement.new_name, schema), found.database)
    if taken is not None:
        raise DuplicateObject(
            f"{taken.kind} `{statement.new_name}` already exists",
            position=statement.name.position,
            fix="Choose another name, or ALTER ... SWAP WITH it.",
        )


def _renamed(found: CatalogObject, name: str) -> CatalogObject:
    return replace(found, name=name, sql=with_name(found.sql, name))


def _store_all(engine: Engine, changes: Iterable[tuple[CatalogObject, CatalogObject]]) -> None:
    """Store new names and schemas, and tell everybody who holds the old objects."""
    changes = list(changes)

    def write() -> None:
        for old, new in changes:
            ((base,),) = engine.store.writer.execute("SELECT sql FROM hr.catalog WHERE id = ?", [old.id]).fetchall()
            text = with_name(base, new.name) if old.name != new.name else base
            engine.store.writer.execute(
                "UPDATE hr.catalog SET schema = ?, name = ?, sql = ?, database = ? WHERE id = ?",
                [new.schema, new.name, text, new.database, old.id],
            )

    _in_transaction(engine, write)
    engine.catalog = engine.catalog.with_objects([new for _, new in changes])
    for _, new in changes:
        _tell(engine, new)
        logger.info("object altered", extra={"kind": new.kind, "object": new.name, "id": new.id})


def _tell(engine: Engine, changed: CatalogObject) -> None:
    job = engine.jobs.get(changed.id)
    if job is not None:
        job.object = changed
    if isinstance(changed, Input):
        for holder in (engine.tables.get(changed.id), engine.connectors.get(changed.id)):
            if holder is not None:
                holder.relation = changed


def _rename_place(engine: Engine, statement: Alter, database: str) -> bool:
    if statement.action != "rename" or statement.new_name is None:
        raise UnsupportedQuery(
            f"ALTER {statement.kind.upper()} ... {statement.action.upper()} is not supported", position=statement.name.position,
            fix="RENAME TO is.",
        )  # fmt: skip
    old, new = statement.name.name, statement.new_name
    catalog = engine.catalog
    is_schema = statement.kind == "schema"
    places = catalog.databases[database] if is_schema else catalog.databases
    if old not in places:
        raise SqlError(
            f"{statement.kind} `{old}` does not exist",
            position=statement.name.position,
            sqlstate="3F000" if is_schema else "3D000",
            fix=f"See SHOW {statement.kind.upper()}S.",
        )
    if new in places:
        raise DuplicateObject(
            f"{statement.kind} `{new}` already exists", position=statement.name.position, fix="Choose another name.",
            sqlstate="42P06" if is_schema else "42P04",
        )  # fmt: skip
    if old == database and not is_schema:
        raise SqlError("the current database cannot be renamed", sqlstate="0A000", fix="Connect to another one first.")

    def write() -> None:
        if is_schema:
            engine.store.writer.execute(
                "UPDATE hr.databases SET schema = ? WHERE name = ? AND schema = ?", [new, database, old]
            )
        else:
            engine.store.writer.execute("UPDATE hr.databases SET name = ? WHERE name = ?", [new, old])
            engine.store.writer.execute(f"UPDATE hr.r{QUARANTINE_ID} SET database = ? WHERE database = ?", [new, old])

    _in_transaction(engine, write)
    if is_schema:
        engine.catalog = catalog.with_schema(database, new).without_schema(database, old)
        moved = [(o, replace(o, schema=new)) for o in catalog.in_database(database) if o.schema == old]
    else:
        schemas = catalog.databases[old]
        renamed = {**{k: v for k, v in catalog.databases.items() if k != old}, new: schemas}
        engine.catalog = replace(catalog, databases=renamed)
        moved = [(o, replace(o, database=new)) for o in catalog.in_database(old)]
    _store_all(engine, moved)
    return True


def _set_rate_limit(engine: Engine, found: Input, limit: str) -> None:
    """0 stops reading; anything else, reading as fast as it goes."""
    ((facts,),) = engine.store.writer.execute("SELECT facts FROM hr.catalog WHERE id = ?", [found.id]).fetchall()
    settings, pins = ddl.read_facts(facts)
    text = ddl.write_facts({**settings, RATE_LIMIT: limit}, pins)

    def write() -> None:
        engine.store.writer.execute("UPDATE hr.catalog SET facts = ? WHERE id = ?", [text, found.id])

    _in_transaction(engine, write)
    changed = replace(found, options={**found.options, RATE_LIMIT: limit})
    engine.catalog = engine.catalog.with_objects([changed])
    _tell(engine, changed)
    engine.wake()


def _new_secret(engine: Engine, statement: Alter, found: CatalogObject, _path: tuple[str, ...]) -> bool:
    """The new value is read when a connector starts the next time."""
    assert isinstance(found, Secret)
    assert statement.new_name is not None
    quoted = statement.new_name.replace("'", "''")
    text = f"CREATE SECRET {quote_name(found.name)} WITH (backend = 'meta') AS '{quoted}'"

    def write() -> None:
        engine.store.writer.execute("UPDATE hr.catalog SET sql = ? WHERE id = ?", [text, found.id])

    _in_transaction(engine, write)
    engine.catalog = engine.catalog.with_objects([replace(found, value=statement.new_name, sql=text)])
    return True


# Columns


def _add_column(engine: Engine, statement: Alter, found: CatalogObject, _path: tuple[str, ...]) -> bool:
    relation = _must_be_input(found, statement)
    assert statement.column is not None
    if statement.if_not_exists and any(c.name == statement.column.name for c in relation.visible):
        return False
    (alone,) = parse(statement.text)
    assert isinstance(alone, Alter)
    assert alone.column is not None
    text = statement.text[(alone.column.position or 1) - 1 :]
    _change_columns(engine, relation, Alteration("add", len(relation.columns), text), statement)
    return True


def _drop_column(engine: Engine, statement: Alter, found: CatalogObject, _path: tuple[str, ...]) -> bool:
    relation = _must_be_input(found, statement)
    position = _position(relation, statement)
    if position is None:
        return False
    _change_columns(engine, relation, Alteration("drop", position), statement)
    return True


def _rename_column(engine: Engine, statement: Alter, found: CatalogObject, _path: tuple[str, ...]) -> bool:
    relation = _must_be_input(found, statement)
    assert statement.new_name is not None
    position = _position(relation, statement)
    if position is None:
        return False
    if relation.has_connector:
        raise UnsupportedQuery(
            "a column of a connector is found by its name in the data and cannot be renamed",
            position=statement.name.position,
            fix="Rename it in a view.",
        )
    _change_columns(engine, relation, Alteration("rename", position, statement.new_name), statement)
    return True


def _must_be_input(found: CatalogObject, statement: Alter) -> Input:
    if isinstance(found, Input) and found.has_connector and gives_columns(found.options):
        raise UnsupportedQuery(
            f"the columns of `{found.name}` are made by its connector and cannot be altered",
            position=statement.name.position,
            fix="Create the source anew beside the old one and ALTER ... SWAP WITH it.",
        )
    if isinstance(found, Input):
        return found
    raise UnsupportedQuery(
        f"columns of a {found.kind} cannot be altered: they are those of its query",
        position=statement.name.position,
        fix="Create it anew beside the old one and ALTER ... SWAP WITH it.",
    )


def _position(relation: Input, statement: Alter) -> int | None:
    for position, column in enumerate(relation.columns):
        if column.name == statement.column_name and not column.hidden:
            return position
    if statement.column_if_exists:
        return None
    raise UndefinedColumn(
        f"column `{statement.column_name}` of relation `{relation.name}` does not exist",
        position=statement.name.position,
        fix=f"Known: {', '.join(c.name for c in relation.visible)}.",
    )


def _change_columns(engine: Engine, relation: Input, step: Alteration, statement: Alter) -> None:
    """Check the step against all that is built on the relation, store it, and build again what reads the relation."""
    try:
        changed = apply(relation, step, engine.catalog)
    except SqlError as error:
        error.position = error.position or statement.name.position
        raise
    writer = engine.store.writer
    stored = {i: (sql, facts) for i, sql, facts in writer.execute("SELECT id, sql, facts FROM hr.catalog").fetchall()}
    settings, pins = ddl.read_facts(stored[relation.id][1])
    new_facts = ddl.write_facts(with_alteration(settings, step), pins)
    statement_text, _ = stored[relation.id]
    (created,) = parse(statement_text)
    place = Place(relation.id, relation.database, relation.schema, relation.name)
    rebuilt = build(created, place, engine.catalog.pinned(pins, relation.id), json.loads(new_facts))
    assert isinstance(rebuilt.object, Input)
    catalog = engine.catalog.with_objects([replace(rebuilt.object, pins=pins)])
    readers = _rebuild_readers(engine, catalog, relation.id, step, stored, statement)

    def write() -> None:
        if relation.kind == "table" and step.kind == "add":
            column = changed.columns[-1]
            writer.execute(f"ALTER TABLE {relation.physical} ADD COLUMN c{step.position} {column.type.duckdb}")
            if column.default is not None:
                # Once for all rows; as a DEFAULT of the store's it could hold no lambda.
                writer.execute(f"UPDATE {relation.physical} SET c{step.position} = (SELECT {render(column.default)})")
        elif relation.kind == "table" and step.kind == "drop":
            writer.execute(f"UPDATE {relation.physical} SET c{step.position} = NULL")
        writer.execute("UPDATE hr.catalog SET facts = ? WHERE id = ?", [new_facts, relation.id])

    _in_transaction(engine, write)
    engine.catalog = catalog.with_objects([built.object for built in readers])
    _tell(engine, engine.catalog.get(relation.id))
    for built in readers:
        old = engine.jobs.get(built.object.id)
        if old is not None and built.root is not None:
            job = Job(built.object, built.root)
            job.runs, job.statements, job.seconds = old.runs, old.statements, old.seconds
            engine.jobs[built.object.id] = job
    logger.info("column altered", extra={"object": relation.name, "step": step.kind, "id": relation.id})


def _rebuild_readers(
    engine: Engine,
    catalog: Catalog,
    relation: int,
    step: Alteration,
    stored: dict[int, tuple[str, str]],
    statement: Alter,
) -> list[Built]:
    """Everything that knows the relation's columns, built against the new ones.

    Raises:
        DependentObjects: a column that is to be dropped is used.
    """
    result: list[Built] = []
    for found in sorted(engine.catalog.objects.values(), key=lambda o: o.id):
        if relation not in found.pins.columns or found.id not in stored:
            continue
        sql, facts = stored[found.id]
        settings, pins = ddl.read_facts(facts)
        (created,) = parse(sql)
        place = Place(found.id, found.database, found.schema, found.name)
        if step.kind == "drop" and not _can_do_without(engine, found, created, catalog, relation, step.position, settings):
            raise DependentObjects(
                f"column `{statement.column_name}` cannot be dropped because {found.kind} `{found.name}` uses it",
                position=statement.name.position,
                fix=f"Drop {found.kind} `{found.name}` first.",
            )
        # Its pins stay as they are, so its plan and its state stay the same; a dropped column is NULL there.
        built = build(created, place, catalog.pinned(pins, found.id), settings)
        built = replace(built, object=replace(built.object, pins=pins))
        catalog = catalog.with_objects([built.object])
        result.append(built)
    return result


def _can_do_without(
    engine: Engine,
    found: CatalogObject,
    created: Statement,
    catalog: Catalog,
    relation: int,
    position: int,
    settings: Mapping[str, str],
) -> bool:
    """Whether an object gives the same columns when it does not know this one."""
    shape: Shape = tuple(column for column in found.pins.columns[relation] if column[0] != position)
    pins = Pins(found.pins.names, {**found.pins.columns, relation: shape}, found.pins.path)
    place = Place(found.id, found.database, found.schema, found.name)
    try:
        built = build(created, place, catalog.pinned(pins, found.id), settings)
        return _outputs(built, created, catalog.pinned(pins)) == _outputs_before(found, created, engine)
    except SqlError:
        return False


def _outputs_before(found: CatalogObject, created: object, engine: Engine) -> object:
    job = engine.jobs.get(found.id)
    return _outputs(Built(found, job.root if job is not None else None), created, engine.catalog.pinned(found.pins))


def _outputs(built: Built, created: object, catalog: Catalog) -> object:
    """The columns that somebody sees of an object."""
    if isinstance(created, CreateView):
        from engine.sql.binder import bind_query
        from engine.sql.binder.scope import Environment

        return [(c.name, c.type) for c in bind_query(created.query, Environment(catalog, built.object.database)).columns]
    if isinstance(built.object, Relation) and not isinstance(built.object, Input):
        return [(c.name, c.type) for c in built.object.visible]
    return list(built.root.types[: built.root.visible]) if built.root is not None else None


def _in_transaction(engine: Engine, write: Callable[[], None]) -> None:
    with engine.store.transaction():
        write()


_Action = Callable[[Engine, Alter, CatalogObject, tuple[str, ...]], bool]
_ACTIONS: Final[dict[str, _Action]] = {
    "rename": _rename,
    "swap": _swap,
    "secret": _new_secret,
    "set schema": _set_schema,
    "add column": _add_column,
    "drop column": _drop_column,
    "rename column": _rename_column,
}
