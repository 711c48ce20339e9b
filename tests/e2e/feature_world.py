"""Events that come late and are corrected, real and simulated, and pipelines that make features of them.

```
  simulated pumps    events.<n>w   with a watermark: windows that close; of the late rows some are in time, the others refused
  real shuttle data  events.<n>c   without one: every late row and every correction changes its window afterwards
```
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka import Producer

START = datetime(2026, 5, 4, 8, tzinfo=UTC)
SENSORS = ("a", "b", "c")

_COLUMNS = """tenant_id VARCHAR, entity_id VARCHAR, event_id VARCHAR, event_time TIMESTAMP WITH TIME ZONE,
    a DOUBLE PRECISION, b DOUBLE PRECISION, c DOUBLE PRECISION"""
_TAIL = """INCLUDE partition AS kafka_partition
INCLUDE offset AS kafka_offset
WITH (connector = 'kafka', topic = 'events.{stream}', properties.bootstrap.server = '${{KAFKA_BOOTSTRAP}}', scan.startup.mode = 'earliest')
FORMAT PLAIN ENCODE JSON;"""
_LAKE = """WITH (connector = 'iceberg', type = 'append-only', warehouse.path = '${{WAREHOUSE}}', catalog.type = '${{CATALOG_TYPE}}',
    catalog.uri = '${{CATALOG_URI}}', catalog.name = 'headrace', database.name = 'lake', table.name = '{table}',
    create_table_if_not_exists = 'true', commit_checkpoint_interval = 1);"""

_WINDOW = """SELECT tenant_id, entity_id, window_end AS feature_end, count(*) AS readings, avg(a) AS a_avg, stddev_samp(b) AS b_std,
    max(c) - min(c) AS c_span
FROM TUMBLE({stream}_events, event_time, INTERVAL '10 seconds')
GROUP BY tenant_id, entity_id, window_start, window_end"""

_DECLARED = """feature_views:
{views}"""
_VIEW = """  - name: {name}
    entity: [tenant_id, entity_id]
    timestamp: feature_end
    ttl: {ttl}
    frequency: 10 seconds
    features:
      - {{name: readings, type: bigint, inputs: [event_time]}}
      - {{name: a_avg, type: double precision, inputs: [a]}}
      - {{name: b_std, type: double precision, inputs: [b]}}
      - {{name: c_span, type: double precision, inputs: [c]}}
    offline:
      events: {stream}
      {emit}
      sql: |
        SELECT tenant_id, entity_id, time_bucket(INTERVAL '10 seconds', event_time) + INTERVAL '10 seconds' AS feature_end,
               count(*) AS readings, avg(a) AS a_avg, stddev_samp(b) AS b_std, max(c) - min(c) AS c_span
        FROM {events} GROUP BY ALL
"""
_CLOSES = "emit: window_close\n      watermark: 5 seconds"
_CORRECTED_EVENTS = (
    "(SELECT * FROM events QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY kafka_offset::BIGINT DESC) = 1)"
)


@dataclass(frozen=True)
class Skew:
    """A wrong view to plant: its name's ending, and what is replaced in the SQL of the right one."""

    ending: str
    right: str
    wrong: str


def write_folder(folder: Path, name: str, skews: Sequence[Skew] = ()) -> None:
    """A pipeline with the views `<name>w` (windows that close), `<name>c` (corrected), and one for each skew."""
    closing, corrected = f"{name}w", f"{name}c"
    sources = [
        f"CREATE SOURCE {closing}_events ({_COLUMNS}, WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds')\n"
        + _TAIL.format(stream=closing),
        f"CREATE SOURCE {corrected}_events ({_COLUMNS})\n" + _TAIL.format(stream=corrected),
    ]
    kept = "tenant_id, entity_id, event_id, event_time, a, b, c, kafka_partition, kafka_offset"
    sources += [
        f"CREATE SINK events_{stream}_lake AS SELECT {kept}\nFROM {stream}_events\n" + _LAKE.format(table=f"events_{stream}")
        for stream in (closing, corrected)
    ]
    (folder / "10_source.sql").write_text("\n\n".join(sources))
    window = _WINDOW.format(stream=closing)
    views = []
    for ending, sql in [("", window), *((skew.ending, _replaced(window, skew)) for skew in skews)]:
        view = f"features_{closing}{ending}"
        views.append(f"CREATE MATERIALIZED VIEW {view} AS\n{sql}\nEMIT ON WINDOW CLOSE;")
        views.append(f"CREATE SINK {view}_lake FROM {view}\n" + _LAKE.format(table=view))
    views.append(
        f"CREATE MATERIALIZED VIEW current_{corrected} AS SELECT tenant_id, entity_id, event_id, event_time, a, b, c FROM (\n"
        f"    SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY kafka_offset::bigint DESC) AS version FROM {corrected}_events\n"
        ") AS versions WHERE version = 1;"
    )
    grouped = _WINDOW.format(stream=corrected).replace(f"{corrected}_events", f"current_{corrected}")
    views.append(f"CREATE MATERIALIZED VIEW features_{corrected} AS\n{grouped};")
    views.append(
        f"CREATE SINK features_{corrected}_lake AS WITH changes AS CHANGELOG FROM features_{corrected}\n"
        "SELECT tenant_id, entity_id, feature_end, readings, a_avg, b_std, c_span, changelog_op FROM changes\n"
        + _LAKE.format(table=f"features_{corrected}")
    )
    (folder / "20_features.sql").write_text("\n\n".join(views))
    declared = [
        _VIEW.format(name=f"{closing}{ending}", stream=closing, emit=_CLOSES, events="events", ttl="1 minute")
        for ending in ("", *(skew.ending for skew in skews))
    ]
    declared.append(_VIEW.format(name=corrected, stream=corrected, emit="emit: update", events=_CORRECTED_EVENTS, ttl="1 hour"))
    (folder / "features.yaml").write_text(_DECLARED.format(views="".join(declared)))


