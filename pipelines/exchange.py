"""Runs the steps of an exchange so that it can be cut off anywhere and finished by the next run.

The journal is written before the first step and removed after the last one. It is a row in the stream database, like the
ledger: it goes wherever the objects are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import LiteralString

import psycopg
import psycopg.sql

from core.errors import ConflictError, HeadraceError, InvalidInputError, UnavailableError
from pipelines import ledger, snapshot, steps
from pipelines.snapshot import Snapshot
from pipelines.steps import Journal, Step

logger = logging.getLogger(__name__)

TABLE = "deployment_journal"
_DELIVERY_SECONDS = 60.0
"""Longer than a Kafka transaction takes to time out and be retried."""
_CREATE: LiteralString = "CREATE TABLE IF NOT EXISTS deployment_journal (id INT, steps VARCHAR, PRIMARY KEY (id))"


def nowhere(_step: str) -> None:
    """The failpoint of every day: nothing happens."""


def pending(connection: psycopg.Connection, found: Snapshot) -> Journal | None:
    """The exchange that a run before this one began and did not finish."""
    if found.find(TABLE) is None:
        return None
    row = connection.execute("SELECT steps FROM deployment_journal WHERE id = 1").fetchone()
    return Journal.loads(row[0]) if row is not None else None


def begin(connection: psycopg.Connection, journal: Journal) -> None:
    """Write the journal down.

    Raises:
        ConflictError: a name that the exchange needs is taken.
    """
    found = snapshot.read(connection, brief=True)
    for step in journal.steps:
        taken = found.find(step.name, "FUNCTION" if step.kind == "FUNCTION" else None)
        if step.phase == "build" and taken is not None and step.kind != "FUNCTION":
            raise ConflictError(
                f"`{step.name}` is there, and that name is needed while `{step.final or step.name}` is built anew",
                fix=f"Rename or drop the {taken.kind.lower()} `{step.name}`.",
            )
    connection.execute(_CREATE)
    ledger.insert_rows(connection, TABLE, [(1, journal.dumps())], ("id", "steps"))
    connection.execute("FLUSH")


def run(
    connection: psycopg.Connection,
    journal: Journal,
    rows: Mapping[str, int] | None = None,
    failpoint: Callable[[str], None] = nowhere,
) -> None:
    """Do what is not done yet, then write the ledger and remove the journal.

    Args:
        rows: by name, what building it reads; with the time that it takes that is the rate for the next plan.
        failpoint: called with a name between any two statements; tests kill the process there.

    Raises:
        HeadraceError: a statement was refused. While nothing had been swapped all that was built is dropped again, and
            everything is as before; after that the journal stays, and the next run goes on.
    """
    measured: dict[str, tuple[int, float]] = {}
    old = {step.old_id for step in journal.steps if step.verb == "swap"}
    failpoint("journal written")
    connection.execute("SET background_ddl = false")  # a view is there when its CREATE has answered
    _await_builds(connection, journal)
    found = snapshot.read(connection, brief=True)
    for step in [each for each in journal.steps if not steps.done(each, found)]:
        start = time.monotonic()
        if step.verb == "drop" and step.kind == "SINK":
            _await_delivery(connection, step)
        try:
            with session_settings(connection, step.settings):
                connection.execute(step.sql.encode())
            if step.phase == "build":
                _check_reads(step, snapshot.read(connection, brief=True), old)
        except (psycopg.Error, ConflictError) as error:
            raise _failed(connection, journal, step, error) from error
        name = step.final or step.name
        if step.phase == "build" and rows is not None and name in rows:
            measured[name] = (rows[name], time.monotonic() - start)
        logger.info("exchange step done", extra={"step": step.sql.splitlines()[0][:120]})
        failpoint(f"{step.phase}: {step.verb} {step.name}")
    ledger.write(connection, steps.with_times(journal, measured).entries)
    failpoint("ledger written")
    end(connection)


def end(connection: psycopg.Connection) -> None:
    """Remove the journal: the exchange is complete, or taken back."""
    connection.execute("DELETE FROM deployment_journal WHERE id = 1")
    connection.execute("FLUSH")


def take_back(connection: psycopg.Connection, journal: Journal) -> None:
    """Drop what was built, before anything was swapped."""
    for statement in steps.undo(journal, snapshot.read(connection, brief=True)):
        connection.execute(statement.encode())
    end(connection)


@contextmanager
def session_settings(connection: psycopg.Connection, settings: Mapping[str, str]) -> Iterator[None]:
    """Set what the embedded engine checks at a source while it is created."""
    for name, value in settings.items():
        connection.execute(f"SET {name} = {psycopg.sql.quote(value)}".encode())
    try:
        yield
    finally:
        for name in settings:
            connection.execute(f"SET {name} = DEFAULT".encode())


def _await_builds(connection: psycopg.Connection, journal: Journal) -> None:
    """A run that was killed may have left the database building a view; that ends by itself, one way or the other."""
    names = [step.name for step in journal.steps if step.phase == "build"]
    while True:
        rows = connection.execute("SELECT ddl_statement FROM rw_catalog.rw_ddl_progress").fetchall()
        if not any(name in str(row[0]) for row in rows for name in names):
            return
        time.sleep(0.2)


def _await_delivery(connection: psycopg.Connection, step: Step) -> None:
    """The old sink delivers what happened before the new one began; only the embedded engine tells how far a sink is.

    Raises:
        UnavailableError: it does not get on; nothing is dropped, and the next run waits again.
    """
    row = connection.execute("SELECT version()").fetchone()
    if row is None or "headrace" not in str(row[0]).lower():
        return
    barrier = connection.execute("SELECT epoch FROM rw_catalog.headrace_barriers").fetchone()
    deadline = time.monotonic() + _DELIVERY_SECONDS
    while True:
        told = connection.execute(
            "SELECT delivered_epoch, backlog_rows, problem FROM rw_catalog.headrace_sinks WHERE id = %s", [step.old_id]
        ).fetchone()
        if told is None or barrier is None or told[1] == 0 or (told[0] or 0) >= barrier[0]:
            return
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the old sink behind `{step.name}` has {told[1]} rows to deliver and does not get on: {told[2] or 'no reason is known'}",
                where=step.place or None,
                fix="Mend its target and apply again: it goes on from there.",
            )
        time.sleep(0.1)


def _check_reads(step: Step, found: Snapshot, old: set[int]) -> None:
    """What was built must be built on the new objects only: the text was changed by us, the catalog is the judge."""
    made = found.find(step.name, step.kind)
    wrong = [found.objects[i].name for i in found.below.get(made.id, ()) if i in old] if made is not None else []
    if wrong:
        raise ConflictError(
            f"`{step.name}` would still be built on the old {', '.join(f'`{name}`' for name in wrong)}",
            where=step.place,
            fix="Please report its text; until then drop it by hand and apply again.",
        )


def _failed(
    connection: psycopg.Connection, journal: Journal, step: Step, error: psycopg.Error | ConflictError
) -> HeadraceError:
    name = step.final or step.name
    if isinstance(error, psycopg.OperationalError) and error.diag.sqlstate is None:
        return UnavailableError(
            f"the connection was lost while `{name}` was exchanged", where=step.place, fix="Apply again: it goes on from there."
        )
    back = not steps.switched(journal, snapshot.read(connection, brief=True))
    if back:
        take_back(connection, journal)
    if isinstance(error, ConflictError):
        return error
    said = (error.diag.message_primary or str(error)).strip().splitlines()[0]
    after = "Nothing was changed." if back else "What was swapped stays; apply again to go on."
    hint = f"{error.diag.message_hint} " if error.diag.message_hint else ""
    kind = InvalidInputError if back else ConflictError
    return kind(f"the stream database refuses the new {step.kind.lower()} `{name}`: {said}", where=step.place, fix=hint + after)
