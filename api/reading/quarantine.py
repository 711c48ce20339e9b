"""Rows that could not be used, newest first, with their original bytes."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import NamedTuple

from psycopg import sql

from api.database import Reads
from api.reading.predictions import MAX_PAGE, Page
from core.errors import InvalidInputError

_ORDER = sql.SQL("ORDER BY kafka_offset DESC, kafka_partition DESC")


class Place(NamedTuple):
    """A record of the stream's topic."""

    offset: int
    partition: int

    def encode(self) -> str:
        return base64.urlsafe_b64encode(f"q1|{self.offset}|{self.partition}".encode()).decode()

    @staticmethod
    def parse(cursor: str) -> Place:
        """Read what `encode` wrote.

        Raises:
            InvalidInputError: it is something else.
        """
        try:
            version, offset, partition = base64.urlsafe_b64decode(cursor.encode("ascii")).decode().split("|")
            if version == "q1":
                return Place(int(offset), int(partition))
        except (ValueError, binascii.Error):
            pass
        raise InvalidInputError("that is no cursor of a quarantine", fix="Use `endCursor` or the `cursor` of an edge.")


@dataclass(frozen=True)
class Quarantine:
    """Reads relation `quarantine`."""

    database: Reads

    async def page(self, stream: str, *, first: int, after: str | None) -> Page:
        """The next `first` rows of a stream's quarantine after a cursor.

        Raises:
            InvalidInputError: `first` or the cursor is out of bounds.
            UnavailableError: the stream database is away.
        """
        if not 1 <= first <= MAX_PAGE:
            raise InvalidInputError(f"`first` is {first}", fix=f"Ask for 1 to {MAX_PAGE} rows.")
        clause = sql.SQL("WHERE stream = %s") + sql.SQL("")
        beyond: list[int] = []
        if after is not None:
            place = Place.parse(after)
            clause += sql.SQL(" AND (kafka_offset < %s OR (kafka_offset = %s AND kafka_partition < %s))")
            beyond = [place.offset, place.offset, place.partition]
        statement = sql.SQL(
            "SELECT stream, kafka_partition, kafka_offset, reason, received_at, payload FROM quarantine {} {} LIMIT {}"
        ).format(clause, _ORDER, sql.Literal(first + 1))
        rows = await self.database.fetch(statement, [stream, *beyond])
        return Page(rows[:first], len(rows) > first)
