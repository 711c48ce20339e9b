"""What a CREATE statement says, read from its text, and the same statement under other names.

The text is cut and spliced, never printed anew: what runs is what was written, but for the names that must differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.dialects.risingwave import RisingWave
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token

_PLAIN = re.compile("[a-z_][a-z0-9_]*")
_DEFAULT_SCHEMA = "public"


@dataclass(frozen=True)
class Reference:
    """A name of a relation in a text; `bare` if no alias follows, so that columns may be qualified by the name itself."""

    start: int
    end: int
    name: str
    bare: bool


@dataclass(frozen=True)
class ColumnText:
    """One column of CREATE TABLE or CREATE SOURCE: its name, and its definition as written."""

    name: str
    text: str


def quote(name: str) -> str:
    """A name, perhaps with its schema, as one has to write it."""
    return ".".join(part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in name.split("."))


def canonical(sql: str) -> str:
    """The words of a text without layout and comments, unquoted ones in lower case."""
    return "\x00".join(word if word[:1] in "'\"$" else word.lower() for word, _ in _words(sql))


def same_meaning(one: str, other: str) -> bool:
    """Whether two texts differ in nothing but layout, comments, capitals, and words that one may leave out."""
    if canonical(one) == canonical(other):
        return True
    queries = [(query_of(text), text) for text in (one, other)]
    if any(query is None for query, _ in queries):
        return False
    heads = [canonical(text.replace(query or "", " ", 1)) for query, text in queries]
    trees = [_parse(canonical(query or "").replace("\x00", " ")) for query, _ in queries]
    return heads[0] == heads[1] and trees[0] is not None and trees[0] == trees[1]


def query_of(sql: str) -> str | None:
    """The query of CREATE VIEW, MATERIALIZED VIEW or SINK ... AS, without EMIT ON WINDOW CLOSE and the WITH of a sink."""
    span = _query_span(sql)
    return sql[span[0] : span[1]] if span is not None else None


def column_names(sql: str) -> tuple[str, ...]:
    """The names in `CREATE VIEW v (a, b) AS`; empty if there are none."""
    words = _words(sql)
    at = _name_end(words)
    if at >= len(words) or words[at][0] != "(":
        return ()
    names = []
    for word, _ in words[at + 1 :]:
        if word == ")":
            break
        if word != ",":
            names.append(_fold(word))
    return tuple(names)


def columns_and_rest(sql: str) -> tuple[list[ColumnText], str]:
    """The columns of CREATE TABLE or CREATE SOURCE in order, and all that is no column, as canonical text."""
    words = _words(sql)
    at = _name_end(words)
    if at >= len(words) or words[at][0] != "(":
        return [], canonical(sql)
    items: list[list[tuple[str, Token]]] = [[]]
    depth, end = 0, at
    for number in range(at, len(words)):
        word = words[number][0]
        depth += (word in "([") - (word in ")]")
        if depth == 0:
            end = number
            break
        if word == "," and depth == 1:
            items.append([])
        elif number > at:
            items[-1].append(words[number])
    columns, rest = [], [word.lower() if word[:1] not in "'\"$" else word for word, _ in words[:at] + words[end + 1 :]]
    for item in items:
        if not item:
            continue
        text = sql[item[0][1].start : item[-1][1].end + 1]
        if item[0][0].upper().split()[0] in ("PRIMARY", "WATERMARK", "FOREIGN", "UNIQUE", "CONSTRAINT"):
            rest.append(canonical(text))
        else:
            columns.append(ColumnText(_fold(item[0][0]), text))
    return columns, "\x00".join(rest)


def included(sql: str) -> list[tuple[str, str]]:
    """(what, column) of the INCLUDE clauses that name their column."""
    words = [word for word, _ in _words(sql)]
    return [
        (words[at + 1].lower(), _fold(words[at + 3]))
        for at in range(len(words) - 3)
        if words[at].upper() == "INCLUDE" and words[at + 2].upper() == "AS"
    ]


def references(sql: str) -> list[Reference] | None:
    """Where the text names relations that it reads, in order; None if the text is beyond us."""
    words = _words(sql)
    upper = [word.upper() for word, _ in words]
    span = _query_span(sql)
    if span is not None:
        tree = _parse(sql[span[0] : span[1]])
        if tree is None:
            return None
        return sorted(_in_query(tree, span[0]), key=lambda found: found.start)
    for keyword in ("FROM", "ON"):
        if keyword in upper and upper[1] in ("SINK", "SUBSCRIPTION", "INDEX"):
            at = upper.index(keyword) + 1
            last = _end_of_name(words, at)
            name = _joined([_fold(word) for word, _ in words[at : last + 1] if word != "."])
            return [Reference(words[at][1].start, words[last][1].end + 1, name, bare=False)]
    return []


def calls(sql: str, name: str) -> list[int]:
    """Where the text calls a function of that name."""
    words = _words(sql)
    return [
        token.start
        for number, (word, token) in enumerate(words[:-1])
        if _fold(word) == name and words[number + 1][0] == "(" and not (number and words[number - 1][0] == ".")
    ]


def retarget(sql: str, relations: Mapping[str, str], functions: Mapping[str, str]) -> str:
    """The text reading other relations and calling other functions; columns stay qualified by the names that they had.

    Args:
        relations, functions: name in the text to the name to be there.
    """
    splices: list[tuple[int, int, str]] = []
    for found in references(sql) or ():
        if found.name in relations:
            alias = f" AS {quote(found.name.rpartition('.')[2])}" if found.bare else ""
            splices.append((found.start, found.end, quote(relations[found.name]) + alias))
    body = _words(sql)[_name_end(_words(sql)) :]
    first = body[0][1].start if body else len(sql)
    for old, new in functions.items():
        length = len(old)
        for start in calls(sql, old):
            if start >= first:
                width = length + 2 if sql[start] == '"' else length
                splices.append((start, start + width, quote(new)))
    for start, end, text in sorted(splices, reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def with_name(sql: str, name: str) -> str:
    """The CREATE statement making an object of another name."""
    words = _words(sql)
    at = _name_start(words)
    return sql[: words[at][1].start] + quote(name) + sql[words[_end_of_name(words, at)][1].end + 1 :]


def with_option(sql: str, option: str, value: str) -> str:
    """The CREATE SINK statement with one option more in its WITH clause, or with that option's value replaced."""
    words = _words(sql)
    upper = [word.upper() for word, _ in words]
    for number, word in enumerate(upper):
        if word == option.upper() and upper[number + 1] == "=":
            token = words[number + 2][1]
            return f"{sql[: token.start]}'{value}'{sql[token.end + 1 :]}"
    at = next((n for n in range(len(upper) - 1) if upper[n] == "WITH" and upper[n + 1] == "("), None)
    if at is None:
        return f"{sql} WITH ({option} = '{value}')"
    end = words[at + 1][1].end + 1
    return f"{sql[:end]}{option} = '{value}', {sql[end:]}"


