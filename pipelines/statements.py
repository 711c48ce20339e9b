"""Splits SQL text into statements and says what each one makes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot.dialects.risingwave import RisingWave
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from core.errors import InvalidInputError
from pipelines.template import Rendered

KINDS = (
    "MATERIALIZED VIEW", "VIEW", "TABLE", "SOURCE", "SINK", "FUNCTION", "AGGREGATE", "SUBSCRIPTION", "INDEX", "SCHEMA",
    "CONNECTION", "SECRET",
)  # fmt: skip

PASSED_THROUGH = frozenset(
    {"SELECT", "WITH", "VALUES", "SHOW", "SET", "FLUSH", "DECLARE", "FETCH", "CLOSE", "EXPLAIN", "DESCRIBE"}
)
"""First words of statements that describe no object; they are run every time."""


@dataclass(frozen=True)
class SqlStatement:
    """One statement of a file.

    Attributes:
        start: offset of its first character in the rendered text.
        kind: what it creates, e.g. `MATERIALIZED VIEW`, or None when it creates nothing.
        name: the created object's name, folded as PostgreSQL folds it; empty when it creates nothing.
        fingerprint: of its tokens, so that layout and comments do not count as a change.
    """

    origin: Rendered
    start: int
    text: str
    kind: str | None
    name: str
    fingerprint: str

    def place(self, position: int | None = None) -> str:
        """`file:line:column` of a 1-based character position inside the statement, or of its start."""
        return self.origin.place(self.start + (position - 1 if position else 0))


def split(rendered: Rendered) -> list[SqlStatement]:
    """Cut a rendered file at its semicolons.

    Raises:
        InvalidInputError: a literal or comment does not end, or a statement is not one that a pipeline folder may hold.
    """
    return [_statement(rendered, group) for group in _groups(_tokens(rendered))]


def pieces(rendered: Rendered) -> list[tuple[int, str]]:
    """Cut any SQL at its semicolons: the offset and the text of each statement.

    Raises:
        InvalidInputError: a literal or comment does not end.
    """
    return [(g[0].start, rendered.text[g[0].start : g[-1].end + 1]) for g in _groups(_tokens(rendered))]


def _tokens(rendered: Rendered) -> list[Token]:
    try:
        return sqlglot.tokenize(rendered.text, read=RisingWave)
    except TokenError as error:
        raise InvalidInputError(f"this is no SQL: {error}", where=rendered.path) from error


def _groups(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    group: list[Token] = []
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            if group:
                yield group
            group = []
        else:
            group.append(token)
    if group:
        yield group


def _statement(rendered: Rendered, tokens: list[Token]) -> SqlStatement:
    start, end = tokens[0].start, tokens[-1].end + 1
    text = rendered.text[start:end]
    words = [text[token.start - start : token.end + 1 - start] for token in tokens]
    fingerprint = hashlib.sha256("\x00".join(words).encode()).hexdigest()[:16]
    upper = [word.upper() for word in words[:12]]
    if upper[0] in PASSED_THROUGH:
        return SqlStatement(rendered, start, text, None, "", fingerprint)
    if upper[0] != "CREATE":
        raise InvalidInputError(
            f"`{words[0]}` does not belong into a pipeline folder",
            where=rendered.place(start),
            fix="SQL files describe objects by CREATE; rows such as routes stand in pipeline.yaml.",
        )
    kind, rest = _kind(upper)
    if kind is None:
        raise InvalidInputError(f"`CREATE {words[1] if len(words) > 1 else ''}` is not known here", where=rendered.place(start))
    if upper[rest : rest + 3] == ["IF", "NOT", "EXISTS"]:
        rest += 3
    if rest >= len(words):
        raise InvalidInputError(f"`CREATE {kind}` has no name", where=rendered.place(start))
    return SqlStatement(rendered, start, text, kind, _name(words, rest), fingerprint)


def _kind(upper: Sequence[str]) -> tuple[str | None, int]:
    """What is created, and the index of the word after it."""
    at = 3 if upper[1:3] == ["OR", "REPLACE"] else 1
    for kind in KINDS:
        words = kind.split()
        if list(upper[at : at + len(words)]) == words:
            return kind, at + len(words)
    if " ".join(upper[at : at + 1]) in KINDS:  # the tokenizer may give `MATERIALIZED VIEW` as one token
        return upper[at], at + 1
    return None, at


def _name(words: Sequence[str], at: int) -> str:
    parts = [_fold(words[at])]
    while at + 2 < len(words) and words[at + 1] == ".":
        at += 2
        parts.append(_fold(words[at]))
    return ".".join(parts)


def _fold(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word.lower()
