"""The join that takes for each label what was true at its time, and nothing later.

```
            ts1        ts2             ts3
  history ---|----------|---------------|------->  event time
                             ^ label: ts2's values, if label - ts2 < ttl; never ts3's
```

Two times matter. **Event time** decides which row holds. **Knowledge time** decides which version of the row: late events and
corrections change rows afterwards, and the lake keeps each version with the epoch that made it and the time it was written.

- `CORRECTED`: the last version in the pinned snapshot: the best that is known today; for training on truth.
- `THEN`: for each label the last version that was written at its time: what an online read would have given; for replay.
- a moment: the last version that was written by then.

Every label gives exactly one row, in the labels' order. Of two rows of one entity with the same time (only a view without
grouping has such) the one with the greater values counts, column by column, NULL least: the same rule as online.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal

import duckdb
import pyarrow as pa

from features.declaration import FeatureView
from features.lake import quote
from features.references import Chosen, by_view

OPERATION = "changelog_op"
"""Column of a history that holds a changelog; see RisingWave's documentation, AS CHANGELOG."""

_ADDED = (1, 3)

ROW = "_row"
"""The label's number."""


class Known(Enum):
    """See the head of the module."""

    CORRECTED = "corrected"
    THEN = "then"


type_known = Known | datetime


@dataclass(frozen=True)
class History:
    """A view's rows of the past as a relation of DuckDB.

    Attributes:
        kind: `unique`: one row for each entity and time; `changelog`: versions with `changelog_op`; `append`: rows that may
            share entity and time.
    """

    view: FeatureView
    relation: str
    kind: Literal["unique", "changelog", "append"]


def kind_of(view: FeatureView, columns: Sequence[str]) -> Literal["unique", "changelog", "append"]:
    """How a view's history is kept, by the columns that it has."""
    if OPERATION in columns:
        return "changelog"
    if view.offline is not None and view.offline.emit == "window_close":
        return "unique"
    return "append"


def columns_needed(view: FeatureView, chosen: Sequence[Chosen], kind: str, known: type_known) -> list[str]:
    """What must be read of a view's history."""
    names = [*view.entity, view.timestamp, *_until(view), *(each.feature.name for each in chosen)]
    if kind == "changelog":
        names += [OPERATION, "sink_epoch"]
    elif kind == "append":  # all values decide between rows of equal time
        names += [each.name for each in view.features if each.name not in names]
    if known is not Known.CORRECTED:
        names.append("sink_time")
    return names


def join_sql(
    spine: str,
    time: str,
    chosen: Sequence[Chosen],
    histories: Sequence[History],
    known: type_known = Known.CORRECTED,
    *,
    intervals: bool = False,
) -> str:
    """The whole join as one statement.

    Args:
        spine: a relation with the labels and `_row`.
        time: its column with the label's time.
        chosen: in the order of the answer's columns.
        histories: one for each view that is asked for.
        intervals: also from when to when each view's values hold, `<view>__valid_from` and `<view>__valid_to`.
    """
    views = {history.view.name: history for history in histories}
    parts, joins, ranges = [], [], []
    for number, (name, asked) in enumerate(by_view(chosen).items()):
        history = views[name]
        alias = f"h{number}"
        build = _joined_then if known is Known.THEN else _joined
        with_parts, join = build(spine, time, history, asked, alias, known, intervals)
        parts += with_parts
        joins.append(join)
        if intervals:
            ttl = f"{alias}.{quote(history.view.timestamp)} + {_interval(history.view)}"
            ranges += [
                f"CASE WHEN {_alive(time, history.view, alias)} THEN {alias}.{quote(history.view.timestamp)} END AS {quote(f'{name}__valid_from')}",
                f"CASE WHEN {_alive(time, history.view, alias)} THEN least({alias}._next, {ttl}) END AS {quote(f'{name}__valid_to')}",
            ]
    alias_of = {name: f"h{number}" for number, name in enumerate(by_view(chosen))}
    values = [
        f"CASE WHEN {_alive(time, each.view, alias_of[each.view.name])} THEN {alias_of[each.view.name]}.{quote(each.feature.name)} END"
        f" AS {quote(each.column)}"
        for each in chosen
    ]
    with_ = f"WITH {', '.join(parts)} " if parts else ""
    return f"{with_}SELECT s.*, {', '.join([*values, *ranges])} FROM {spine} AS s {' '.join(joins)} ORDER BY s.{ROW}"