def with_symbol(sql: str, name: str, new: str) -> str:
    """The CREATE FUNCTION statement with what it needs to be created as `new`: code and servers know it as `name`."""
    words = _words(sql)
    upper = [word.upper() for word, _ in words]
    if "USING" in upper:
        using = upper.index("USING")
        at = words[using][1].start
        return sql if "AS" in upper[:using] else f"{sql[:at]}AS {quote(name)} {sql[at:]}"
    body = next(
        (token for before, (word, token) in zip(upper, words[1:], strict=False) if before == "AS" and word[0] in "$'"), None
    )
    if body is None or "PYTHON" not in upper:
        return sql
    closing = 1 if sql[body.start] == "'" else sql.index("$", body.start + 1) + 1 - body.start
    end = body.end + 1 - closing
    return f"{sql[:end].rstrip()}\n{new} = {name}\n{sql[end:]}"


# -- below: called by the above


def _words(sql: str) -> list[tuple[str, Token]]:
    return [(sql[token.start : token.end + 1], token) for token in sqlglot.tokenize(sql, read=RisingWave)]


def _name_start(words: Sequence[tuple[str, Token]]) -> int:
    """The index of the created object's name."""
    skipped = {"CREATE", "OR", "REPLACE", "MATERIALIZED", "IF", "NOT", "EXISTS", "MATERIALIZED VIEW"}
    at = 1
    while at < len(words) - 1 and (at == 1 or words[at][0].upper() in skipped or words[at - 1][0].upper() == "MATERIALIZED"):
        at += 1
    return at


