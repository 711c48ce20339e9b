"""SQL text of objects: names as one has to write them, a statement under a new name, a table as it is now."""

from __future__ import annotations

import re

from engine.catalog.objects import Input
from engine.sql.expressions import Literal
from engine.sql.parser import parse
from engine.sql.parser.clauses import SECRET_MARK
from engine.sql.parser.keywords import RESERVED
from engine.sql.parser.tokens import tokenize

_PLAIN_NAME = re.compile("[a-z_][a-z0-9_]*")


def quote_name(name: str) -> str:
    """An identifier as one has to write it."""
    plain = _PLAIN_NAME.fullmatch(name) and name not in RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


def with_name(sql: str, name: str) -> str:
    """A CREATE statement under another name; a schema that was written before it stays."""
    (statement,) = parse(sql)
    written = statement.name  # type: ignore[attr-defined]  # every stored statement creates something with a name
    tokens = [t for t in tokenize(sql) if t.position >= (written.position or 0)]
    last = 0
    while tokens[last + 1].text == ".":
        last += 2
    return sql[: tokens[last].start] + quote_name(name) + sql[tokens[last].end :]


def definition(relation: Input) -> str:
    """CREATE TABLE or CREATE SOURCE of a relation whose columns were altered, as it is now."""
    columns = []
    for column in relation.visible:
        text = f"{quote_name(column.name)} {column.type.sql}"
        if column.not_null:
            text += " NOT NULL"
        if isinstance(column.default, Literal):
            value = column.default.value
            shown = "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
            text += f" DEFAULT {shown}"
        columns.append(text)
    if relation.primary_key:
        columns.append(f"PRIMARY KEY ({', '.join(quote_name(relation.columns[p].name) for p in relation.primary_key)})")
    text = f"CREATE {relation.kind.upper()} {quote_name(relation.name)} ({', '.join(columns)})"
    if relation.append_only and relation.kind == "table":
        text += " APPEND ONLY"
    if relation.options:
        text += f" WITH ({', '.join(f'{k} = {_option(k, v)}' for k, v in relation.options.items())})"
    if relation.format is not None:
        text += f" FORMAT {relation.format.format} ENCODE {relation.format.encode}"
    return text


def _option(name: str, value: str) -> str:
    """As it was written: a secret and a connection by name."""
    if value.startswith(SECRET_MARK):
        return f"SECRET {value.removeprefix(SECRET_MARK)}"
    return value if name == "connection" else _literal(value)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
