"""The two example files, as they stand, become statements."""

from __future__ import annotations

from sqlglot import exp

from engine.sql import statements as st
from engine.sql import types
from engine.sql.parser import parse

SOURCE = """
CREATE SOURCE plant_events (
    tenant_id   VARCHAR,
    event_time  TIMESTAMP WITH TIME ZONE,
    vibration   DOUBLE PRECISION,
    WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds'
)
INCLUDE partition AS kafka_partition
INCLUDE offset AS kafka_offset
WITH (connector = 'kafka', properties.bootstrap.server = '${KAFKA_BOOTSTRAP}', scan.startup.mode = 'earliest')
FORMAT PLAIN ENCODE JSON;
"""
FEATURES = """
CREATE MATERIALIZED VIEW features_plant AS
SELECT tenant_id, window_start AS feature_start, count(*) FILTER (WHERE flow < 1.0) AS low
FROM TUMBLE(plant_events, event_time, INTERVAL '10 seconds')
GROUP BY tenant_id, window_start
EMIT ON WINDOW CLOSE
"""
TEMPORAL = """
CREATE MATERIALIZED VIEW scored_plant AS
SELECT predict(r.route, f.entity_id, ARRAY[f.a, f.b]) AS outcome
FROM features_plant AS f
LEFT JOIN active_routes FOR SYSTEM_TIME AS OF PROCTIME() AS r ON r.tenant_id = f.tenant_id;
CREATE MATERIALIZED VIEW predictions_plant AS SELECT (outcome).* FROM scored_plant;
"""


def test_a_kafka_source_keeps_watermark_include_options_and_format() -> None:
    (source,) = parse(SOURCE)
    assert isinstance(source, st.CreateSource)
    assert [(column.name, column.type) for column in source.columns] == [
        ("tenant_id", types.VARCHAR),
        ("event_time", types.TIMESTAMPTZ),
        ("vibration", types.FLOAT8),
    ]
    assert source.watermark is not None
    assert source.watermark.column == "event_time"
    assert isinstance(source.watermark.expression, exp.Sub)
    assert source.include == (st.IncludeColumn("partition", "kafka_partition"), st.IncludeColumn("offset", "kafka_offset"))
    assert source.options["properties.bootstrap.server"] == "${KAFKA_BOOTSTRAP}"
    assert source.format == st.Format("PLAIN", "JSON")
    assert source.text == SOURCE.strip().removesuffix(";")


def test_a_tumble_view_emits_on_window_close() -> None:
    (view,) = parse(FEATURES)
    assert isinstance(view, st.CreateMaterializedView)
    assert view.emit_on_window_close
    table = view.query.args["from_"].this
    assert isinstance(table, exp.Table)
    assert isinstance(table.this, exp.Anonymous)
    assert table.this.this == "tumble"
    assert [argument.name for argument in table.this.expressions[:2]] == ["plant_events", "event_time"]


def test_a_temporal_join_keeps_its_moment_and_a_struct_its_star() -> None:
    scored, predictions = parse(TEMPORAL)
    assert isinstance(scored, st.CreateMaterializedView)
    (join,) = scored.query.args["joins"]
    assert join.args["side"] == "LEFT"
    version = join.this.args["version"]
    assert (version.this, version.args["kind"], version.expression.this) == ("TIMESTAMP", "AS OF", "proctime")
    assert join.this.alias == "r"
    assert isinstance(predictions, st.CreateMaterializedView)
    (item,) = predictions.query.expressions
    assert isinstance(item, exp.Dot)
    assert isinstance(item.this, exp.Paren)
    assert isinstance(item.expression, exp.Star)
