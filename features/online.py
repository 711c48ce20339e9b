"""Online reads: what is known of some entities now, in one statement whatever the number of views.

The answer says for each view how far the stream was read when it was given (`as_of`, `position`, `lag_seconds`), and for each
entity and view whether there is a row (`present`), none (`missing`), or one that is older than the ttl (`expired`; its values
are NULL then). Columns come in the order asked.

`latest_<view>` holds each entity's last row, `positions_<events>` the last offset and event time of each partition of the source
that went into the views. Both are materialized views of the same stream database, so they are of one epoch, and a read that waits
for the position of an event sees what the event did (read-your-writes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import psycopg

from core.errors import InvalidInputError, NotFoundError, UnavailableError
from features.declaration import FeatureView
from features.lake import quote
from features.packing import Pack, packs
from features.references import Chosen, by_view

Status = Literal["present", "missing", "expired"]
type_connection = psycopg.Connection[tuple[Any, ...]]

_POLL_SECONDS = 0.02  # an epoch takes a quarter of a second; the wait is found out a tenth of that later at most


@dataclass(frozen=True)
class ViewState:
    """How far a view had come when it was read.

    Attributes:
        as_of: event time up to which the source was read; the newest row's time where the source tells none.
        lag_seconds: wall-clock time less `as_of`.
        position: the last offset by partition that went in.
    """

    as_of: datetime | None
    lag_seconds: float | None
    position: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a view has on one entity."""

    status: Status
    timestamp: datetime | None = None
    age_seconds: float | None = None


@dataclass(frozen=True)
class Row:
    """One entity: its key, the values by column in the order asked, and by view what there was."""

    entity: Mapping[str, str]
    values: Mapping[str, Any]  # Any: whatever types the features have
    views: Mapping[str, Found]


@dataclass(frozen=True)
class Answer:
    read_at: datetime
    views: Mapping[str, ViewState]
    rows: Sequence[Row]


def statement(chosen: Sequence[Chosen], entities: Sequence[Mapping[str, str]]) -> tuple[str, list[str]]:
    """The one statement and its parameters.

    Raises:
        InvalidInputError: an entity lacks a key column, or has one that no view has.
    """
    grouped = by_view(chosen)
    keys = list(dict.fromkeys(key for asked in grouped.values() for key in asked[0].view.entity))
    for number, entity in enumerate(entities, start=1):
        if set(entity) != set(keys):
            given = ", ".join(f"{name}={value}" for name, value in entity.items())
            raise InvalidInputError(f"entity {number} (`{given}`) does not name exactly {', '.join(keys)}")
    if not entities:
        raise InvalidInputError("no entity is asked for", fix=f"Name {', '.join(keys)} of each.")
    tuples = ", ".join("(" + ", ".join([str(i), *["%s"] * len(keys)]) + ")" for i in range(len(entities)))
    parameters = [str(entity[key]) for entity in entities for key in keys]
    select, joins = ["k.n"], []
    for number, asked in enumerate(grouped.values()):
        view, alias = asked[0].view, f"v{number}"
        select += [*_position(view), f"{alias}.{quote(view.timestamp)}"]
        select += [f"{alias}.{quote(pack.column)}" for pack in _needed(asked)]
        equal = " AND ".join(f"{alias}.{quote(key)} = k.{quote(key)}" for key in view.entity)
        joins.append(f"LEFT JOIN {quote(view.latest)} AS {alias} ON {equal}")
    columns = ", ".join(["n", *map(quote, keys)])
    named = ", ".join(f"{each} AS c{i}" for i, each in enumerate(select))
    return f"SELECT {named} FROM (VALUES {tuples}) AS k({columns}) {' '.join(joins)}", parameters


def decode(
    chosen: Sequence[Chosen], entities: Sequence[Mapping[str, str]], fetched: Sequence[Sequence[Any]], now: datetime
) -> Answer:
    """What the statement's rows say, in the order in which entities were asked for."""
    grouped = by_view(chosen)
    states: dict[str, ViewState] = {}
    rows: list[Row | None] = [None] * len(entities)
    order = [each.column for each in chosen]
    for record in fetched:
        cells = iter(record)
        number = int(next(cells))
        values: dict[str, Any] = {}
        found: dict[str, Found] = {}
        for name, asked in grouped.items():
            view = asked[0].view
            as_of, position = (next(cells), next(cells))
            stamp = next(cells)
            if name not in states:
                states[name] = _state(as_of, position, now)
            found[name] = _found(view, stamp, now)
            there = found[name].status == "present"
            held = {
                feature: value
                for pack in _needed(asked)
                for feature, value in zip(pack.features, pack.unpack(next(cells)), strict=True)
            }
            values.update({each.column: held[each.feature.name] if there else None for each in asked})
        rows[number] = Row(entities[number], {name: values[name] for name in order}, found)
    missing = [i for i, row in enumerate(rows) if row is None]
    assert not missing, "a left join keeps every entity"
    return Answer(now, states, [row for row in rows if row is not None])


