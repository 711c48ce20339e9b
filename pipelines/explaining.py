"""The plan by which the stream database keeps an object up to date."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psycopg

from core.errors import InvalidInputError
from pipelines import snapshot, sqltext
from pipelines.lineage import must_find
from pipelines.planning import NEXT
from pipelines.statements import split
from pipelines.template import render

_WITH_PLAN = ("MATERIALIZED VIEW", "SINK", "TABLE", "SOURCE", "INDEX", "SUBSCRIPTION")


def explain(connection: psycopg.Connection, what: str, values: Mapping[str, str]) -> dict[str, list[str]]:
    """Lines of the plan by object name.

    Args:
        what: an object's name, or a file whose CREATE statements are explained.
        values: of the placeholders in the file.

    Raises:
        NotFoundError: there is neither such a file nor such an object.
        InvalidInputError: the database refuses the statement.
    """
    path = Path(what)
    if path.suffix == ".sql" and path.is_file():
        statements = split(render(what, path.read_text(encoding="utf-8"), values))
        chosen = [(each.name, each.text, each.place()) for each in statements if each.kind in _WITH_PLAN]
    else:
        found = snapshot.read(connection)
        each = must_find(what, found)
        chosen = [(each.name, _bindable(found, each), each.name)]
    return {name: _explain(connection, name, text, place) for name, text, place in chosen}


def _bindable(found: snapshot.Snapshot, each: snapshot.Deployed) -> str:
    """A view that is expanded where it is used has the plan of its query; the others that of their statement."""
    text = found.text(each)
    if each.kind == "VIEW":
        return sqltext.query_of(text) or text
    return text


def _explain(connection: psycopg.Connection, name: str, text: str, place: str) -> list[str]:
    free = sqltext.with_name(text, f"{name}{NEXT}") if text.lstrip()[:6].upper() == "CREATE" else text
    try:
        return [str(row[0]) for row in connection.execute(f"EXPLAIN {free}".encode()).fetchall()]
    except psycopg.Error as error:
        said = (error.diag.message_primary or str(error)).splitlines()[0]
        raise InvalidInputError(
            f"the stream database does not explain `{name}`: {said}", where=place, fix=error.diag.message_hint
        ) from error
