"""What must come out, worked out from the raw records by plain Python and DuckDB, without asking the stream database.

Nothing here is shared with the engine: a record is judged by the standard library's JSON, late rows by the rule of the
contract (row by row, in the order of the offsets), features and ids by a query of our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from headrace.demo.topics import Raw

WATERMARK_DELAY = timedelta(seconds=5)
MAX_FUTURE_SKEW = timedelta(minutes=5)
REQUIRED = ("tenant_id", "entity_id", "event_time")

# As `timestamptz::varchar` writes it: no, three or six decimals, as many as the value needs, then the zone.
_ID = """md5(tenant_id || '/{pipeline}/' || entity_id || '/' || strftime(feature_end, '%Y-%m-%d %H:%M:%S') || CASE
    WHEN epoch_us(feature_end) % 1000000 = 0 THEN ''
    WHEN epoch_us(feature_end) % 1000 = 0 THEN printf('.%03d', epoch_us(feature_end) % 1000000 // 1000)
    ELSE printf('.%06d', epoch_us(feature_end) % 1000000) END || '+00:00')"""


@dataclass(frozen=True)
class Expected:
    """How one pipeline turns good events into feature rows.

    Attributes:
        endpoint: whose route answers.
        doubles: event columns that hold numbers or null.
        texts: event columns that hold text or null.
        window: width of its windows; None where each event is a row of its own.
        features: over `events`, with `tenant_id, entity_id, feature_start, feature_end, features double[]`; times are naive UTC.
    """

    endpoint: str
    doubles: tuple[str, ...]
    texts: tuple[str, ...]
    window: timedelta | None
    features: str


def _each_event(features: str) -> str:
    return f"SELECT tenant_id, entity_id, event_time AS feature_start, event_time AS feature_end, {features} AS features FROM events"


_REPLAY_CHANNELS = tuple(f"v{i}" for i in range(1, 9))

PIPELINES: Mapping[str, Expected] = {
    "plant": Expected(
        "plant.health",
        ("vibration", "temperature", "pressure", "flow"),
        (),
        timedelta(seconds=10),
        """SELECT tenant_id, entity_id,
                  time_bucket(INTERVAL '10 seconds', event_time) AS feature_start,
                  time_bucket(INTERVAL '10 seconds', event_time) + INTERVAL '10 seconds' AS feature_end,
                  [avg(vibration), stddev_samp(vibration), max(vibration), avg(temperature),
                   max(temperature) - min(temperature), avg(pressure), avg(flow)] AS features
           FROM events GROUP BY ALL""",
    ),
    "replay": Expected(
        "replay.anomaly",
        _REPLAY_CHANNELS,
        (),
        timedelta(seconds=10),
        f"""SELECT tenant_id, entity_id,
                   time_bucket(INTERVAL '10 seconds', event_time) AS feature_start,
                   time_bucket(INTERVAL '10 seconds', event_time) + INTERVAL '10 seconds' AS feature_end,
                   [{", ".join(f"coalesce(avg({each}), 0)" for each in _REPLAY_CHANNELS)},
                    {", ".join(f"coalesce(stddev_samp({each}), 0)" for each in _REPLAY_CHANNELS)}] AS features
            FROM events GROUP BY ALL""",
    ),
    "telemetry": Expected(
        "telemetry.anomaly",
        tuple(f"f{i}" for i in range(1, 10)),
        (),
        None,
        _each_event("[f1, f2, f3, f4, f5, f6, f7, f8, f9]"),
    ),
    "vision": Expected(
        "vision.digit",
        (),
        ("payload",),
        None,
        _each_event(
            "list_transform(range(1, 65), lambda i: ('0x' || substr(hex(from_base64(payload)), 2 * i - 1, 2))::INTEGER::DOUBLE)"
        ),
    ),
}


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a record."""

    partition: int
    offset: int
    kind: str


@dataclass(frozen=True)
class Judged:
    """Records of one topic, sorted into good and bad.

    Attributes:
        events: the good ones: the event's columns, `event_time` naive UTC, `_partition`, `_offset`, `_appended_ms`.
        bad: what is wrong with each of the others.
        watermark: of the whole topic at its end, naive UTC; None while there is no good row.
    """

    events: pa.Table
    bad: tuple[Verdict, ...]
    watermark: datetime | None


def judge(records: Sequence[Raw], expected: Expected) -> Judged:
    """Sort records, given in offset order within a partition."""
    good: list[dict[str, object]] = []
    bad: list[Verdict] = []
    latest: dict[int, datetime] = {}
    for raw in records:
        event, kind = _read(raw, expected)
        if kind is None:
            moment: datetime = event["event_time"]
            newest = latest.get(raw.partition, moment)
            if moment < newest - WATERMARK_DELAY:
                kind = "late"
            latest[raw.partition] = max(moment, newest)
        if kind is None:
            good.append({**event, "_partition": raw.partition, "_offset": raw.offset, "_appended_ms": raw.appended_ms})
        else:
            bad.append(Verdict(raw.partition, raw.offset, kind))
    return Judged(
        pa.Table.from_pylist(good, schema=_schema(expected)),
        tuple(bad),
        min(latest.values()) - WATERMARK_DELAY if latest else None,
    )


def expected_rows(pipeline: str, judged: Judged) -> pa.Table:
    """The feature rows that must have been predicted: prediction_id, tenant_id, entity_id, feature_start, feature_end, features.

    Windows that the watermark has not reached are left out.
    """
    expected = PIPELINES[pipeline]
    closed = "TRUE" if expected.window is None else "feature_end <= $watermark"
    with duckdb.connect() as connection:
        connection.register("events", judged.events)
        query = (
            f"SELECT {_ID.format(pipeline=pipeline)} AS prediction_id, * FROM ({expected.features}) "
            f"WHERE {closed} ORDER BY tenant_id, entity_id, feature_end"
        )
        parameters = {"watermark": judged.watermark} if expected.window is not None else None
        return connection.sql(query, params=parameters).to_arrow_table()


def open_windows(pipeline: str, judged: Judged) -> dict[str, int]:
    """Windows by tenant that had begun but were not over when the stream ended."""
    expected = PIPELINES[pipeline]
    if expected.window is None:
        return {}
    with duckdb.connect() as connection:
        connection.register("events", judged.events)
        rows = connection.execute(
            f"SELECT tenant_id, count(*) FROM ({expected.features}) WHERE feature_end > $watermark GROUP BY ALL",
            {"watermark": judged.watermark},
        ).fetchall()
    return dict(rows)


def closing_times(pipeline: str, judged: Judged) -> pa.Table:
    """For each feature row the append time of the event that made it final: `feature_end, tenant_id, entity_id, trigger_ms`.

    That is the first event, in the order of the offsets, whose watermark reaches the window's end; for rows without a window
    it is the event itself.
    """
    expected = PIPELINES[pipeline]
    with duckdb.connect() as connection:
        connection.register("events", judged.events)
        if expected.window is None:
            return connection.sql(
                "SELECT tenant_id, entity_id, event_time AS feature_end, _appended_ms AS trigger_ms FROM events"
            ).to_arrow_table()
        return connection.sql(
            f"""WITH ends AS (SELECT DISTINCT tenant_id, entity_id, feature_end FROM ({expected.features})),
                     marks AS (SELECT _offset, _appended_ms, event_time - $delay AS mark FROM events)
                SELECT tenant_id, entity_id, feature_end, arg_min(_appended_ms, _offset) AS trigger_ms
                FROM ends JOIN marks ON mark >= feature_end GROUP BY ALL""",
            params={"delay": WATERMARK_DELAY},
        ).to_arrow_table()


def _read(raw: Raw, expected: Expected) -> tuple[dict[str, Any], str | None]:  # Any: typed by the checks below
    try:
        event = json.loads(raw.value)
    except ValueError:
        return {}, "broken"
    if not isinstance(event, dict):
        return {}, "mistyped"
    row: dict[str, Any] = {}
    for name in ("tenant_id", "entity_id", *expected.texts):
        value = event.get(name)
        if value is not None and not isinstance(value, str):
            return {}, "mistyped"
        row[name] = value
    for name in expected.doubles:
        value = event.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return {}, "mistyped"
        row[name] = value
    written = event.get("event_time")
    row["event_time"] = None
    if written is not None:
        try:
            row["event_time"] = datetime.fromisoformat(written).astimezone(UTC).replace(tzinfo=None)
        except (TypeError, ValueError):
            return {}, "mistyped"
    if any(row[name] is None for name in REQUIRED):
        return {}, "incomplete"
    appended = datetime.fromtimestamp(raw.appended_ms / 1000, UTC).replace(tzinfo=None)
    return row, "early" if row["event_time"] > appended + MAX_FUTURE_SKEW else None


def _schema(expected: Expected) -> pa.Schema:
    return pa.schema(
        [
            ("tenant_id", pa.string()),
            ("entity_id", pa.string()),
            ("event_time", pa.timestamp("us")),
            *((name, pa.float64()) for name in expected.doubles),
            *((name, pa.string()) for name in expected.texts),
            ("_partition", pa.int32()),
            ("_offset", pa.int64()),
            ("_appended_ms", pa.int64()),
        ]
    )
