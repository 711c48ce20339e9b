"""From an event, a model version, a training snapshot, a subject or a prediction to what it touched.

    event:TOPIC/PARTITION/OFFSET   the windows that hold it, their predictions
    model:NAME@VERSION             the predictions that it answered in
    snapshot:TABLE@ID              the models that were trained on it, their predictions
    subject:TENANT/ENTITY          its predictions, and the models trained on tables that it stands in
    prediction:ID                  labels, enrichments, alerts

Predictions are counted exactly and listed up to a limit, the newest first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInputError, NotFoundError, UnavailableError
from headrace.lineage.graph import Graph
from headrace.lineage.sources import Database, Lake, Row
from headrace.lineage.upstream import Upstream, describe_model, labels, members, parse_moment, within
from iceberg.predicates import all_of, equals
from iceberg.training_data import source_of

_MODEL = re.compile(r"([^@]+)@(\d+)")
_EVENT = re.compile(r"([^/]+)/(\d+)/(\d+)")
_SNAPSHOT = re.compile(r"([^@]+)@(\d+)")
KINDS = ("prediction", "event", "model", "snapshot", "subject")


@dataclass
class Downstream:
    """Reads what came of a thing."""

    lake: Lake
    database: Database | None
    limit: int = 100

    def trace(self, kind: str, name: str) -> Graph:
        """Everything that came of it.

        Raises:
            InvalidInputError: the id is malformed, or of a kind that nothing comes of.
            NotFoundError: it is not known.
        """
        graph = Graph(f"{kind}:{name}", "downstream")
        if kind == "prediction":
            self._of_prediction(graph, name)
        elif kind == "event":
            self._of_event(graph, *_parts(_EVENT, name, "event:TOPIC/PARTITION/OFFSET"))
        elif kind == "model":
            model, version = _parts(_MODEL, name, "model:NAME@VERSION")
            self._of_model(graph, graph.root, model, int(version))
        elif kind == "snapshot":
            self._of_snapshot(graph, *_parts(_SNAPSHOT, name, "snapshot:TABLE@ID"))
        elif kind == "subject":
            tenant, _, entity = name.partition("/")
            if not entity:
                raise InvalidInputError(f"`{name}` names no subject", fix="Write subject:TENANT/ENTITY.")
            self._of_subject(graph, tenant, entity)
        else:
            raise InvalidInputError(f"`{kind}` is no kind that lineage starts from", fix=f"Use one of {', '.join(KINDS)}.")
        return graph

    # -- below: called by the above

    def _of_prediction(self, graph: Graph, key: str) -> None:
        up = Upstream(self.lake, self.database).trace(key)
        graph.nodes[graph.root] = up.nodes[up.root]
        for edge in up.edges:
            if edge.to == up.root and edge.relation in ("labelled", "enrichment of", "alert of"):
                node = up.nodes[edge.of]
                graph.nodes[node.id] = node
                graph.link(node.id, "followed", graph.root)
        graph.missing += [what for what in up.missing if what.startswith(("enrichments", "alerts"))]

    def _of_event(self, graph: Graph, topic: str, partition: str, offset: str) -> None:
        event, pipelines = self._event(graph, topic, int(partition), int(offset))
        tenant, entity = str(event.get("tenant_id")), str(event.get("entity_id"))
        graph.add("event", f"{topic}/{partition}/{offset}", event_time=event.get("event_time"), tenant=tenant, entity=entity)
        subject = graph.add("subject", f"{tenant}/{entity}")
        graph.link(subject, "told", graph.root)
        moment = parse_moment(event.get("event_time"))
        if moment is None and "prediction_id" not in event:
            graph.miss("the event has no event time that can be read: it is in no window")
            return
        rows = self._predictions(tenant=tenant, entity=entity)
        found = [row for row in rows if within(event, row) and (not pipelines or row["pipeline"] in pipelines)]
        self._list(graph, graph.root, "aggregates and scores", found)

    def _event(self, graph: Graph, topic: str, partition: int, offset: int) -> tuple[Row, set[str]]:
        """The record's content, and the pipelines that read its topic, if that is known."""
        stream = topic.removeprefix("events.")
        if self.database is not None:
            try:
                for record in self.database.records(topic):
                    if (record.partition, record.offset) == (partition, offset):
                        found = json.loads(record.value)
                        return (found if isinstance(found, dict) else {}), self._readers(topic)
            except UnavailableError as error:
                graph.miss(f"topic {topic}: {error.what}")
            except ValueError:
                graph.miss("the record is no JSON: it is in the quarantine, and in no window")
                return {}, set()
        where = all_of(equals("kafka_partition", partition), equals("kafka_offset", str(offset)))
        kept = self.lake.rows(f"lake.events_{stream}", where)
        if not kept:
            raise NotFoundError(
                f"event `{topic}/{partition}/{offset}` is not known",
                fix=f"It may be past the topic's retention; lake.events_{stream} {'does not have it' if kept == [] else 'does not exist'}.",
            )
        return kept[0], {stream}

    def _readers(self, topic: str) -> set[str]:
        assert self.database is not None, "asked before"
        names = [each.name.removeprefix("predictions_") for each in self.database.catalog.objects.values()]
        return {
            name
            for name in names
            if self.database.has(f"predictions_{name}")
            and any(self.database.topic_of(each) == topic for each in self.database.below(f"predictions_{name}"))
        }

    def _of_model(self, graph: Graph, node: str, name: str, version: int) -> None:
        if (name, version) not in self.lake.models:
            raise NotFoundError(f"model version `{name}@{version}` is not registered")
        known = self.lake.models[name, version]
        graph.add("model", f"{name}@{version}", created_at=known.created_at.isoformat(), artifact=known.artifact_sha256)
        asked = (name, version)
        found = [
            row
            for row in self._predictions(mentions=name)
            if any((each.get("model"), int(each.get("version", 0))) == asked for each in members(row))
        ]
        self._list(graph, node, "answered", found)

    def _of_snapshot(self, graph: Graph, table: str, snapshot: str) -> None:
        asked = source_of({"table": table, "snapshot": snapshot})
        graph.add("snapshot", f"{table}@{snapshot}")
        for (name, version), model in sorted(self.lake.models.items()):
            if source_of(model.training_data) == asked:
                node = graph.add("model", f"{name}@{version}")
                graph.link(node, "trained on", graph.root)
                self._of_model(graph, node, name, version)
        if len(graph.nodes) == 1:
            graph.miss("no registered model names this snapshot as its training data")

    def _of_subject(self, graph: Graph, tenant: str, entity: str) -> None:
        rows = self._predictions(tenant=tenant, entity=entity)
        if not rows:
            raise NotFoundError(f"no prediction is about `{entity}` of tenant `{tenant}`")
        graph.add("subject", f"{tenant}/{entity}", predictions=len(rows))
        self._list(graph, graph.root, "is about", rows)
        tables = {"lake.predictions", *(f"lake.features_{row['pipeline']}" for row in rows)}
        for (name, version), model in sorted(self.lake.models.items()):
            source = source_of(model.training_data)
            if source is not None and source.table in tables:
                node = graph.add("model", f"{name}@{version}")
                graph.link(node, "trained on a table with", graph.root)
                describe_model(graph, node, self.lake, name, version)

    def _predictions(self, *, tenant: str = "", entity: str = "", mentions: str = "") -> list[Row]:
        """Predictions of the database and of the lake, each once, newest first; of one subject, or that mention a model."""
        kept = self.lake.rows(
            "lake.predictions", all_of(equals("tenant_id", tenant), equals("entity_id", entity)) if entity else all_of()
        )
        live: list[Row] | None = None
        if self.database is not None:
            if entity:
                live = self.database.rows("predictions", "tenant_id = %s AND entity_id = %s", (tenant, entity))
            else:
                live = self.database.rows("predictions", "members::varchar LIKE %s", (f"%{mentions}%",))
        rows = {row["prediction_id"]: row for row in [*(kept or []), *(live or [])]}
        return sorted(rows.values(), key=lambda row: (str(row["feature_end"]), row["prediction_id"]), reverse=True)

    def _list(self, graph: Graph, of: str, relation: str, rows: Iterable[Row]) -> None:
        """The first ones as nodes with their labels; the others are counted."""
        every = list(rows)
        for row in every[: self.limit]:
            facts: dict[str, Any] = {name: row[name] for name in ("pipeline", "label", "score", "route_epoch")}
            node = graph.add("prediction", row["prediction_id"], window_end=str(row["feature_end"]), **facts)
            graph.link(node, relation, of)
            for label in labels(self.lake, self.database, row["prediction_id"]) if len(every) <= self.limit else ():
                place = f"{row['prediction_id']}@{label['labelled_at']}"
                graph.link(graph.add("label", place, label=label["label"], source=label["source"]), "labels", node)
        if len(every) > self.limit:
            graph.more[f"predictions that it {relation}"] = len(every) - self.limit


def _parts(pattern: re.Pattern[str], name: str, form: str) -> tuple[str, ...]:
    found = pattern.fullmatch(name)
    if found is None:
        raise InvalidInputError(f"`{name}` is malformed", fix=f"Write {form}.")
    return found.groups()
