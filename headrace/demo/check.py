"""Looks at everything from outside, works out what should be there, and compares.

Topics are read by confluent-kafka, the lake by PyIceberg, the view by psycopg; what should be there comes from
`expectations` (Python and DuckDB over the raw topics) and `rescore` (onnxruntime). Nothing is taken from the engine's word
but the route epoch of a row.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
from pyiceberg.catalog import Catalog

from core.settings import Settings
from headrace.demo.expectations import PIPELINES, Judged, closing_times, expected_rows, judge, open_windows
from headrace.demo.feedback import parse_instant
from headrace.demo.places import Prediction, from_lake, from_topic, from_view, in_utc
from headrace.demo.records import FeatureKey
from headrace.demo.rescore import Answer, Artifacts, RouteMember, rescore
from headrace.demo.summary import Percentiles, Summary, TenantSummary
from headrace.demo.topics import Raw, read_all

FEATURE_TOLERANCE = 1e-9  # relative: sums of doubles in another order
SCORE_TOLERANCE = 1e-5  # probabilities are float32, batches of another size may sum in another order
REASON_WORDS: Mapping[str, tuple[str, ...]] = {
    "broken": ("json",),
    "mistyped": ("type", "invalid", "cannot", "not a"),
    "incomplete": ("missing", "null", "required"),
    "early": ("future", "ahead", "early"),
    "late": ("late",),
}
"""Words of which one must stand in the reason that the quarantine gives, by what we found to be wrong."""


@dataclass(frozen=True)
class Situation:
    """What the demo knows besides what it can read.

    Attributes:
        sent: (pipeline, tenant) to acknowledged records.
        routes: (pipeline, tenant) to the members that were set at route epoch 1.
        truth: pipeline to the true label by what a prediction is about.
        must_beat_baselines: whether each tenant's accuracy is a check or only reported.
        least_latencies: how many predictions of the steady phase a 99th percentile is worth telling from.
        steady_from_ms: begin of the phase at a steady rate, broker time, unix milliseconds.
    """

    sent: Mapping[tuple[str, str], int]
    tenants: Mapping[str, Sequence[str]]
    routes: Mapping[tuple[str, str], Sequence[RouteMember]]
    truth: Mapping[str, Mapping[FeatureKey, str]]
    steady_from_ms: int
    must_beat_baselines: bool = True
    least_latencies: int = 100


def check_everything(
    settings: Settings, catalog: Catalog, artifacts: Artifacts, situation: Situation, summary: Summary
) -> None:
    """Compare, and write checks, counts and measurements into the summary. The processes must be running."""
    judged = {name: _judge(settings, name) for name in situation.tenants}
    topic = [from_topic(raw) for raw in read_all(settings.kafka, "predictions")]
    lake = from_lake(catalog)
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        view = from_view(connection)
        quarantine = connection.execute("SELECT stream, kafka_partition, kafka_offset, reason FROM quarantine").fetchall()
        labelled = connection.execute("SELECT pipeline, prediction_id, label FROM labelled").fetchall()
    labels = _last_labels(settings.kafka)
    for name in situation.tenants:
        raw, verdicts = judged[name]
        _check_quarantine(name, verdicts, [row[1:] for row in quarantine if row[0] == name], summary)
        own = [row for row in topic if row.pipeline == name]
        expected = _expected(name, verdicts, situation, artifacts)
        places = {
            "topic": own,
            "lake": [r for r in lake if r.pipeline == name],
            "view": [r for r in view if r.pipeline == name],
        }
        for place, found in places.items():
            _check_place(name, place, found, expected, summary)
        _check_lake_features(name, catalog, verdicts, summary)
        _count(name, raw, verdicts, own, labels, situation, summary)
        if situation.truth[name]:
            _check_labels(name, {row[1]: row[2] for row in labelled if row[0] == name}, own, labels, summary)
    _check_sent(summary)
    if situation.must_beat_baselines:
        _check_accuracy(situation, summary)
    _measure_latency({name: verdicts for name, (_, verdicts) in judged.items()}, topic, situation, summary)
    table = catalog.load_table("lake.predictions")
    summary.iceberg_snapshots = len(table.snapshots())
    summary.check("lake has snapshots to travel to", summary.iceberg_snapshots > 1, f"{summary.iceberg_snapshots} snapshots")


def _judge(settings: Settings, pipeline: str) -> tuple[list[Raw], Judged]:
    raw = read_all(settings.kafka, f"events.{pipeline}")
    return raw, judge(raw, PIPELINES[pipeline])


def _expected(
    pipeline: str, judged: Judged, situation: Situation, artifacts: Artifacts
) -> dict[str, tuple[Prediction, Answer]]:
    """What must be predicted, by id; `label`, `score` and members' JSON stand in the answer."""
    rows = expected_rows(pipeline, judged).to_pylist()
    answers: dict[str, tuple[Prediction, Answer]] = {}
    for tenant in situation.tenants[pipeline]:
        own = [row for row in rows if row["tenant_id"] == tenant]
        scored = rescore([row["features"] for row in own], situation.routes[(pipeline, tenant)], artifacts)
        for row, answer in zip(own, scored, strict=True):
            prediction = Prediction(
                row["prediction_id"], pipeline, tenant, row["entity_id"], in_utc(row["feature_start"]), in_utc(row["feature_end"]),
                tuple(row["features"]), 1, answer.label, answer.score, None, None,
            )  # fmt: skip
            answers[prediction.prediction_id] = (prediction, answer)
    return answers


