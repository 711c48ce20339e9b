"""Runs a case on a bench of its own and says what did not hold.

One epoch: the clock is set, records arrive, tables are written to, statements run, a barrier, the expectations are looked at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, NoReturn

import psycopg

from core.errors import InvalidInputError, UnavailableError
from headrace.sqltest.bench import Bench, embedded, remote
from headrace.sqltest.diff import Column, Difference, Found, compare
from headrace.sqltest.feeding import Record, column_list, insert_statements, records
from headrace.sqltest.model import Case, Epoch, Expectation, Place, Rows, Statement
from headrace.sqltest.plan import PLACEHOLDERS, Fed, Piece, fed_relations, pieces_of, signatures
from headrace.sqltest.stubs import StubFunction, check_stub

SETTLE_SECONDS = 10.0
"""How long a database that is not exact may take to show what is expected; a barrier is a second there."""

_POLL_SECONDS = 0.1
_FETCH_ROWS = 1_000
_QUARANTINED = 3


@dataclass(frozen=True)
class Where:
    """What the cases run against; without a URL each has an engine of its own.

    Attributes:
        host: an address of this machine that the database at the URL can reach.
        udf_url: of a UDF server, for functions that a case does not answer itself.
    """

    database_url: str | None = None
    host: str = "127.0.0.1"
    udf_url: str | None = None

    def bench(self, stubs: Sequence[StubFunction]) -> AbstractContextManager[Bench]:
        if self.database_url is None:
            return embedded(stubs, self.udf_url)
        return remote(self.database_url, self.host, stubs, self.udf_url)


@dataclass(frozen=True)
class Problem:
    """Something that did not hold.

    Attributes:
        rows: the expectation that differs, for `--update`.
    """

    place: str
    epoch: int | None
    what: str
    kind: Literal["rows", "changes", "statement", "function"]
    difference: Difference | None = None
    rows: Rows | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Outcome:
    """Of one case."""

    case: Case
    problems: list[Problem] = field(default_factory=list)
    seconds: float = 0.0
    expectations: int = 0

    @property
    def passed(self) -> bool:
        return not self.problems


def check(case: Case, where: Where) -> None:
    """Find what is wrong with a case without running it.

    Raises:
        InvalidInputError: a stub answers a function that no SQL creates, rows do not fit their source, the clock is set elsewhere.
    """
    _Looked.into(case, where)
    if case.needs_clock and where.database_url is not None:
        raise InvalidInputError(
            f"the case `{case.name}` sets `now`, which needs the clock of the embedded engine",
            where=str(case.place),
            fix="Run it without --database-url, or choose others by -k.",
        )


def run(case: Case, where: Where) -> Outcome:
    """Run a case.

    Raises:
        HeadraceError: it could not be run at all: a part does not start, the input is wrong.
    """
    began = time.monotonic()
    outcome = Outcome(case)
    looked = _Looked.into(case, where)
    signed = signatures(case, looked.pieces)
    stubs = [StubFunction(stub, signed[stub.name]) for stub in case.stubs]
    with where.bench(stubs) as bench:
        _Run(case, bench, stubs, looked, outcome).run()
    outcome.seconds = time.monotonic() - began
    return outcome


@dataclass(frozen=True)
class _Looked:
    """What the SQL tells before it runs."""

    pieces: Sequence[Piece]
    fed: Mapping[str, Fed]

    @classmethod
    def into(cls, case: Case, where: Where) -> _Looked:
        values = dict(PLACEHOLDERS)
        if not case.stubs and where.udf_url is None:
            del values["UDF_URL"]
        scripts = [*case.scripts, *(statement.script for epoch in case.epochs for statement in epoch.statements)]
        pieces = [piece for script in scripts for piece in pieces_of(script, values)]
        signed = signatures(case, pieces)
        for stub in case.stubs:
            check_stub(stub, signed[stub.name])
        fed = fed_relations(pieces)
        for feed in (feed for epoch in case.epochs for feed in epoch.feeds):
            if feed.relation in fed:
                list(records(feed, fed[feed.relation]))
            elif feed.rows is None or feed.partition is not None:
                raise InvalidInputError(
                    f"`{feed.relation}` reads no topic",
                    where=str(feed.place),
                    fix="`raw` and `partition` are for a relation that this case creates with connector = 'kafka'.",
                )
        return cls(pieces, fed)


class _Failed(Exception):
    """The case cannot go on; the problem is noted."""


class _Run:
    def __init__(self, case: Case, bench: Bench, stubs: Sequence[StubFunction], looked: _Looked, outcome: Outcome) -> None:
        self._case = case
        self._bench = bench
        self._stubs = stubs
        self._fed = looked.fed
        self._outcome = outcome
        self._cursors: dict[str, str] = {}

    def run(self) -> None:
        try:
            self._set_up()
            for epoch in self._case.epochs:
                self._run_epoch(epoch)
        except _Failed:
            pass
        except UnavailableError as error:
            self._note(Problem(str(self._case.place), None, str(error), "statement"))

    # Set-up

    def _set_up(self) -> None:
        if self._case.now is not None:
            self._bench.set_clock(self._case.now)
        for topic in sorted({fed.topic for fed in self._fed.values()}):
            names = [fed.name for fed in self._fed.values() if fed.topic == topic]
            self._bench.create_topic(topic, max(self._case.partitions.get(name, 1) for name in names))
        for script in self._case.scripts:
            for piece in pieces_of(script, self._bench.variables):
                self._execute(piece, epoch=None)
        self._barrier(None, self._case.place)
        wanted = [e for epoch in self._case.epochs for e in epoch.expectations if e.changes is not None]
        for number, label in enumerate(dict.fromkeys(e.label for e in wanted)):
            place = next(e.place for e in wanted if e.label == label)
            self._follow(label, f"headrace_test_{number}", place)

    def _follow(self, view: str, name: str, place: Place) -> None:
        """Subscribe to a view from now on."""
        for sql in (
            f"CREATE SUBSCRIPTION {name} FROM {view} WITH (retention = '3650 days')",
            f"DECLARE {name}_cursor SUBSCRIPTION CURSOR FOR {name}",
        ):
            try:
                self._bench.connection.execute(sql.encode())
            except psycopg.Error as error:
                self._fail(str(place), None, f"the changes of `{view}` cannot be followed: {_told(error)}", "statement")
        self._cursors[view] = f"{name}_cursor"

    # Epochs

    def _run_epoch(self, epoch: Epoch) -> None:
        if epoch.now is not None:
            self._bench.set_clock(epoch.now)
        arriving: list[Record] = []
        for feed in epoch.feeds:
            if feed.relation in self._fed:
                arriving += records(feed, self._fed[feed.relation])
        self._bench.deliver(arriving)
        for feed in epoch.feeds:
            if feed.relation not in self._fed and feed.rows is not None:
                for sql in insert_statements(feed.relation, feed.rows):
                    try:
                        self._bench.connection.execute(sql.encode())
                    except psycopg.Error as error:
                        self._fail(str(feed.place), epoch.number, f"the rows of `{feed.relation}` are refused: {_told(error)}")
        for statement in epoch.statements:
            self._run_statement(statement, epoch)
        self._barrier(epoch.number, epoch.place)
        for expectation in epoch.expectations:
            self._look(expectation, epoch)

    def _run_statement(self, statement: Statement, epoch: Epoch) -> None:
        for piece in pieces_of(statement.script, self._bench.variables):
            if statement.error is None:
                self._execute(piece, epoch.number)
                continue
            self._outcome.expectations += 1
            wanted = statement.error
            try:
                self._bench.connection.execute(piece.text.encode())
            except psycopg.Error as error:
                told = f"{error.diag.message_primary or error}\n{error.diag.message_hint or ''}"
                if wanted.sqlstate not in (None, error.sqlstate):
                    what = f"the error is {error.sqlstate}, not {wanted.sqlstate}: {_told(error)}"
                elif wanted.message is not None and wanted.message.lower() not in told.lower():
                    what = f"the error does not say `{wanted.message}`: {_told(error)}"
                else:
                    continue
            else:
                what = "an error was expected, but the statement succeeded"
            self._note(Problem(str(wanted.place), epoch.number, what, "statement"))

    def _execute(self, piece: Piece, epoch: int | None) -> None:
        guard = piece.guard if self._bench.exact else None
        chosen = {}
        if guard is not None and guard.max_future_skew is not None:
            chosen["headrace.max_future_skew"] = guard.max_future_skew
        if guard is not None and guard.required:
            chosen["headrace.required_columns"] = ",".join(guard.required)
        connection = self._bench.connection
        try:
            for name, value in chosen.items():
                connection.execute(f"SET {name} = '{value}'".encode())
            connection.execute(piece.text.encode())
            for name in chosen:
                connection.execute(f"SET {name} = DEFAULT".encode())
        except psycopg.Error as error:
            position = error.diag.statement_position
            self._fail(piece.place(int(position) if position else None), epoch, f"the statement is refused: {_told(error)}")

    def _barrier(self, epoch: int | None, place: Place) -> None:
        try:
            self._bench.barrier()
        except psycopg.Error as error:
            self._fail(str(place), epoch, f"the epoch failed: {_told(error)}")
        self._check_calls(epoch)

    def _check_calls(self, epoch: int | None) -> None:
        for stub, function in zip(self._case.stubs, self._stubs, strict=True):
            unanswered = function.take_unanswered()
            if unanswered:
                arguments = ", ".join(f"{name}={value!r}" for name, value in unanswered[0].items())
                what = f"no answer of `{stub.name}` fits {len(unanswered)} of its calls, e.g. ({arguments})"
                note = "Add one, or end with `- returns: ...`, which fits every call."
                self._note(Problem(str(stub.place), epoch, what, "function", notes=(note,)))

    # Expectations

    def _look(self, expectation: Expectation, epoch: Epoch) -> None:
        deadline = time.monotonic() + (0.0 if self._bench.exact else SETTLE_SECONDS)
        if expectation.rows is not None:
            while True:
                found = self._select(expectation, expectation.rows, epoch)
                difference = _difference(expectation, expectation.rows, found)
                if difference is None or time.monotonic() > deadline:
                    break
                self._wait()
            self._judge(expectation, expectation.rows, difference, epoch, "rows")
        if expectation.changes is not None:
            came = self._fetch(expectation, epoch)
            while True:
                found = _only(came, expectation.changes, expectation.place)
                difference = _difference(expectation, expectation.changes, found)
                if difference is None or time.monotonic() > deadline:
                    break
                self._wait()
                more = self._fetch(expectation, epoch)
                came = Found(more.columns, (*came.rows, *more.rows))
            self._judge(expectation, expectation.changes, difference, epoch, "changes")
        elif expectation.label in self._cursors:
            self._fetch(expectation, epoch)

    def _wait(self) -> None:
        """Let a database that is not exact go on before it is looked at again."""
        time.sleep(_POLL_SECONDS)
        self._bench.barrier()

    def _select(self, expectation: Expectation, rows: Rows, epoch: Epoch) -> Found:
        if expectation.query is not None:
            found = self._read(expectation.query, expectation.place, epoch)
            return _only(found, rows, expectation.place)
        return self._read(f"SELECT {column_list(rows.columns)} FROM {expectation.label}", expectation.place, epoch)

    def _fetch(self, expectation: Expectation, epoch: Epoch) -> Found:
        """All changes that came since the last time."""
        sql = f"FETCH {_FETCH_ROWS} FROM {self._cursors[expectation.label]}"
        found = self._read(sql, expectation.place, epoch)
        while found.rows:
            more = self._read(sql, expectation.place, epoch)
            if not more.rows:
                break
            found = Found(found.columns, (*found.rows, *more.rows))
        return found

    def _read(self, sql: str, place: Place, epoch: Epoch) -> Found:
        try:
            result = self._bench.connection.execute(sql.encode()).pgresult
        except psycopg.Error as error:
            self._fail(str(place), epoch.number, f"it cannot be read: {_told(error)}", "rows")
        assert result is not None
        names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
        columns = tuple(Column(name, result.ftype(i)) for i, name in enumerate(names))
        values = [[result.get_value(row, i) for i in range(result.nfields)] for row in range(result.ntuples)]
        return Found(columns, tuple(tuple(None if v is None else v.decode() for v in row) for row in values))

    def _judge(
        self,
        expectation: Expectation,
        rows: Rows,
        difference: Difference | None,
        epoch: Epoch,
        kind: Literal["rows", "changes"],
    ) -> None:
        self._outcome.expectations += 1
        if difference is None:
            return
        of = f"the changes of `{expectation.label}`" if kind == "changes" else f"`{expectation.label}`"
        if difference.order_only:
            what = f"{of}: the rows are as expected, their order is not"
        else:
            what = f"{of}: {difference.missing} missing, {difference.unexpected} unexpected"
        notes = (*self._unread(), *self._quarantined(expectation))
        self._note(Problem(str(expectation.place), epoch.number, what, kind, difference, rows, notes))

    def _unread(self) -> tuple[str, ...]:
        """A source gives nothing until something reads it."""
        names = [name for name, fed in self._fed.items() if fed.topic in self._bench.unread]
        return tuple(f"nothing reads `{name}`: no materialized view or sink of this case is built on it" for name in names)

    def _quarantined(self, expectation: Expectation) -> tuple[str, ...]:
        """Rows that a source refused may be the reason."""
        if not self._bench.exact or not self._fed or "quarantine" in f"{expectation.label} {expectation.query}":
            return ()
        rows = self._bench.connection.execute("SELECT stream, kafka_offset, reason FROM quarantine ORDER BY 1, 2").fetchall()
        told = [f"quarantine: {stream} offset {offset}: {reason}" for stream, offset, reason in rows[:_QUARANTINED]]
        return (*told, f"quarantine: {len(rows) - _QUARANTINED} more") if len(rows) > _QUARANTINED else tuple(told)

    # Problems

    def _note(self, problem: Problem) -> None:
        self._outcome.problems.append(problem)

    def _fail(
        self, place: str, epoch: int | None, what: str, kind: Literal["rows", "changes", "statement", "function"] = "statement"
    ) -> NoReturn:
        self._note(Problem(place, epoch, what, kind))
        raise _Failed


def _difference(expectation: Expectation, rows: Rows, found: Found) -> Difference | None:
    return compare(rows, found, ordered=expectation.ordered, tolerance=expectation.tolerance)


def _only(found: Found, rows: Rows, place: Place) -> Found:
    """The columns that the expectation names, in its order; all where it names none.

    Raises:
        InvalidInputError: there is no such column.
    """
    if rows.columns is None:
        kept = [i for i, column in enumerate(found.columns) if column.name != "rw_timestamp"]
    else:
        names = [column.name for column in found.columns]
        for name in rows.columns:
            if name not in names:
                fix = f"There are {', '.join(f'`{each}`' for each in names)}."
                raise InvalidInputError(f"the answer has no column `{name}`", where=str(rows.place or place), fix=fix)
        kept = [names.index(name) for name in rows.columns]
    columns = tuple(found.columns[i] for i in kept)
    return Found(columns, tuple(tuple(row[i] for i in kept) for row in found.rows))


def _told(error: psycopg.Error) -> str:
    text = (error.diag.message_primary or str(error)).strip()
    hint = error.diag.message_hint
    state = f"[{error.sqlstate}] " if error.sqlstate else ""
    return f"{state}{text}" + (f". {hint}" if hint else "")