def _replaced(sql: str, skew: Skew) -> str:
    assert skew.right in sql
    return sql.replace(skew.right, skew.wrong)


@dataclass(frozen=True)
class Batch:
    """Records by topic ending (`w`, `c`), as they arrive together."""

    records: dict[str, list[dict[str, object]]]


def batches(real: Sequence[tuple[float, float, float]], simulated: int, *, seed: int, count: int) -> Iterator[Batch]:
    """The events in `count` batches: 5 % late by up to a minute, 2 % of all corrected, by events that come later still.

    The last batch holds one event of each stream that is on time and later than all others.

    Args:
        real: readings of `c`, in their order; corrections are drawn from them alone.
        simulated: how many readings of pumps for `w`.
    """
    randomness = random.Random(seed)
    arriving: list[tuple[float, int, str, dict[str, object]]] = []
    corrected = 0.02 * (simulated + len(real)) / len(real)
    number = 0
    for i in range(simulated):
        seconds, entity = i * 0.05, f"pump-{i % 8}"
        wear = 1 + (i % 8) * 0.3
        values = (wear + randomness.gauss(0, 0.2), 60 + randomness.gauss(0, 2), 5 + randomness.gauss(0, 0.1))
        number += 1
        arriving.append((_arrival(seconds, randomness), number, "w", _event(f"w{i}", entity, seconds, values)))
    for i, values in enumerate(real):
        seconds, entity = i * 0.05, f"sensor-{i % 6}"
        number += 1
        event = _event(f"c{i}", entity, seconds, values)
        arriving.append((_arrival(seconds, randomness), number, "c", event))
        if randomness.random() < corrected:
            number += 1
            mended = {**event, "a": values[0] + 1.0, "b": values[1] * 1.5}
            arriving.append((seconds + randomness.uniform(1, 120), number, "c", mended))
    arriving.sort(key=lambda each: each[:2])
    size = -(-len(arriving) // count)
    for begin in range(0, len(arriving), size):
        records: dict[str, list[dict[str, object]]] = {"w": [], "c": []}
        for _, _, stream, event in arriving[begin : begin + size]:
            records[stream].append(event)
        yield Batch(records)
    end = max(simulated, len(real)) * 0.05 + 300
    last = {each: [_event(f"{each}-end", "the-end", end, (0.0, 0.0, 0.0))] for each in ("w", "c")}
    yield Batch(last)


def send(producer: Producer, topic: str, records: Sequence[dict[str, object]]) -> int:
    """Send, wait for the acknowledgements, and return the last offset; -1 for no record."""
    last = -1

    def arrived(error: object, message: object) -> None:
        nonlocal last
        assert error is None, error
        last = max(last, message.offset())  # type: ignore[attr-defined]

    for record in records:
        producer.produce(topic, json.dumps(record).encode(), callback=arrived)
        producer.poll(0)
    producer.flush(60)
    return last


# -- below: called by the above


def _arrival(seconds: float, randomness: random.Random) -> float:
    return seconds + randomness.uniform(0.5, 60) if randomness.random() < 0.05 else seconds


def _event(event_id: str, entity: str, seconds: float, values: tuple[float, float, float]) -> dict[str, object]:
    return {
        "tenant_id": "acme",
        "entity_id": entity,
        "event_id": event_id,
        "event_time": (START + timedelta(seconds=seconds)).isoformat(),
        **dict(zip(SENSORS, values, strict=True)),
    }