def _check_quarantine(pipeline: str, judged: Judged, quarantined: Sequence[tuple[int, int, str]], summary: Summary) -> None:
    """Each quarantined row is bad by our own judgement, for the reason given, and each bad row is there."""
    found = {(partition, offset): reason for partition, offset, reason in quarantined}
    bad = {(verdict.partition, verdict.offset): verdict.kind for verdict in judged.bad}
    innocent, escaped = found.keys() - bad.keys(), bad.keys() - found.keys()
    mismatched = [
        f"offset {place[1]}: {bad[place]} but `{reason}`"
        for place, reason in found.items()
        if place in bad and not any(word in reason.lower() for word in REASON_WORDS[bad[place]])
    ]
    detail = f"{len(found)} quarantined, each bad on its own: {dict(sorted(Counter(bad.values()).items()))}"
    if innocent or escaped or mismatched or len(found) != len(quarantined):
        detail = f"good but quarantined {_some(innocent)}, bad but not quarantined {_some(escaped)}, wrong reason {_some(mismatched)}"
    ok = not (innocent or escaped or mismatched) and len(found) == len(quarantined)
    summary.check(f"{pipeline}: quarantine holds the bad rows and no other", ok, detail)


def _check_place(
    pipeline: str, place: str, found: Sequence[Prediction], expected: Mapping[str, tuple[Prediction, Answer]], summary: Summary
) -> None:
    """One place holds exactly the expected predictions, once each, with the expected values."""
    counts = Counter(row.prediction_id for row in found)
    duplicates = sum(count - 1 for count in counts.values())
    missing = expected.keys() - counts.keys()
    unexpected = counts.keys() - expected.keys()
    summary.duplicates += duplicates
    summary.missing += len(missing)
    wrong = [text for row in found if row.prediction_id in expected for text in _differences(row, *expected[row.prediction_id])]
    detail = f"{len(found)} rows equal the recomputation"
    if duplicates or missing or unexpected or wrong:
        detail = (
            f"{len(found)} rows, {len(expected)} expected; duplicates {duplicates}, missing {_some(missing)}, "
            f"unexpected {_some(unexpected)}, wrong {_some(wrong)}"
        )
    summary.check(
        f"{pipeline}: {place} holds each prediction once, with the right values",
        bool(found) and not (duplicates or missing or unexpected or wrong),
        detail,
    )


