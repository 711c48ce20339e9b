"""What a change of a table's columns means for everything that knows them by name: told before it is made.

    breaks    something stops working, or works on other data, until somebody changes it
    loses     it goes on, but values are no longer kept
    keeps     it goes on as before

Names are looked for where they are declared: feature views beside their SQL, model signatures in the registry, sinks and sources
in the stream database's catalog. What cannot be asked is said, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp, parse_one
from sqlglot.dialects.risingwave import RisingWave
from sqlglot.errors import SqlglotError

from features.declaration import FeatureView
from iceberg.evolution import Step
from iceberg.registry import ModelVersion
from iceberg.tables import DEFINITIONS
from iceberg.training_data import source_of
from pipelines import sqltext
from pipelines.snapshot import Snapshot

Outcome = Literal["breaks", "loses", "keeps"]


@dataclass(frozen=True)
class Effect:
    """On one object: its kind (`feature view`, `model`, `sink` ...), its name, what happens and why."""

    kind: str
    name: str
    outcome: Outcome
    reason: str


def effects(
    identifier: str,
    steps: Sequence[Step],
    views: Sequence[FeatureView],
    models: Sequence[ModelVersion],
    database: Snapshot | None,
) -> list[Effect]:
    """Everything that the steps touch, what breaks first.

    Args:
        identifier: of the table, e.g. `lake.features_plant`.
        database: the stream database's catalog; None where it does not answer.
    """
    found: list[Effect] = []
    for step in steps:
        found += _on_headrace(identifier, step)
        found += _on_feature_views(identifier, step, views)
        found += _on_models(identifier, step, models, views)
        if database is not None:
            found += _on_sinks(identifier, step, database)
            found += _on_readers(identifier, step, database)
    order = {"breaks": 0, "loses": 1, "keeps": 2}
    return sorted(dict.fromkeys(found), key=lambda effect: (order[effect.outcome], effect.kind, effect.name))


# -- below: called by the above


def _on_headrace(identifier: str, step: Step) -> Iterator[Effect]:
    definition = next((each for each in DEFINITIONS if each.identifier == identifier), None)
    if definition is None or step.kind not in ("rename", "drop"):
        return
    if any(column.name == step.column for column in definition.columns):
        yield Effect(
            "headrace",
            identifier,
            "breaks",
            f"`{step.column}` belongs to the table's definition; API and commands read it by name",
        )


def _on_feature_views(identifier: str, step: Step, views: Sequence[FeatureView]) -> Iterator[Effect]:
    for view in views:
        columns = {*view.entity, view.timestamp, *(feature.name for feature in view.features)}
        if view.history_table == identifier and step.column in columns:
            what = "key" if step.column in view.entity else "timestamp" if step.column == view.timestamp else "feature"
            if step.kind in ("rename", "drop"):
                yield Effect("feature view", view.name, "breaks", f"its {what} `{step.column}` is read from here by that name")
            elif step.kind == "widen":
                yield Effect("feature view", view.name, "keeps", f"its {what} `{step.column}` is read as {step.type}")
        if view.events_table == identifier and step.kind in ("rename", "drop"):
            inputs = [feature.name for feature in view.features if step.column in feature.inputs]
            if inputs or step.column in view.entity or (view.offline and re.search(rf"\b{step.column}\b", view.offline.sql)):
                of = f"features {', '.join(f'`{each}`' for each in inputs)} are" if inputs else "it is"
                yield Effect("feature view", view.name, "breaks", f"{of} recomputed from `{step.column}`")


def _on_models(identifier: str, step: Step, models: Sequence[ModelVersion], views: Sequence[FeatureView]) -> Iterator[Effect]:
    """Models whose signature takes a feature of that name and that were, or could be, trained on this table."""
    if step.kind not in ("rename", "drop", "widen"):
        return
    features = {feature.name for view in views if view.history_table == identifier for feature in view.features}
    for model in models:
        if step.column not in model.signature.feature_names:
            continue
        source = source_of(model.training_data)
        if source is None:
            if step.column not in features:
                continue
            why = "its features come from here"
        elif source.table == identifier:
            why = f"trained on it at snapshot {source.snapshot or 'unknown'}"
        else:
            continue
        if step.kind == "widen":
            yield Effect("model", model.reference, "keeps", f"takes `{step.column}` ({why})")
        else:
            yield Effect("model", model.reference, "breaks", f"its signature takes `{step.column}` ({why}); retraining fails")


def _on_sinks(identifier: str, step: Step, database: Snapshot) -> Iterator[Effect]:
    for sink in database.objects.values():
        if sink.kind != "SINK" or _table_of(database.text(sink)) != identifier:
            continue
        source = next((database.objects[i] for i in database.below.get(sink.id, ()) if i in database.objects), None)
        columns = database.columns.get(sink.id) or (database.columns.get(source.id) if source else None) or ()
        if step.column not in {column.name for column in columns}:
            continue
        at = f" from {source.kind.lower()} `{source.name}`" if source else ""
        if step.kind == "drop":
            yield Effect("sink", sink.name, "loses", f"goes on without `{step.column}`{at}")
            if source is not None:
                yield Effect(
                    source.kind.lower(), source.name, "loses", f"still computes `{step.column}`, which is no longer kept"
                )
        elif step.kind == "rename":
            yield Effect(
                "sink", sink.name, "keeps", f"its `{step.column}`{at} goes into `{step.becomes}` by the column's field id"
            )
        elif step.kind == "add":
            yield Effect("sink", sink.name, "keeps", f"fills the new `{step.column}`{at} from now on")
        else:
            yield Effect("sink", sink.name, "keeps", f"its `{step.column}`{at} is stored as {step.type}")


def _on_readers(identifier: str, step: Step, database: Snapshot) -> Iterator[Effect]:
    """Sources over the table, and the views above them that use the column, directly or through another one that breaks."""
    if step.kind not in ("rename", "drop"):
        return
    for source in database.objects.values():
        if source.kind not in ("SOURCE", "TABLE") or _table_of(database.text(source)) != identifier:
            continue
        if step.column not in {column.name for column in database.columns.get(source.id, ())}:
            continue
        yield Effect(source.kind.lower(), source.name, "breaks", f"reads `{step.column}` by that name")
        waiting, seen = [each for each in database.above(source.id) if _uses(database.text(each), step.column)], set()
        while waiting:
            above = waiting.pop()
            if above.id in seen or above.kind == "SINK":
                continue
            seen.add(above.id)
            yield Effect(
                above.kind.lower(), above.name, "breaks", f"uses `{step.column}` of {identifier} through `{source.name}`"
            )
            waiting += database.above(above.id)


def _uses(text: str, column: str) -> bool:
    """Whether a statement's query names a column, or takes all; a query that cannot be read counts as one that does."""
    query = sqltext.query_of(text)
    if query is None:
        return True
    try:
        tree = parse_one(query, dialect=RisingWave)
    except SqlglotError:
        return True
    return any(True for _ in tree.find_all(exp.Star)) or any(each.name == column for each in tree.find_all(exp.Column))


def _table_of(text: str) -> str | None:
    """The lake's table that a sink or source is on, from its options."""
    if not re.search(r"connector\s*=\s*'iceberg'", text):
        return None
    namespace = re.search(r"database\.name\s*=\s*'([^']*)'", text)
    table = re.search(r"table\.name\s*=\s*'([^']*)'", text)
    return f"{namespace[1]}.{table[1]}" if namespace and table else None
