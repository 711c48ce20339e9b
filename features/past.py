"""The same answer as an online read, but as of a past time, from the lake: one call for both worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa
from pyiceberg.catalog import Catalog

from core.errors import InvalidInputError
from features import training
from features.online import Answer, Found, Row, ViewState
from features.point_in_time import Known, type_known
from features.references import Chosen, by_view

_TIME = "as_of"


def get_as_of(
    catalog: Catalog,
    chosen: Sequence[Chosen],
    entities: Sequence[Mapping[str, str]],
    as_of: datetime,
    now: datetime,
    known: type_known = Known.THEN,
) -> Answer:
    """Look entities up as of a time.

    Args:
        known: by default what a read at that time would have found; `CORRECTED` for what is known today of that time.

    Raises:
        InvalidInputError: an entity lacks a key column, or the time has not come yet.
        NotFoundError: a view has no history in the lake.
    """
    if as_of > now:
        raise InvalidInputError(f"`{as_of.isoformat()}` has not come yet", fix="Ask without a time for now.")
    if not entities:
        raise InvalidInputError("no entity is asked for")
    grouped = by_view(chosen)
    keys = list(dict.fromkeys(key for asked in grouped.values() for key in asked[0].view.entity))
    for number, entity in enumerate(entities, start=1):
        if set(entity) != set(keys):
            raise InvalidInputError(f"entity {number} does not name exactly {', '.join(keys)}")
    columns = {key: pa.array([entity[key] for entity in entities], pa.string()) for key in keys}
    stamps = pa.array([as_of] * len(entities), pa.timestamp("us", "UTC"))
    references = [f"{each.view.name}:{each.feature.name}" for each in chosen]
    views = {each.view.name: each.view for each in chosen}
    made = training.build(
        catalog, pa.table({**columns, _TIME: stamps}), references, views, time=_TIME, known=known, intervals=True, seal=False
    )
    rows = []
    for entity, record in zip(entities, made.rows.to_pylist(), strict=True):
        found = {}
        for name in grouped:
            stamp = record[f"{name}__valid_from"]
            found[name] = Found("missing") if stamp is None else Found("present", stamp, (as_of - stamp).total_seconds())
        rows.append(Row(entity, {each.column: record[each.column] for each in chosen}, found))
    return Answer(now, {name: ViewState(as_of, (now - as_of).total_seconds()) for name in grouped}, rows)
