"""COMMENT ON: texts about relations and columns, which DESCRIBE shows. On the writer thread, between epochs."""

from __future__ import annotations

from dataclasses import replace

from engine.catalog.objects import Relation
from engine.runtime.engine import Engine
from engine.sql.errors import UndefinedColumn
from engine.sql.statements import Comment


def comment(engine: Engine, statement: Comment, database: str, path: tuple[str, ...]) -> None:
    """Run COMMENT ON.

    Raises:
        SqlError: there is no such relation or column.
    """
    found = engine.catalog.seen_from(path).must_find(statement.name, database)
    position = 0
    if statement.column is not None:
        columns = found.columns if isinstance(found, Relation) else ()
        names = {c.name: i for i, c in enumerate(columns, start=1) if not c.hidden}
        if statement.column not in names:
            raise UndefinedColumn(
                f"column `{statement.column}` of relation `{found.name}` does not exist",
                position=statement.name.position,
                fix=f"Known: {', '.join(names)}.",
            )
        position = names[statement.column]
    with engine.store.transaction() as connection:
        connection.execute("DELETE FROM hr.comments WHERE object = ? AND position = ?", [found.id, position])
        if statement.comment is not None:
            connection.execute("INSERT INTO hr.comments VALUES (?, ?, ?)", [found.id, position, statement.comment])
    engine.catalog = engine.catalog.with_comment(found.id, position, statement.comment)


def recover_comments(engine: Engine) -> None:
    """Read them back when a folder is opened."""
    rows = engine.store.writer.execute("SELECT object, position, text FROM hr.comments").fetchall()
    engine.catalog = replace(engine.catalog, comments={(number, position): text for number, position, text in rows})
