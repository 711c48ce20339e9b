-- Level and unrest of each channel in ten seconds. A channel that a recording does not have is 0, always, as in training.

CREATE MATERIALIZED VIEW features_replay AS
SELECT
    tenant_id,
    entity_id,
    window_start                                    AS feature_start,
    window_end                                      AS feature_end,
    count(*)                                        AS readings,
    coalesce(avg(v1), 0.0)                          AS v1_avg,
    coalesce(avg(v2), 0.0)                          AS v2_avg,
    coalesce(avg(v3), 0.0)                          AS v3_avg,
    coalesce(avg(v4), 0.0)                          AS v4_avg,
    coalesce(avg(v5), 0.0)                          AS v5_avg,
    coalesce(avg(v6), 0.0)                          AS v6_avg,
    coalesce(avg(v7), 0.0)                          AS v7_avg,
    coalesce(avg(v8), 0.0)                          AS v8_avg,
    coalesce(stddev_samp(v1), 0.0)                  AS v1_std,
    coalesce(stddev_samp(v2), 0.0)                  AS v2_std,
    coalesce(stddev_samp(v3), 0.0)                  AS v3_std,
    coalesce(stddev_samp(v4), 0.0)                  AS v4_std,
    coalesce(stddev_samp(v5), 0.0)                  AS v5_std,
    coalesce(stddev_samp(v6), 0.0)                  AS v6_std,
    coalesce(stddev_samp(v7), 0.0)                  AS v7_std,
    coalesce(stddev_samp(v8), 0.0)                  AS v8_std
FROM TUMBLE(replay_events, event_time, INTERVAL '10 seconds')
GROUP BY tenant_id, entity_id, window_start, window_end
EMIT ON WINDOW CLOSE;
