-- One row per pump and ten-second window, emitted once, when the watermark has reached the window's end. The window columns
-- get other names because TUMBLE further down refuses an input that already has them.

CREATE MATERIALIZED VIEW features_plant AS
SELECT
    tenant_id,
    entity_id,
    window_start                                    AS feature_start,
    window_end                                      AS feature_end,
    count(*)                                        AS readings,
    avg(vibration)                                  AS vibration_avg,
    stddev_samp(vibration)                          AS vibration_std,
    max(vibration)                                  AS vibration_max,
    avg(temperature)                                AS temperature_avg,
    max(temperature) - min(temperature)             AS temperature_span,
    avg(pressure)                                   AS pressure_avg,
    avg(flow)                                       AS flow_avg,
    count(*) FILTER (WHERE flow < 1.0)              AS low_flow_readings
FROM TUMBLE(plant_events, event_time, INTERVAL '10 seconds')
GROUP BY tenant_id, entity_id, window_start, window_end
EMIT ON WINDOW CLOSE;