def _name_end(words: Sequence[tuple[str, Token]]) -> int:
    """The index of the word behind the created object's name."""
    return _end_of_name(words, _name_start(words)) + 1


def _end_of_name(words: Sequence[tuple[str, Token]], at: int) -> int:
    while at + 2 < len(words) and words[at + 1][0] == ".":
        at += 2
    return at


def _query_span(sql: str) -> tuple[int, int] | None:
    words = _words(sql)
    depth, start = 0, None
    for number, (word, _) in enumerate(words):
        depth += (word == "(") - (word == ")")
        upper = word.upper()
        if start is None:
            follows = words[number + 1][0].upper() if number + 1 < len(words) else ""
            if depth == 0 and upper == "AS" and follows in ("SELECT", "WITH", "VALUES", "("):
                start = words[number + 1][1].start
        elif depth == 0 and (
            (upper == "EMIT" and words[number + 1][0].upper() == "ON")
            or (upper == "WITH" and words[number - 1][0].upper() != "AS" and words[1][0].upper() == "SINK")
        ):
            return start, words[number - 1][1].end + 1
    return (start, words[-1][1].end + 1) if start is not None else None


def _parse(query: str) -> exp.Query | exp.Values | None:
    try:
        tree = sqlglot.parse_one(query, read=RisingWave)
    except SqlglotError:
        return None
    return tree if isinstance(tree, exp.Query | exp.Values) else None


def _in_query(tree: exp.Query | exp.Values, offset: int) -> Iterator[Reference]:
    for table in tree.find_all(exp.Table):
        parts = [part for part in table.parts if isinstance(part, exp.Identifier)]
        if isinstance(table.this, exp.Func):
            first = next(iter(table.this.expressions), None)
            column = first if isinstance(first, exp.Column) else None
            parts = [part for part in column.parts if isinstance(part, exp.Identifier)] if column is not None else []
        if not parts or any("start" not in part.meta for part in parts):
            continue
        name = _joined([part.this if part.quoted else part.this.lower() for part in parts])
        if len(parts) == 1 and _is_local(table, name):
            continue
        start, end = offset + parts[0].meta["start"], offset + parts[-1].meta["end"] + 1
        bare = not isinstance(table.this, exp.Func) and not table.alias
        yield Reference(start, end, name, bare)


def _is_local(table: exp.Table, name: str) -> bool:
    """Whether a WITH around the table defines this name where the table stands."""
    inside: exp.Expr = table
    parent: exp.Expr | None = table.parent
    while parent is not None:
        clause = parent.args.get("with_") or parent.args.get("with")
        if isinstance(clause, exp.With):
            for each in clause.expressions:
                if inside is clause and table.find_ancestor(exp.CTE) is not None and _within(table, each):
                    if clause.args.get("recursive") and each.alias == name:
                        return True
                    break
                if each.alias == name:
                    return True
        inside, parent = parent, parent.parent
    return False


def _within(node: exp.Expr, around: exp.Expr) -> bool:
    current: exp.Expr | None = node
    while current is not None and current is not around:
        current = current.parent
    return current is around


def _joined(parts: Sequence[str]) -> str:
    """A name with its schema, which is left out where it is the default one."""
    shown = parts[1:] if len(parts) == 2 and parts[0] == _DEFAULT_SCHEMA else parts
    return ".".join(shown)


def _fold(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word.lower()
