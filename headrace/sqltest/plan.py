"""What a case's SQL says about its inputs: which relations read a topic, which columns they have, which functions are called.

The SQL goes to the database as text. Here it is only looked into, by the engine's own parser; what the parser refuses is left
for the database to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.errors import HeadraceError, InvalidInputError
from engine.sql.errors import SqlError
from engine.sql.parser import parse
from engine.sql.statements import CreateFunction, CreateSource, CreateTable, Statement
from engine.sql.types import SqlType
from headrace.sqltest.model import Case, Script, shown
from pipelines.folder import DATA_FILE, SourceGuard, load
from pipelines.statements import pieces
from pipelines.template import VARIABLES, Rendered, render

PLACEHOLDERS: Mapping[str, str] = dict.fromkeys(VARIABLES, "127.0.0.1:1")
"""Values good enough to look into the SQL before anything runs."""


@dataclass(frozen=True)
class Piece:
    """One statement to run."""

    text: str
    start: int
    origin: Rendered
    parsed: Statement | None
    guard: SourceGuard | None = None

    def place(self, position: int | None = None) -> str:
        """`file:line:column` of a 1-based character position inside the statement, or of its start."""
        return self.origin.place(self.start + (position - 1 if position else 0))


@dataclass(frozen=True)
class Fed:
    """A relation that reads a topic."""

    name: str
    topic: str
    columns: Mapping[str, SqlType]
    encode: str


@dataclass(frozen=True)
class Signature:
    """A function that a UDF server answers; `name` is the server's."""

    name: str
    arguments: tuple[tuple[str, SqlType], ...]
    returns: SqlType


def pieces_of(script: Script, variables: Mapping[str, str]) -> list[Piece]:
    """The statements of a script, filled in.

    Raises:
        InvalidInputError: a placeholder has no value, or a literal does not end.
    """
    # Lines before an inline block are put back as empty ones, so that places are those of the file.
    source = "\n" * (script.line - 1) + script.text
    try:
        rendered = render(shown(script.path), source, variables)
    except InvalidInputError as error:
        if "${UDF_URL}" not in error.what:
            raise
        fix = "Answer the function under `functions:` in the test file, or give the address of a UDF server by --udf-url."
        raise InvalidInputError("`${UDF_URL}` has no value", where=error.where, fix=fix) from error
    data = script.path.parent / DATA_FILE
    guards = load(script.path.parent).data.sources if script.path.suffix == ".sql" and data.is_file() else {}
    result = []
    for start, text in pieces(rendered):
        parsed = _parsed(text)
        guard = guards.get(parsed.name.name) if isinstance(parsed, CreateSource) else None
        result.append(Piece(text, start, rendered, parsed, guard))
    return result


def fed_relations(scripts: Sequence[Piece]) -> dict[str, Fed]:
    """Relations by name that are fed by a topic; what else a case feeds is a table."""
    found = {}
    for piece in scripts:
        statement = piece.parsed
        if not isinstance(statement, (CreateSource, CreateTable)) or statement.options.get("connector") != "kafka":
            continue
        topic = statement.options.get("topic") or statement.options.get("kafka.topic")
        if topic:
            columns = {column.name: column.type for column in statement.columns if column.generated is None}
            encode = statement.format.encode.lower() if statement.format else "json"
            found[statement.name.name] = Fed(statement.name.name, topic, columns, encode)
    return found


def signatures(case: Case, scripts: Sequence[Piece]) -> dict[str, Signature]:
    """Of the functions that the case answers itself, by their SQL name.

    Raises:
        InvalidInputError: no statement creates such a function.
    """
    created = dict(_linked(scripts))
    for stub in case.stubs:
        if stub.name not in created:
            known = ", ".join(f"`{name}`" for name in created) or "none"
            raise InvalidInputError(
                f"no SQL of this case creates the function `{stub.name}`",
                where=str(stub.place),
                fix=f"Functions with `USING LINK` are: {known}.",
            )
    return {stub.name: created[stub.name] for stub in case.stubs}


def _linked(scripts: Sequence[Piece]) -> Iterator[tuple[str, Signature]]:
    for piece in scripts:
        made = piece.parsed
        if isinstance(made, CreateFunction) and made.link is not None and made.returns is not None:
            arguments = tuple((name or f"${i}", type_) for i, (name, type_) in enumerate(made.arguments, start=1))
            yield made.name.name, Signature(made.body or made.name.name, arguments, made.returns)


def _parsed(text: str) -> Statement | None:
    try:
        found = parse(text)
    except (SqlError, HeadraceError):
        return None
    return found[0] if len(found) == 1 else None
