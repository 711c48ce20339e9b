-- What each window holds, by tenant_id, entity_id and event_type. An event leaves a window when it is exactly as old as the window is long.
-- Now is the largest event_time of interactions_events.
-- Printed by `headrace features template windows`; see docs/how-to/use-window-features.md.
CREATE MATERIALIZED VIEW features_interactions_spans AS
SELECT
    tenant_id, entity_id,
    event_type,
    span,
    sum(events)::INT                                AS events,
    sum(valued)::INT                                AS valued,
    sum(total)                                      AS total,
    max(seen_at)                                    AS seen_at
FROM (
    SELECT
        tenant_id, entity_id, event_type, span, seen_at, 1 AS events, CASE WHEN total IS NULL THEN 0 ELSE 1 END AS valued, total,
        seen_at + CASE span
            WHEN '1h' THEN INTERVAL '1 hour'
            WHEN '24h' THEN INTERVAL '24 hours'
            WHEN '7d' THEN INTERVAL '168 hours'
            WHEN '30d' THEN INTERVAL '720 hours'
        END AS leaves_at
    FROM (
        SELECT tenant_id, entity_id, event_type, event_time AS seen_at, value AS total, unnest(ARRAY['1h', '24h', '7d', '30d']) AS span
        FROM interactions
    ) AS each_window
) AS entries
WHERE leaves_at > (SELECT max(event_time) FROM interactions_events)
GROUP BY tenant_id, entity_id, event_type, span;

-- One row an entity; `seen_at` is its latest event. Who has done nothing in any window has no row.
CREATE MATERIALIZED VIEW features_interactions AS
SELECT
    tenant_id, entity_id,
    max(seen_at) AS seen_at,
    coalesce(sum(events) FILTER (WHERE span = '1h'), 0) AS count_1h,
    sum(total) FILTER (WHERE span = '1h') AS sum_value_1h,
    sum(total) FILTER (WHERE span = '1h') / nullif(sum(valued) FILTER (WHERE span = '1h'), 0)::DOUBLE PRECISION AS avg_value_1h,
    count(event_type) FILTER (WHERE span = '1h') AS unique_actions_1h,
    coalesce(sum(events) FILTER (WHERE span = '24h'), 0) AS count_24h,
    sum(total) FILTER (WHERE span = '24h') AS sum_value_24h,
    sum(total) FILTER (WHERE span = '24h') / nullif(sum(valued) FILTER (WHERE span = '24h'), 0)::DOUBLE PRECISION AS avg_value_24h,
    count(event_type) FILTER (WHERE span = '24h') AS unique_actions_24h,
    coalesce(sum(events) FILTER (WHERE span = '7d'), 0) AS count_7d,
    sum(total) FILTER (WHERE span = '7d') AS sum_value_7d,
    sum(total) FILTER (WHERE span = '7d') / nullif(sum(valued) FILTER (WHERE span = '7d'), 0)::DOUBLE PRECISION AS avg_value_7d,
    count(event_type) FILTER (WHERE span = '7d') AS unique_actions_7d,
    coalesce(sum(events) FILTER (WHERE span = '30d'), 0) AS count_30d,
    sum(total) FILTER (WHERE span = '30d') AS sum_value_30d,
    sum(total) FILTER (WHERE span = '30d') / nullif(sum(valued) FILTER (WHERE span = '30d'), 0)::DOUBLE PRECISION AS avg_value_30d,
    count(event_type) FILTER (WHERE span = '30d') AS unique_actions_30d
FROM features_interactions_spans
GROUP BY tenant_id, entity_id;
