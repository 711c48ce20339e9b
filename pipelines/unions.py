"""The views that everybody else reads: one over all pipelines that are there, each row with its `pipeline`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_PREDICTION = (
    "prediction_id", "tenant_id", "endpoint", "entity_id", "feature_start", "feature_end", "features", "route_epoch", "label",
    "score", "members", "error",
)  # fmt: skip
_LABELLED = (
    "prediction_id", "tenant_id", "endpoint", "entity_id", "feature_end", "route_epoch", "predicted", "score", "label",
    "labelled_at", "source",
)  # fmt: skip

VIEWS: Mapping[str, tuple[str, ...]] = {
    "predictions": _PREDICTION,
    "anomalies": _PREDICTION,
    "labelled": _LABELLED,
}
"""View to its columns besides `pipeline`; a pipeline takes part by having `<view>_<pipeline>` with these columns."""

SUBSCRIBED = ("predictions", "anomalies")


@dataclass(frozen=True)
class UnionView:
    """A view to be there, with the subscription that follows it, if it has one."""

    name: str
    sql: str
    subscription_sql: str | None

    @property
    def subscription(self) -> str:
        return f"{self.name}_changes"


def union_views(objects: Iterable[str]) -> list[UnionView]:
    """Build the views for what is there.

    Args:
        objects: names of the materialized views in the stream database.
    """
    there = set(objects)
    pipelines = sorted(name.removeprefix("predictions_") for name in there if name.startswith("predictions_"))
    result = []
    for view, columns in VIEWS.items():
        members = [pipeline for pipeline in pipelines if f"{view}_{pipeline}" in there]
        if members:
            subscription = (
                f"CREATE SUBSCRIPTION {view}_changes FROM {view} WITH (retention = '1 day')" if view in SUBSCRIBED else None
            )
            result.append(
                UnionView(view, f"CREATE MATERIALIZED VIEW {view} AS\n{_union(view, columns, members)}", subscription)
            )
    return result


def _union(view: str, columns: tuple[str, ...], pipelines: list[str]) -> str:
    first, *rest = columns
    return "\nUNION ALL\n".join(
        f"SELECT {first}, '{pipeline}' AS pipeline, {', '.join(rest)} FROM {view}_{pipeline}" for pipeline in pipelines
    )
