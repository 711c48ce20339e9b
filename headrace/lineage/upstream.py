"""From a prediction to what it was made from.

prediction -- scores --> window -- aggregates --> events (topic, partition, offset)
     |                     '-- breaks --> rules of features
     |-- asked --> route epoch -- chose --> model versions -- trained on --> snapshot
     |-- computed by --> SQL text of then
     '-- labelled, enriched, alerted
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.errors import NotFoundError, UnavailableError
from headrace.lineage.graph import Graph
from headrace.lineage.sources import Database, Lake, Row
from iceberg.predicates import all_of, equals
from iceberg.training_data import source_of


@dataclass
class Upstream:
    """Reads one prediction's history; without a database only what the lake knows."""

    lake: Lake
    database: Database | None

    def trace(self, prediction_id: str) -> Graph:
        """Everything that a prediction was made from.

        Raises:
            NotFoundError: neither the database nor the lake has it.
        """
        graph = Graph(f"prediction:{prediction_id}", "upstream")
        row, kept = self._prediction(prediction_id)
        as_of = self._describe(graph, row, kept)
        self._window(graph, row)
        self._route(graph, row)
        for member in members(row):
            self._model(graph, graph.root, member)
        self._sql(graph, row, as_of)
        self._afterwards(graph, row)
        return graph

    # -- below: called by the above

    def _prediction(self, prediction_id: str) -> tuple[Row, Row | None]:
        kept = self.lake.rows("lake.predictions", equals("prediction_id", prediction_id)) or []
        live = self.database.rows("predictions", "prediction_id = %s", (prediction_id,)) if self.database else None
        row = next(iter([*(live or []), *kept]), None)
        if row is None:
            raise NotFoundError(
                f"prediction `{prediction_id}` is not known",
                where="the stream database and lake.predictions" if self.database else "lake.predictions",
                fix="Check the id; erased and expired predictions leave no lineage.",
            )
        return row, next(iter(kept), None)

    def _describe(self, graph: Graph, row: Row, kept: Row | None) -> datetime | None:
        """The prediction itself, and the commit that kept it: the moment for which SQL texts are looked up."""
        graph.add(
            "prediction",
            row["prediction_id"],
            pipeline=row["pipeline"],
            tenant=row["tenant_id"],
            endpoint=row["endpoint"],
            entity=row["entity_id"],
            label=row["label"],
            score=row["score"],
            error=row["error"],
        )
        if kept is None:
            graph.miss("lake.predictions does not have the row (yet): no snapshot is named")
            return None
        commit = self.lake.commit_of("lake.predictions", equals("prediction_id", row["prediction_id"]))
        if commit is None:
            graph.miss("the snapshot that brought the row into lake.predictions has expired")
            return kept.get("sink_time")
        snapshot = graph.add("snapshot", f"lake.predictions@{commit[0]}", committed_at=commit[1], epoch=kept["sink_epoch"])
        graph.link(graph.root, "kept in", snapshot)
        return commit[1]

    def _window(self, graph: Graph, row: Row) -> None:
        pipeline, tenant, entity = row["pipeline"], row["tenant_id"], row["entity_id"]
        start, end = row["feature_start"], row["feature_end"]
        relation = f"features_{pipeline}"
        window = graph.add(
            "window",
            f"{relation}/{tenant}/{entity}/{_iso(end)}",
            start=_iso(start),
            end=_iso(end),
            features=row["features"],
            prediction_id_recomputed=recomputed(row),
        )
        graph.link(graph.root, "scores", window)
        subject = graph.add("subject", f"{tenant}/{entity}")
        graph.link(window, "about", subject)
        self._verdict(graph, window, row)
        if end is None or start is None:
            graph.miss("the prediction has no window: no events are named")
            return
        where = all_of(equals("tenant_id", tenant), equals("entity_id", entity), equals("feature_end", end))
        for values in self.lake.rows(f"lake.{relation}", where) or []:
            names = ("tenant_id", "entity_id", "feature_start", "feature_end", "sink_epoch", "sink_time")
            graph.add("window", window.partition(":")[2], values={k: v for k, v in values.items() if k not in names})
            commit = self.lake.commit_of(f"lake.{relation}", where)
            if commit is not None:
                graph.link(window, "kept in", graph.add("snapshot", f"lake.{relation}@{commit[0]}", committed_at=commit[1]))
        self._events(graph, window, row)

    def _verdict(self, graph: Graph, window: str, row: Row) -> None:
        """What is wrong with the window by the rules of its features, where a pipeline has deployed them."""
        if self.database is None or row["feature_end"] is None:
            return
        name, key = f"feature_verdicts_{row['pipeline']}", (row["tenant_id"], row["entity_id"], row["feature_end"])
        for each in self.database.rows(name, "tenant_id = %s AND entity_id = %s AND feature_time = %s", key) or []:
            place = f"{name}/{key[0]}/{key[1]}/{_iso(key[2])}"
            graph.link(window, "breaks", graph.add("verdict", place, rules=list(each["rules"]), refused=each["refused"]))

    def _events(self, graph: Graph, window: str, row: Row) -> None:
        if self.database is not None and self._topic_events(graph, window, row):
            return
        pipeline = row["pipeline"]
        events = self.lake.window_events(pipeline, row["tenant_id"], row["entity_id"], row["feature_start"], row["feature_end"])
        if events is None:
            graph.miss(f"raw events: the topic cannot be read, and there is no table lake.events_{pipeline}")
            return
        graph.miss(f"raw events are those of lake.events_{pipeline}; the topic was not read")
        for event in events:
            place = f"events.{pipeline}/{event.get('kafka_partition')}/{event.get('kafka_offset')}"
            graph.link(window, "aggregates", graph.add("event", place, event_time=_iso(event["event_time"])))

    def _topic_events(self, graph: Graph, window: str, row: Row) -> bool:
        """From the topic that the pipeline's source reads; False where that cannot be done."""
        assert self.database is not None, "asked before"
        sources = [each for each in self.database.below(f"predictions_{row['pipeline']}") if each.kind in ("SOURCE", "TABLE")]
        topics = {source.name: topic for source in sources if (topic := self.database.topic_of(source)) is not None}
        own = {name: topic for name, topic in topics.items() if topic.startswith(("events.", "predictions.online"))}
        for name, topic in sorted(own.items()):
            try:
                records = self.database.records(topic)
            except UnavailableError as error:
                graph.miss(f"topic {topic}: {error.what}")
                return False
            refused = self.database.quarantined({name, topic, topic.removeprefix("events.")})
            for record in records:
                event = _event(record.value)
                if event is None or not within(event, row):
                    continue
                place = f"{topic}/{record.partition}/{record.offset}"
                is_refused = (record.partition, record.offset) in refused
                node = graph.add(
                    "event",
                    place,
                    event_time=event.get("event_time", event.get("predicted_at")),
                    appended_at=_iso(datetime.fromtimestamp(record.appended_ms / 1000, UTC)),
                    sha256=hashlib.sha256(record.value).hexdigest(),
                    refused="late or bad: in the quarantine, not in the window" if is_refused else None,
                )
                graph.link(window, "refused" if is_refused else "aggregates", node)
        if not own:
            graph.miss("raw events: the pipeline's source reads no topic of events")
        return bool(own)

    def _route(self, graph: Graph, row: Row) -> None:
        name = f"{row['tenant_id']}/{row['endpoint']}@{row['route_epoch']}"
        if row["route_epoch"] is None:
            graph.miss("no route: the prediction has no route epoch")
            return
        route = graph.add("route", name)
        graph.link(graph.root, "asked", route)
        if self.database is None:
            graph.miss("the route's strategy and who set it stand in the stream database")
            return
        where = "tenant_id = %s AND endpoint = %s AND route_epoch = %s"
        for served in self.database.rows("served_routes", where, (row["tenant_id"], row["endpoint"], row["route_epoch"])) or []:
            graph.add(
                "route",
                name,
                route=served["route"],
                served_from=_iso(served["served_from"]),
                changed_by=served["changed_by"],
                reason=served["reason"],
            )

    def _model(self, graph: Graph, prediction: str, member: Row) -> None:
        name, version = str(member.get("model")), int(member.get("version", 0))
        model = graph.add("model", f"{name}@{version}", **{k: member.get(k) for k in ("weight", "value", "role")})
        graph.link(prediction, "answered", model)
        describe_model(graph, model, self.lake, name, version)

    def _sql(self, graph: Graph, row: Row, as_of: datetime | None) -> None:
        if self.database is None:
            graph.miss("SQL texts stand in the deployer's ledger in the stream database")
            return
        for each in self.database.below(f"predictions_{row['pipeline']}"):
            if each.kind not in ("MATERIALIZED VIEW", "VIEW", "SOURCE"):
                continue
            texts = self.database.texts(each.name)
            then = [text for text in texts if as_of is None or text[3] <= as_of] or texts[:1]
            if then:
                _, fingerprint, text, applied_at = then[-1]
                facts = {"applied_at": _iso(applied_at), "versions": len(texts)}
            else:
                text, fingerprint = self.database.catalog.text(each), "unknown"
                facts = {"note": "as it is now; the ledger has no history of it"}
            digest = hashlib.sha256(text.encode()).hexdigest()
            node = graph.add("sql", f"{each.name}@{fingerprint}", object=each.kind.lower(), sha256=digest, **facts)
            graph.link(graph.root, "computed by", node)

    def _afterwards(self, graph: Graph, row: Row) -> None:
        """Labels, enrichments and alerts that came for the prediction."""
        key, root = row["prediction_id"], graph.root
        for label in labels(self.lake, self.database, key):
            place = f"{key}@{_iso(label['labelled_at'])}"
            node = graph.add("label", place, label=label["label"], source=label["source"], offset=label.get("kafka_offset"))
            graph.link(root, "labelled", node)
        for kind, table in (("enrichment", "enrichments"), ("alert", "alerts")):
            found = self.database.rows(table, "prediction_id = %s", (key,)) if self.database else None
            if found is None:
                found = self.lake.rows(f"lake.{table}", equals("prediction_id", key))
            if found is None:
                graph.miss(f"{table}: there is no such table here")
            for each in found or []:
                facts = {name: each.get(name) for name in ("revision", "severity", "summary", "model")}
                graph.link(root, f"{kind} of", graph.add(kind, str(each.get(f"{kind}_id")), **facts))


