-- The level of each channel over the last ten rows, this one included, and how many rows there were: nothing looks ahead.

CREATE MATERIALIZED VIEW features_recordings AS
SELECT
    tenant_id,
    entity_id,
    event_time                                      AS feature_start,
    event_time                                      AS feature_end,
    row_number() OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time) AS rows_seen,
    coalesce(avg(v1) OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 0.0) AS v1_level,
    coalesce(avg(v2) OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 0.0) AS v2_level,
    coalesce(avg(v3) OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 0.0) AS v3_level,
    coalesce(avg(v4) OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 0.0) AS v4_level,
    coalesce(avg(v5) OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 0.0) AS v5_level,
    coalesce(avg(v6) OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 0.0) AS v6_level,
    coalesce(avg(v7) OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 0.0) AS v7_level,
    coalesce(avg(v8) OVER (PARTITION BY tenant_id, entity_id ORDER BY event_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW), 0.0) AS v8_level
FROM recordings_events
EMIT ON WINDOW CLOSE;