def _differences(row: Prediction, expected: Prediction, answer: Answer) -> list[str]:
    wrong = [
        f"{name} of {row.prediction_id}: {getattr(row, name)!r}, not {getattr(expected, name)!r}"
        for name in ("tenant_id", "entity_id", "feature_start", "feature_end", "route_epoch", "label")
        if getattr(row, name) != getattr(expected, name)
    ]
    if not _close(row.features, expected.features, FEATURE_TOLERANCE):
        wrong.append(f"features of {row.prediction_id}: {row.features}, not {expected.features}")
    if not _close((row.score,), (answer.score,), SCORE_TOLERANCE):
        wrong.append(f"score of {row.prediction_id}: {row.score}, not {answer.score}")
    if (row.error is None) != (answer.score is not None):
        wrong.append(f"error of {row.prediction_id}: {row.error}")
    return wrong


def _check_lake_features(pipeline: str, catalog: Catalog, judged: Judged, summary: Summary) -> None:
    """`lake.features_<pipeline>` has one row for each expected one; its values are the predictions' features, checked there."""
    rows = catalog.load_table(f"lake.features_{pipeline}").scan().to_arrow()
    found = Counter(
        zip(
            rows["tenant_id"].to_pylist(),
            rows["entity_id"].to_pylist(),
            map(in_utc, rows["feature_end"].to_pylist()),
            strict=True,
        )
    )
    expected = Counter(
        (row["tenant_id"], row["entity_id"], in_utc(row["feature_end"])) for row in expected_rows(pipeline, judged).to_pylist()
    )
    detail = f"{found.total()} rows"
    if found != expected:
        detail = f"{found.total()} rows, {expected.total()} expected; too few {_some(expected - found)}, too many {_some(found - expected)}"
    summary.check(f"{pipeline}: lake.features_{pipeline} holds each feature row once", found == expected, detail)


def _count(
    pipeline: str,
    raw: Sequence[Raw],
    judged: Judged,
    predictions: Sequence[Prediction],
    labels: Mapping[str, str],
    situation: Situation,
    summary: Summary,
) -> None:
    tenant_at = {(record.partition, record.offset): record.tenant for record in raw}
    still_open = open_windows(pipeline, judged)
    for tenant in situation.tenants[pipeline]:
        own = [row for row in predictions if row.tenant_id == tenant]
        bad = Counter(verdict.kind for verdict in judged.bad if tenant_at[(verdict.partition, verdict.offset)] == tenant)
        judged_labels = [(row.label, labels[row.prediction_id]) for row in own if row.prediction_id in labels and row.label]
        summary.tenants[tenant] = TenantSummary(
            pipeline=pipeline,
            events_sent=situation.sent.get((pipeline, tenant), 0),
            events_read=sum(owner == tenant for owner in tenant_at.values()),
            late=bad["late"],
            quarantined=bad.total(),
            windows_closed=len(own) if PIPELINES[pipeline].window else 0,
            windows_open=still_open.get(tenant, 0),
            predictions=len(own),
            prediction_errors=sum(row.error is not None for row in own),
            labels=sum(row.prediction_id in labels for row in own),
            accuracy=float(np.mean([told == true for told, true in judged_labels])) if judged_labels else None,
            baseline_accuracy=_baseline(own, situation.truth[pipeline]),
        )


def _baseline(predictions: Sequence[Prediction], truth: Mapping[FeatureKey, str]) -> float | None:
    """The better of: always the most frequent class; always the label that was true of this entity just before."""
    ordered = sorted(predictions, key=lambda row: (row.entity_id, row.feature_end))
    known = [(row.entity_id, truth.get(FeatureKey(row.tenant_id, row.entity_id, row.feature_end))) for row in ordered]
    known = [(entity, label) for entity, label in known if label is not None]
    if not known:
        return None
    majority = max(Counter(label for _, label in known).values())
    repeated = sum(before == now for before, now in itertools.pairwise(known))
    return max(majority, repeated) / len(known)


def _check_sent(summary: Summary) -> None:
    lost = {name: t for name, t in summary.tenants.items() if t.events_sent != t.events_read}
    total = sum(t.events_sent for t in summary.tenants.values())
    detail = f"{total} records acknowledged and read back" if not lost else f"differs for {sorted(lost)}"
    summary.check("the broker holds what was sent", not lost and total > 0, detail)


