"""Where a feature comes from and who uses it: raw columns below, predictions, endpoints and models above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from features.declaration import FeatureView
from features.references import choose
from iceberg.registry import ModelVersion
from pipelines.lineage import Node, lineage
from pipelines.snapshot import Snapshot


@dataclass(frozen=True)
class Use:
    """A model that reads a feature, and the endpoints whose routes it is in."""

    model: str
    version: int
    endpoints: tuple[str, ...]


@dataclass(frozen=True)
class FeatureLineage:
    """One feature.

    Attributes:
        columns: `relation.column` that its value comes from, found in the SQL down to the source; `declared` are the inputs that
            its declaration names. Where the SQL cannot be followed `columns` is empty, and nothing is guessed.
        relations: views and tables between the source and the feature, the source last.
        consumers: objects that are built on its view.
        models: whose signature names it, in an endpoint that one of the consumers asks.
    """

    feature: str
    columns: tuple[str, ...]
    declared: tuple[str, ...]
    relations: tuple[str, ...]
    consumers: tuple[str, ...]
    models: tuple[Use, ...]


def trace(
    references: Sequence[str],
    views: Mapping[str, FeatureView],
    snapshot: Snapshot,
    models: Sequence[ModelVersion],
    routes: Sequence[tuple[str, str, int]],
) -> list[FeatureLineage]:
    """Follow each feature both ways.

    Args:
        references: see `features.references.choose`.
        routes: (endpoint, model, version) of every route there is.

    Raises:
        NotFoundError: there is no such feature, or its view is not deployed.
    """
    result = []
    for each in choose(references, views):
        found = lineage(each.view.relation, snapshot)
        relations, consumers = _names(found.upstream), _names(found.downstream)
        asked = {endpoint for endpoint, _, _ in routes if any(f"'{endpoint}'" in _text(name, snapshot) for name in consumers)}
        uses = []
        for model in models:
            if each.feature.name in model.signature.feature_names:
                endpoints = sorted({e for e, name, v in routes if (name, v) == (model.name, model.version) and e in asked})
                if endpoints:
                    uses.append(Use(model.name, model.version, tuple(endpoints)))
        columns = tuple(sorted(_down(each.view.relation, each.feature.name, snapshot)))
        name = f"{each.view.name}:{each.feature.name}"
        result.append(FeatureLineage(name, columns, each.feature.inputs, relations, consumers, tuple(uses)))
    return result


def read_routes(connection: psycopg.Connection) -> list[tuple[str, str, int]]:
    """Every member of every route, once."""
    rows = connection.execute("SELECT DISTINCT endpoint, model, version FROM routes").fetchall()
    return [(str(endpoint), str(model), int(version)) for endpoint, model, version in rows]


# -- below: called by the above


def _names(node: Node) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    waiting = list(node.next)
    while waiting:
        each = waiting.pop(0)
        seen.setdefault(each.name)
        waiting += each.next
    return tuple(seen)


def _down(relation: str, column: str, snapshot: Snapshot, depth: int = 20) -> set[str]:
    """Columns of sources and tables that a column comes from."""
    found = lineage(relation, snapshot)
    below = found.columns.get(column)
    if below is None or depth == 0:
        return set()
    result: set[str] = set()
    for each in below:
        name, _, inner = each.rpartition(".")
        deployed = snapshot.find(name)
        if deployed is None or deployed.kind in ("SOURCE", "TABLE"):
            result.add(each)
        else:
            result |= _down(name, inner, snapshot, depth - 1)
    return result


def _text(name: str, snapshot: Snapshot) -> str:
    found = snapshot.find(name)
    return snapshot.text(found) if found is not None else ""
