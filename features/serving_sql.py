"""The SQL that makes feature views readable online: each entity's last row, and how far each stream was read.

It goes behind the pipeline's own files, through the same deployer, and is plain RisingWave.
"""

from __future__ import annotations

from collections.abc import Iterable

from features.declaration import FeatureView
from features.lake import quote
from features.online import positions
from features.packing import Pack, packs


def serving_sql(views: Iterable[FeatureView]) -> str:
    """Statements for the views of one pipeline; empty without views."""
    statements: list[str] = []
    streams: set[str] = set()
    for view in views:
        if view.offline is not None and view.offline.events not in streams:
            streams.add(view.offline.events)
            source = view.offline.source or f"{view.offline.events}_events"
            statements.append(
                f"CREATE MATERIALIZED VIEW {positions(view.offline.events)} AS\n"
                f"SELECT kafka_partition, max(kafka_offset::bigint) AS kafka_offset, max({quote(view.offline.event_time)}) AS event_time\n"
                f"FROM {source}\nGROUP BY kafka_partition;"
            )
        statements.append(_latest(view))
    return "\n\n".join(statements) + "\n" if statements else ""


def _latest(view: FeatureView) -> str:
    keys = ", ".join(map(quote, view.entity))
    columns = ", ".join([*(quote(name) for name in (*view.entity, view.timestamp, *_until(view))), *map(_packed, packs(view))])
    order = ", ".join([f"{quote(view.timestamp)} DESC", *(f"{quote(name)} DESC NULLS LAST" for name in view.ties)])
    return (
        f"CREATE MATERIALIZED VIEW {view.latest} AS\nSELECT {columns}\nFROM (\n"
        f"    SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {order}) AS recency\n    FROM {view.relation}\n"
        f") AS ranked\nWHERE recency = 1;"
    )


def _packed(pack: Pack) -> str:
    if pack.alone:
        return quote(pack.column)
    return f"ARRAY[{', '.join(map(quote, pack.features))}] AS {quote(pack.column)}"


def _until(view: FeatureView) -> tuple[str, ...]:
    return (view.valid_until,) if view.valid_until is not None else ()
