"""Opens what lineage is read from, and reads it in the wanted direction."""

from __future__ import annotations

from core.errors import InvalidInputError
from core.settings import Settings
from headrace.lineage.downstream import KINDS, Downstream
from headrace.lineage.graph import Graph
from headrace.lineage.sources import Database, Lake, open_database
from headrace.lineage.upstream import Upstream


def trace(settings: Settings, of: str, *, down: bool = False, limit: int = 100, offline: bool = False) -> Graph:
    """The lineage of a thing.

    Args:
        of: an id as `headrace.lineage.graph` has them; a bare one is a prediction's.
        down: what came of it; otherwise what it came from, which only predictions have.
        offline: leave the stream database and the topics alone.

    Raises:
        InvalidInputError: the id is malformed, or the direction does not fit it.
        NotFoundError: it is not known.
    """
    kind, colon, name = of.partition(":")
    if not colon or kind not in KINDS:
        kind, name = "prediction", of
    if not down and kind != "prediction":
        raise InvalidInputError(f"`{of}` was made from nothing that is recorded", fix="Give --down for what came of it.")
    lake = Lake(settings)
    connection, said = (None, "--offline") if offline else open_database(settings)
    try:
        database = Database(connection, settings) if connection is not None else None
        graph = Downstream(lake, database, limit).trace(kind, name) if down else Upstream(lake, database).trace(name)
    finally:
        if connection is not None:
            connection.close()
    if connection is None:
        graph.miss(f"the stream database was not read: {said}")
    return graph