def get(
    connection: type_connection,
    chosen: Sequence[Chosen],
    entities: Sequence[Mapping[str, str]],
    now: Callable[[], datetime],
    *,
    after: Mapping[int, int] | None = None,
    timeout_seconds: float = 10.0,
) -> Answer:
    """Read, in one statement.

    Args:
        now: the wall clock.
        after: offsets by partition of the views' source that must have gone in first.
        timeout_seconds: how long to wait for them.

    Raises:
        NotFoundError: a view is not deployed.
        InvalidInputError: an event that is waited for was refused; see the quarantine.
        UnavailableError: it did not go in within the time.
    """
    sql, parameters = statement(chosen, entities)
    if after:
        wait_for(connection, [asked[0].view for asked in by_view(chosen).values()], after, timeout_seconds)
    try:
        with connection.cursor(binary=True) as cursor:
            fetched = cursor.execute(sql.encode(), parameters, prepare=True).fetchall()
    except psycopg.errors.UndefinedTable as error:
        raise NotFoundError(
            f"a feature view is not deployed: {error.diag.message_primary}", fix="headrace features apply PIPELINE"
        ) from error
    return decode(chosen, entities, fetched, now())


def wait_for(
    connection: type_connection, views: Sequence[FeatureView], after: Mapping[int, int], timeout_seconds: float
) -> None:
    """Return when the events at these offsets, and all before them, are in the views.

    Raises:
        InvalidInputError, UnavailableError: see `get`.
    """
    streams = {view.offline.events for view in views if view.offline is not None}
    if len(streams) != 1:
        told = ", ".join(sorted(streams)) or "none"
        raise InvalidInputError(
            f"a position belongs to one stream, and the views read {told}", fix="Ask for one stream's views."
        )
    (stream,) = streams
    deadline = time.monotonic() + timeout_seconds
    while True:
        rows = connection.execute(f"SELECT kafka_partition, kafka_offset FROM {quote(positions(stream))}".encode()).fetchall()
        there = {int(partition): int(offset) for partition, offset in rows}
        behind = {p: offset for p, offset in after.items() if there.get(p, -1) < offset}
        if not behind:
            return
        for partition, offset in behind.items():
            _check_refused(connection, stream, partition, offset)
        if time.monotonic() > deadline:
            told = ", ".join(f"partition {p}: at {there.get(p, 'nothing')}, not {offset}" for p, offset in behind.items())
            raise UnavailableError(f"the stream was not read so far within {timeout_seconds:g} s ({told})", where=stream)
        time.sleep(_POLL_SECONDS)


def positions(stream: str) -> str:
    """The view that says how far a stream was read."""
    return f"positions_{stream}"


# -- below: called by the above


def _position(view: FeatureView) -> list[str]:
    """`as_of` and the position as text `0:17,1:12`."""
    if view.offline is None:
        return [f"(SELECT max({quote(view.timestamp)}) FROM {quote(view.latest)})", "NULL::varchar"]
    name = quote(positions(view.offline.events))
    return [
        f"(SELECT max(event_time) FROM {name})",
        f"(SELECT string_agg(kafka_partition || ':' || kafka_offset::varchar, ',') FROM {name})",
    ]


def _needed(asked: Sequence[Chosen]) -> list[Pack]:
    """The packed columns that hold what is asked of a view."""
    names = {each.feature.name for each in asked}
    return [pack for pack in packs(asked[0].view) if names.intersection(pack.features)]


def _state(as_of: datetime | None, position: str | None, now: datetime) -> ViewState:
    if as_of is None:
        return ViewState(None, None)
    moment = _aware(as_of)
    pairs = (pair.split(":") for pair in (position or "").split(",") if pair)
    return ViewState(moment, (now - moment).total_seconds(), {int(p): int(o) for p, o in sorted(pairs)})


def _found(view: FeatureView, stamp: datetime | None, now: datetime) -> Found:
    if stamp is None:
        return Found("missing")
    moment = _aware(stamp)
    age = now - moment
    return Found("expired" if age >= view.ttl else "present", moment, age.total_seconds())


def _aware(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _check_refused(connection: type_connection, stream: str, partition: int, offset: int) -> None:
    query = "SELECT reason FROM quarantine WHERE stream = %s AND kafka_partition = %s AND kafka_offset = %s"
    try:
        refused = connection.execute(query, (stream, partition, offset)).fetchall()
    except psycopg.errors.UndefinedTable:
        return  # RisingWave keeps no quarantine: the wait ends by its deadline
    if refused:
        raise InvalidInputError(
            f"the event at partition {partition}, offset {offset} was refused: {refused[0][0]}",
            where=f"quarantine of {stream}",
            fix="Mend it and send it again.",
        )