def labels(lake: Lake, database: Database | None, prediction_id: str) -> list[Row]:
    """All that were given for a prediction, in the order in which they count."""
    found = database.rows("feedback", "prediction_id = %s", (prediction_id,)) if database else None
    if found is None:
        found = lake.rows("lake.feedback", equals("prediction_id", prediction_id))
    return sorted(found or [], key=lambda each: (str(each["labelled_at"]), str(each.get("kafka_offset"))))


def describe_model(graph: Graph, model: str, lake: Lake, name: str, version: int) -> None:
    """A model version's artifact and training snapshot, from the registry."""
    known = lake.models.get((name, version))
    if known is None:
        graph.miss(f"model version {name}@{version} is not in the registry")
        return
    graph.add(
        "model",
        f"{name}@{version}",
        kind_of_model=known.kind,
        created_at=_iso(known.created_at),
        code_hash=known.code_hash,
        signature_hash=known.signature_hash,
    )
    graph.link(model, "served from", graph.add("artifact", known.artifact_sha256, bytes=known.artifact_bytes))
    data = known.training_data
    source = source_of(data)
    if source is not None and source.snapshot is not None:
        snapshot = graph.add("snapshot", f"{source.table}@{source.snapshot}", filter=data.get("filter"))
        graph.link(model, "trained on", snapshot)
    elif data:
        digest = hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]
        graph.link(model, "trained on", graph.add("training data", digest, **{str(k): v for k, v in data.items()}))


