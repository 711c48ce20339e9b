"""The traffic that a model answered, read back from the lake: features, what was answered, and the label where one came."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog

from iceberg.predicates import all_of, equals

_COLUMNS = ("prediction_id", "tenant_id", "endpoint", "entity_id", "feature_end", "features", "members", "error")


@dataclass(frozen=True)
class Traffic:
    """Rows as they were asked, newest first.

    Attributes:
        features: float32[rows, n].
        entities: `tenant/entity` of each row.
        labels: the last label by time; None where none came.
        snapshot_id: of `lake.predictions`; names what was read for good.
    """

    features: npt.NDArray[np.float32]
    entities: tuple[str, ...]
    labels: tuple[str | None, ...]
    prediction_ids: tuple[str, ...]
    snapshot_id: int | None


def read_traffic(
    catalog: Catalog,
    model: str,
    n_features: int,
    *,
    tenant: str | None = None,
    endpoint: str | None = None,
    limit: int = 10_000,
) -> Traffic:
    """The newest rows in whose answer a version of the model took part, or all rows of an endpoint.

    Rows that were answered with an error, or have other features than the model takes, are left out.
    """
    nothing = Traffic(np.zeros((0, n_features), np.float32), (), (), (), None)
    if not catalog.table_exists("lake.predictions"):
        return nothing
    table = catalog.load_table("lake.predictions")
    wanted = [equals(name, value) for name, value in (("tenant_id", tenant), ("endpoint", endpoint)) if value is not None]
    rows = table.scan(all_of(*wanted), selected_fields=_COLUMNS).to_arrow()
    rows = rows.filter(pc.and_(pc.is_null(rows["error"]), pc.equal(pc.list_value_length(rows["features"]), n_features)))
    if endpoint is None:
        named = pa.array([_took_part(text, model) for text in rows["members"].to_pylist()], pa.bool_())
        rows = rows.filter(named)
    order = pc.sort_indices(rows, [("feature_end", "descending"), ("prediction_id", "ascending")])
    rows = rows.take(order[:limit])
    features = np.array(rows["features"].to_pylist(), np.float32).reshape(rows.num_rows, n_features)
    whole = np.isfinite(features).all(axis=1)
    rows, features = rows.filter(pa.array(whole)), features[whole]
    ids = rows["prediction_id"].to_pylist()
    tenants, entities = rows["tenant_id"].to_pylist(), rows["entity_id"].to_pylist()
    known = _labels(catalog, tenant)
    snapshot = table.current_snapshot()
    return Traffic(
        features,
        tuple(f"{each}/{entity}" for each, entity in zip(tenants, entities, strict=True)),
        tuple(known.get((each, prediction)) for each, prediction in zip(tenants, ids, strict=True)),
        tuple(ids),
        snapshot.snapshot_id if snapshot else None,
    )


def _took_part(members: str | None, model: str) -> bool:
    return members is not None and any(each.get("model") == model for each in json.loads(members))


def _labels(catalog: Catalog, tenant: str | None) -> dict[tuple[str, str], str]:
    """The last label of each prediction, by tenant and id."""
    if not catalog.table_exists("lake.feedback"):
        return {}
    scope = all_of(*([equals("tenant_id", tenant)] if tenant is not None else []))
    names = ("tenant_id", "prediction_id", "label", "labelled_at", "kafka_offset")
    rows = catalog.load_table("lake.feedback").scan(scope, selected_fields=names).to_arrow()
    rows = rows.append_column("place", pc.cast(pc.fill_null(rows["kafka_offset"], "0"), pa.int64()))
    rows = rows.take(pc.sort_indices(rows, [("labelled_at", "ascending"), ("place", "ascending")]))
    return {(row["tenant_id"], row["prediction_id"]): row["label"] for row in rows.to_pylist() if row["label"] is not None}
