"""The loop: read a statement, run it, show the answer."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.errors import UnavailableError
from headrace.shell.statements import Gatherer

HELP = r"""A statement ends with `;`. Besides SQL there are
  \d        tables, views, sources and sinks         \d NAME   the columns of one
  \dt \dm \dv \ds \di \df     tables, materialized views, views, sources, sinks, functions
  \timing   how long statements take, on or off      \?  this      \q  leave"""

_KINDS: Mapping[str, tuple[str, ...]] = {
    r"\dt": ("TABLES",), r"\dm": ("MATERIALIZED VIEWS",), r"\dv": ("VIEWS",), r"\ds": ("SOURCES",), r"\di": ("SINKS",),
    r"\df": ("FUNCTIONS",), r"\d": ("TABLES", "MATERIALIZED VIEWS", "VIEWS", "SOURCES", "SINKS"),
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """Of one statement, all values in text form; no columns where it returns no rows."""

    tag: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    seconds: float = 0.0


class Shell:
    """Runs statements on one connection and shows what comes.

    Args:
        as_json: answers are written as one JSON document a line: a list of objects, or the command tag.
    """

    def __init__(self, database_url: str, *, as_json: bool) -> None:
        try:
            self._connection = psycopg.connect(database_url, autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            raise UnavailableError(
                f"the stream database does not answer: {str(error).strip().splitlines()[-1]}",
                fix="Start it with `headrace dev`, or set HEADRACE_DATABASE_URL.",
            ) from error
        self._connection.add_notice_handler(lambda notice: self._tell(notice.message_primary or ""))
        self._as_json = as_json
        self._timing = False
        self._console = Console(highlight=False, soft_wrap=True)

    def run_all(self, lines: Iterable[str]) -> bool:
        """Run statements that nobody watches; stops at the first that fails. Whether all went well."""
        gatherer = Gatherer()
        for line in lines:
            if not gatherer.waiting and line.lstrip().startswith("\\"):
                if line.strip() == r"\q":
                    return True
                if not self.command(line.strip()):
                    return False
            elif not all(self.statement(sql) for sql in gatherer.add(line)):
                return False
        rest = gatherer.rest()
        return not rest or self.statement(rest)

    def converse(self, ask: Callable[[str], str]) -> None:
        """Run what a person types until `\\q` or the end of the input."""
        self._console.print(r"headrace SQL shell; \? for help, \q to leave")
        gatherer = Gatherer()
        while True:
            try:
                line = ask("   ...> " if gatherer.waiting else "sql> ")
            except EOFError:
                return
            except KeyboardInterrupt:
                gatherer.forget()
                self._console.print()
                continue
            if not gatherer.waiting and line.lstrip().startswith("\\"):
                if line.strip() == r"\q":
                    return
                self.command(line.strip())
                continue
            for sql in gatherer.add(line):
                self.statement(sql)

    def command(self, text: str) -> bool:
        """One of the commands that begin with a backslash."""
        word, _, rest = text.partition(" ")
        word = word.rstrip("+;")
        name = rest.strip().rstrip(";")
        if word == r"\timing":
            self._timing = not self._timing
            self._tell(f"Timing is {'on' if self._timing else 'off'}.")
        elif word in (r"\?", r"\h"):
            self._tell(HELP)
        elif word == r"\d" and name:
            return self.statement(f"DESCRIBE {name}")
        elif word in _KINDS:
            return self._list(_KINDS[word])
        else:
            self._tell(f"`{word}` is no command; \\? lists them.")
            return False
        return True

    def statement(self, sql: str) -> bool:
        """Run one and show it. Whether it went well."""
        try:
            answer = self._ask(sql)
        except psycopg.Error as error:
            self._explain(error, sql)
            return False
        except KeyboardInterrupt:
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel()
            self._tell("cancelled")
            return False
        self._show(answer)
        return True

    def _ask(self, sql: str) -> Answer:
        began = time.monotonic()
        cursor = self._connection.execute(sql.encode())
        seconds = time.monotonic() - began
        result = cursor.pgresult
        if cursor.description is None or result is None:
            return Answer(cursor.statusmessage or "", seconds=seconds)
        values = [[result.get_value(row, i) for i in range(result.nfields)] for row in range(result.ntuples)]
        rows = tuple(tuple(None if value is None else value.decode() for value in row) for row in values)
        return Answer(cursor.statusmessage or "", tuple(column.name for column in cursor.description), rows, seconds)

    def _list(self, kinds: Iterable[str]) -> bool:
        rows: list[tuple[str | None, ...]] = []
        for kind in kinds:
            try:
                found = self._ask(f"SHOW {kind}")
            except psycopg.Error as error:
                self._explain(error, f"SHOW {kind}")
                return False
            rows += [(row[0], kind.removesuffix("S").lower()) for row in found.rows]
        self._show(Answer(f"SHOW {len(rows)}", ("name", "kind"), tuple(rows)))
        return True

    # Output

    def _show(self, answer: Answer) -> None:
        if self._as_json:
            shown: Any = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows] if answer.columns else answer.tag
            self._print_plain(json.dumps(shown, ensure_ascii=False))
            return
        if answer.columns:
            table = Table(box=None, pad_edge=False, show_edge=False)
            for name in answer.columns:
                table.add_column(Text(name, "bold"))
            for row in answer.rows:
                table.add_row(*(Text("NULL", "dim") if cell is None else Text(cell) for cell in row))
            width = None if self._console.is_terminal else 10_000  # a pipe has no edge
            self._console.print(table, width=width)
            self._console.print(f"({len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'})")
        else:
            self._console.print(answer.tag)
        if self._timing:
            self._console.print(f"Time: {answer.seconds * 1000:.1f} ms")

    def _print_plain(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def _explain(self, error: psycopg.Error, sql: str) -> None:
        """What PostgreSQL clients show: the text, the place, the way out."""
        told = [f"ERROR [{error.sqlstate or '08000'}]: {(error.diag.message_primary or str(error)).strip()}"]
        position = int(error.diag.statement_position or 0)
        if 0 < position <= len(sql):
            before = sql[: position - 1]
            line = sql.splitlines()[before.count("\n")]
            label = f"LINE {before.count(chr(10)) + 1}: "
            told += [label + line, " " * (len(label) + position - 2 - before.rfind("\n")) + "^"]
        if error.diag.message_hint:
            told.append(f"HINT: {error.diag.message_hint}")
        self._tell("\n".join(told))

    def _tell(self, text: str) -> None:
        """What is no result goes to stderr."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def history(file: Path) -> Any:  # Any: a context manager without a value
    """Arrow keys and a history that is kept, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(1_000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
