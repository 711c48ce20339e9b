"""The plant's window features, by the aggregates of `features_plant`, in plain DuckDB.

Training sees what the stream database will compute, from the same expressions; a test holds them against the pipeline's SQL.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

FEATURES = (
    "vibration_avg",
    "vibration_std",
    "vibration_max",
    "temperature_avg",
    "temperature_span",
    "pressure_avg",
    "flow_avg",
)

WINDOW_SQL = """
SELECT
    tenant_id,
    entity_id,
    time_bucket(INTERVAL '10 seconds', event_time)                          AS feature_start,
    time_bucket(INTERVAL '10 seconds', event_time) + INTERVAL '10 seconds'  AS feature_end,
    count(*)                                        AS readings,
    avg(vibration)                                  AS vibration_avg,
    stddev_samp(vibration)                          AS vibration_std,
    max(vibration)                                  AS vibration_max,
    avg(temperature)                                AS temperature_avg,
    max(temperature) - min(temperature)             AS temperature_span,
    avg(pressure)                                   AS pressure_avg,
    avg(flow)                                       AS flow_avg
FROM events
GROUP BY ALL
ORDER BY tenant_id, entity_id, feature_start
"""


def window_features(events: pa.Table) -> pa.Table:
    """One row per tenant, pump and ten-second window, from events as `PlantReplay.events` has them."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("events", events)
        return connection.sql(WINDOW_SQL).to_arrow_table()


def labelled_features(events: pa.Table, truth: pa.Table) -> pa.Table:
    """`window_features` with the columns `label` and `fault`, in the order of tenant, pump and time."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("windows", window_features(events))
        connection.register("truth", truth)
        return connection.sql(
            "SELECT w.*, t.label, t.fault FROM windows AS w JOIN truth AS t"
            " ON (t.tenant_id, t.entity_id, t.window_start) = (w.tenant_id, w.entity_id, w.feature_start)"
            " ORDER BY w.tenant_id, w.entity_id, w.feature_start"
        ).to_arrow_table()