def _check_labels(
    pipeline: str, labelled: Mapping[str, str], predictions: Sequence[Prediction], labels: Mapping[str, str], summary: Summary
) -> None:
    """The view `labelled` joins each labelled prediction with the label that counts."""
    expected = {row.prediction_id: labels[row.prediction_id] for row in predictions if row.prediction_id in labels}
    wrong = {name for name in expected.keys() | labelled.keys() if expected.get(name) != labelled.get(name)}
    detail = f"{len(expected)} predictions with their last label" if not wrong else f"{len(wrong)} differ, {_some(wrong)}"
    # Of a handful of predictions it may happen that none is labelled; of twenty, not.
    summary.check(
        f"{pipeline}: late labels and corrections are joined", not wrong and bool(expected or len(predictions) < 20), detail
    )


def _check_accuracy(situation: Situation, summary: Summary) -> None:
    for pipeline, tenants in situation.tenants.items():
        rows = [summary.tenants[tenant] for tenant in tenants]
        told = ", ".join(
            f"{name} {row.accuracy or 0:.3f} over {row.baseline_accuracy or 0:.3f}"
            for name, row in zip(tenants, rows, strict=True)
        )
        better = all(
            row.accuracy is not None and row.baseline_accuracy is not None and row.accuracy > row.baseline_accuracy
            for row in rows
        )
        summary.check(f"{pipeline}: accuracy is above its baselines", better, told)


def _measure_latency(judged: Mapping[str, Judged], topic: Sequence[Prediction], situation: Situation, summary: Summary) -> None:
    """From the append of the event that made a row final to the append of its prediction, in the steady phase only."""
    everything: list[float] = []
    for name, verdicts in judged.items():
        trigger = {
            (row["tenant_id"], row["entity_id"], in_utc(row["feature_end"])): row["trigger_ms"]
            for row in closing_times(name, verdicts).to_pylist()
        }
        own = []
        for row in topic:
            begun = trigger.get((row.tenant_id, row.entity_id, row.feature_end)) if row.pipeline == name else None
            if begun is not None and begun >= situation.steady_from_ms:
                own.append(float(row.appended_ms - begun))
        summary.event_to_prediction_ms_by_pipeline[name] = _percentiles(own)
        everything += own
    summary.event_to_prediction_ms = _percentiles(everything)
    summary.check(
        "latency was measured at a steady rate",
        len(everything) >= situation.least_latencies and min(everything, default=0.0) >= 0,
        f"{len(everything)} predictions after the recovery, p50 {summary.event_to_prediction_ms.p50} ms, "
        f"p99 {summary.event_to_prediction_ms.p99} ms",
    )


def _percentiles(values: Sequence[float]) -> Percentiles:
    if not values:
        return Percentiles()
    return Percentiles(*(round(float(value), 1) for value in np.percentile(values, [50, 99])))


def _last_labels(bootstrap: str) -> dict[str, str]:
    """The label that counts for each prediction: the last by `labelled_at`, then by offset."""
    rows = [
        (parse_instant(row["labelled_at"]), raw.offset, row)
        for raw in read_all(bootstrap, "feedback")
        for row in [json.loads(raw.value)]
    ]
    return {row["prediction_id"]: row["label"] for _, _, row in sorted(rows, key=lambda each: each[:2])}


def _close(left: Sequence[float | None], right: Sequence[float | None], tolerance: float) -> bool:
    if len(left) != len(right):
        return False
    return all(
        (a is None) == (b is None) and (a is None or b is None or abs(a - b) <= tolerance * max(1.0, abs(b)))
        for a, b in zip(left, right, strict=True)
    )


def _some(things: Iterable[object]) -> str:
    """How many, and the first few."""
    listed = sorted(map(str, things))
    return f"{len(listed)}" + (f" (e.g. {'; '.join(listed[:3])})" if listed else "")
