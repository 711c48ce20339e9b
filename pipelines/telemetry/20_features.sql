-- Row by row: a feature row lasts no longer than its event.

CREATE MATERIALIZED VIEW features_telemetry AS
SELECT
    tenant_id,
    entity_id,
    event_time                                      AS feature_start,
    event_time                                      AS feature_end,
    f1, f2, f3, f4, f5, f6, f7, f8, f9
FROM telemetry_events;
