"""Opens what lineage is read from, and reads it in the wanted direction."""

from __future__ import annotations

from contextlib import ExitStack

from core.errors import InvalidInputError, UnavailableError
from headrace.lineage.downstream import KINDS, Downstream
from headrace.lineage.graph import Graph
from headrace.lineage.sources import Database, Lake
from headrace.lineage.upstream import Upstream
from headrace.places import Place


def trace(place: Place, of: str, *, down: bool = False, limit: int = 100, offline: bool = False) -> Graph:
    """The lineage of a thing.

    Args:
        place: the data folder's platform; where it is stopped, only its lake is read.
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
    lake, said = Lake(place.settings), "--offline"
    database: Database | None = None
    with ExitStack() as stack:
        if not offline:
            try:
                database = Database(stack.enter_context(place.connect()), place.settings)
            except UnavailableError as error:
                said = str(error).splitlines()[0]
        graph = Downstream(lake, database, limit).trace(kind, name) if down else Upstream(lake, database).trace(name)
    if database is None:
        graph.miss(f"the stream database was not read: {said}")
    return graph