def run(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The answer without the labels' numbers."""
    result: pa.Table = connection.sql(sql).to_arrow_table()
    return result.drop_columns([ROW])


# -- below: called by the above


def _joined(
    _spine: str, time: str, history: History, asked: Sequence[Chosen], alias: str, known: type_known, intervals: bool
) -> tuple[list[str], str]:
    """Choose one version of each row, then the row at or before the label."""
    view = history.view
    keys = [quote(key) for key in view.entity]
    stamp = quote(view.timestamp)
    written = f"sink_time <= TIMESTAMPTZ '{known.isoformat()}'" if isinstance(known, datetime) else ""
    where = f" WHERE {written}" if written else ""
    values = ", ".join([*keys, stamp, *map(quote, _until(view)), *(quote(each.feature.name) for each in asked)])
    if history.kind == "unique":
        select = f"SELECT {values} FROM {history.relation}{where}"
    elif history.kind == "changelog":
        added = f"{OPERATION} IN {_ADDED}"
        select = (
            f"SELECT {values} FROM (SELECT *, row_number() OVER (PARTITION BY {', '.join([*keys, stamp])} ORDER BY sink_epoch DESC, {added} DESC)"
            f" AS _version FROM {history.relation}{where}) WHERE _version = 1 AND {added}"
        )
    else:
        select = (
            f"SELECT {values} FROM (SELECT *, row_number() OVER (PARTITION BY {', '.join([*keys, stamp])} ORDER BY {_greatest(view)})"
            f" AS _version FROM {history.relation}{where}) WHERE _version = 1"
        )
    if intervals:
        select = f"SELECT *, lead({stamp}) OVER (PARTITION BY {', '.join(keys)} ORDER BY {stamp}) AS _next FROM ({select})"
    equal = " AND ".join(f"s.{key} = {alias}.{key}" for key in keys)
    if history.kind == "unique" and not intervals:
        return [], f"ASOF LEFT JOIN ({select}) AS {alias} ON {equal} AND s.{quote(time)} >= {alias}.{stamp}"
    part = f"{alias}_rows AS MATERIALIZED ({select})"
    return [part], f"ASOF LEFT JOIN {alias}_rows AS {alias} ON {equal} AND s.{quote(time)} >= {alias}.{stamp}"


def _joined_then(
    spine: str, time: str, history: History, asked: Sequence[Chosen], alias: str, _known: type_known, intervals: bool
) -> tuple[list[str], str]:
    """All rows in reach of each label, of each the version known at the label's time, then the latest that was there."""
    view = history.view
    keys = [quote(key) for key in view.entity]
    stamp, moment = quote(view.timestamp), f"s.{quote(time)}"
    names = [*map(quote, _until(view)), *(quote(each.feature.name) for each in asked)]
    equal = " AND ".join(f"s.{key} = h.{key}" for key in keys)
    reach = f"{equal} AND h.{stamp} <= {moment} AND h.{stamp} > {moment} - {_interval(view)} AND h.sink_time <= {moment}"
    added = f"h.{OPERATION} IN {_ADDED}" if history.kind == "changelog" else "TRUE"
    order = f"h.sink_epoch DESC, {added} DESC" if history.kind == "changelog" else _greatest(view, "h.")
    version = f"row_number() OVER (PARTITION BY s.{ROW}, h.{stamp} ORDER BY {order})"
    versions = (
        f"{alias}_versions AS (SELECT s.{ROW} AS {ROW}, h.{stamp} AS {stamp}, {', '.join(f'h.{name}' for name in names)}, {added} AS _added,"
        f" {version} AS _version FROM {spine} AS s JOIN {history.relation} AS h ON {reach})"
    )
    following = ", CAST(NULL AS TIMESTAMPTZ) AS _next" if intervals else ""  # what came next was not known yet
    rows = (
        f"{alias}_rows AS MATERIALIZED (SELECT * EXCLUDE (_added, _version){following} FROM {alias}_versions WHERE _version = 1 AND _added"
        f" QUALIFY row_number() OVER (PARTITION BY {ROW} ORDER BY {stamp} DESC) = 1)"
    )
    return [versions, rows], f"LEFT JOIN {alias}_rows AS {alias} ON s.{ROW} = {alias}.{ROW}"


def _alive(time: str, view: FeatureView, alias: str) -> str:
    """Whether the row found is young enough, and not replaced by its own end."""
    young = f"{alias}.{quote(view.timestamp)} > s.{quote(time)} - {_interval(view)}"
    if view.valid_until is None:
        return young
    until = f"{alias}.{quote(view.valid_until)}"
    return f"{young} AND ({until} IS NULL OR s.{quote(time)} < {until})"


def _until(view: FeatureView) -> list[str]:
    return [view.valid_until] if view.valid_until is not None else []


def _interval(view: FeatureView) -> str:
    return f"to_microseconds({round(view.ttl.total_seconds() * 1_000_000)})"


def _greatest(view: FeatureView, prefix: str = "") -> str:
    return ", ".join(f"{prefix}{quote(name)} DESC NULLS LAST" for name in view.ties) or "1"