def members(row: Row) -> list[Row]:
    """The models that answered, from `members` as text or JSON."""
    value = row["members"]
    found = json.loads(value) if isinstance(value, str) else value
    return [each for each in found or [] if isinstance(each, dict)]


def recomputed(row: Row) -> bool | None:
    """Whether the id is the hash over tenant, pipeline, entity and window that our pipelines make; None for ids of other making."""
    text = f"{row['tenant_id']}/{row['pipeline']}/{row['entity_id']}/{_text(row['feature_end'])}"
    made = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return True if made == row["prediction_id"] else None


def within(event: Row, row: Row) -> bool:
    """Whether an event lies in a prediction's window, or is the record of an online prediction."""
    if (event.get("tenant_id"), event.get("entity_id")) != (row["tenant_id"], row["entity_id"]):
        return False
    if "prediction_id" in event:
        return bool(event["prediction_id"] == row["prediction_id"])
    moment = parse_moment(event.get("event_time"))
    if moment is None:
        return False
    start, end = row["feature_start"], row["feature_end"]
    return bool(moment == end) if start == end else bool(start <= moment < end)


def parse_moment(value: object) -> datetime | None:
    """An event time as JSON has it, with a time zone; one without is UTC."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _event(value: bytes) -> Row | None:
    try:
        event = json.loads(value)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _text(moment: datetime | None) -> str:
    """As the stream database writes an instant."""
    return "" if moment is None else str(moment.astimezone(UTC))


def _iso(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat() if isinstance(moment, datetime) else str(moment)
