-- What breaks the rules that features.yaml declares for features_interactions; printed by `headrace features template rules`.
CREATE MATERIALIZED VIEW feature_violations_interactions AS
SELECT
    tenant_id, entity_id,
    seen_at AS feature_time,
    (ARRAY[
        'count_1h', 'count_1h', 'sum_value_1h', 'unique_actions_1h', 'unique_actions_1h', 'count_24h', 'count_24h',
        'unique_actions_24h', 'unique_actions_24h', 'count_7d', 'count_7d', 'unique_actions_7d', 'unique_actions_7d',
        'count_30d', 'count_30d', 'unique_actions_30d', 'unique_actions_30d', NULL
    ]::VARCHAR[])[broken] AS feature,
    (ARRAY[
        'not_null', 'range', 'range', 'not_null', 'range', 'not_null', 'range', 'not_null', 'range', 'not_null',
        'range', 'not_null', 'range', 'not_null', 'range', 'not_null', 'range', 'sql'
    ]::VARCHAR[])[broken] AS rule,
    (ARRAY[
        'error', 'error', 'warning', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error', 'error',
        'error', 'error', 'error', 'error', 'error', 'error'
    ]::VARCHAR[])[broken] AS severity,
    (ARRAY[
        'warn', 'warn', 'flag', 'warn', 'warn', 'warn', 'warn', 'warn', 'warn', 'warn', 'warn', 'warn', 'warn', 'warn',
        'warn', 'warn', 'warn', 'quarantine'
    ]::VARCHAR[])[broken] AS on_failure,
    (ARRAY[
        count_1h::VARCHAR, count_1h::VARCHAR, sum_value_1h::VARCHAR, unique_actions_1h::VARCHAR,
        unique_actions_1h::VARCHAR, count_24h::VARCHAR, count_24h::VARCHAR, unique_actions_24h::VARCHAR,
        unique_actions_24h::VARCHAR, count_7d::VARCHAR, count_7d::VARCHAR, unique_actions_7d::VARCHAR,
        unique_actions_7d::VARCHAR, count_30d::VARCHAR, count_30d::VARCHAR, unique_actions_30d::VARCHAR,
        unique_actions_30d::VARCHAR, NULL
    ]::VARCHAR[])[broken] AS value,
    (ARRAY[
        'count_1h is there', '0 <= count_1h', '-1000 <= sum_value_1h <= 1000', 'unique_actions_1h is there',
        '0 <= unique_actions_1h', 'count_24h is there', '0 <= count_24h', 'unique_actions_24h is there',
        '0 <= unique_actions_24h', 'count_7d is there', '0 <= count_7d', 'unique_actions_7d is there',
        '0 <= unique_actions_7d', 'count_30d is there', '0 <= count_30d', 'unique_actions_30d is there',
        '0 <= unique_actions_30d', 'count_1h <= count_24h AND count_24h <= count_7d AND count_7d <= count_30d'
    ]::VARCHAR[])[broken] AS told
FROM (
    SELECT *, unnest(ARRAY[
        CASE WHEN count_1h IS NULL THEN 1 END,
        CASE WHEN count_1h < 0 THEN 2 END,
        CASE WHEN (sum_value_1h < -1000 OR sum_value_1h > 1000 OR sum_value_1h = 'NaN'::DOUBLE PRECISION) THEN 3 END,
        CASE WHEN unique_actions_1h IS NULL THEN 4 END,
        CASE WHEN unique_actions_1h < 0 THEN 5 END,
        CASE WHEN count_24h IS NULL THEN 6 END,
        CASE WHEN count_24h < 0 THEN 7 END,
        CASE WHEN unique_actions_24h IS NULL THEN 8 END,
        CASE WHEN unique_actions_24h < 0 THEN 9 END,
        CASE WHEN count_7d IS NULL THEN 10 END,
        CASE WHEN count_7d < 0 THEN 11 END,
        CASE WHEN unique_actions_7d IS NULL THEN 12 END,
        CASE WHEN unique_actions_7d < 0 THEN 13 END,
        CASE WHEN count_30d IS NULL THEN 14 END,
        CASE WHEN count_30d < 0 THEN 15 END,
        CASE WHEN unique_actions_30d IS NULL THEN 16 END,
        CASE WHEN unique_actions_30d < 0 THEN 17 END,
        CASE WHEN NOT (count_1h <= count_24h AND count_24h <= count_7d AND count_7d <= count_30d) THEN 18 END
    ]) AS broken
    FROM features_interactions
    WHERE count_1h IS NULL
        OR count_1h < 0
        OR (sum_value_1h < -1000 OR sum_value_1h > 1000 OR sum_value_1h = 'NaN'::DOUBLE PRECISION)
        OR unique_actions_1h IS NULL
        OR unique_actions_1h < 0
        OR count_24h IS NULL
        OR count_24h < 0
        OR unique_actions_24h IS NULL
        OR unique_actions_24h < 0
        OR count_7d IS NULL
        OR count_7d < 0
        OR unique_actions_7d IS NULL
        OR unique_actions_7d < 0
        OR count_30d IS NULL
        OR count_30d < 0
        OR unique_actions_30d IS NULL
        OR unique_actions_30d < 0
        OR NOT (count_1h <= count_24h AND count_24h <= count_7d AND count_7d <= count_30d)
) AS looked_at
WHERE broken IS NOT NULL
UNION ALL
SELECT tenant_id, entity_id, seen_at AS feature_time, NULL::VARCHAR AS feature, 'unique' AS rule, 'error' AS severity, 'warn' AS on_failure, same_rows::VARCHAR AS value, 'tenant_id, entity_id are unique' AS told FROM (SELECT *, count(*) OVER (PARTITION BY tenant_id, entity_id) AS same_rows FROM features_interactions) AS counted WHERE same_rows > 1;

-- By entity and time: what of a row is wrong, and whether it may be used.
CREATE MATERIALIZED VIEW feature_verdicts_interactions AS
SELECT
    tenant_id, entity_id,
    feature_time,
    count(*) AS violations,
    array_agg(rule || coalesce(' ' || feature, '') ORDER BY rule, feature, told) AS rules,
    array_agg(rule || coalesce(' ' || feature, '') ORDER BY rule, feature, told) FILTER (WHERE on_failure = 'flag') AS flags,
    bool_or(on_failure IN ('quarantine', 'reject')) AS refused,
    bool_or(on_failure = 'quarantine') AS quarantined
FROM feature_violations_interactions
WHERE feature_time IS NOT NULL
GROUP BY tenant_id, entity_id, feature_time;

-- What may be used: refused rows are gone, refused values are NULL, `flags` names what else is wrong.
CREATE MATERIALIZED VIEW valid_interactions AS
SELECT
    f.tenant_id,
    f.entity_id,
    f.seen_at,
    f.count_1h,
    f.sum_value_1h,
    f.avg_value_1h,
    f.unique_actions_1h,
    f.count_24h,
    f.sum_value_24h,
    f.avg_value_24h,
    f.unique_actions_24h,
    f.count_7d,
    f.sum_value_7d,
    f.avg_value_7d,
    f.unique_actions_7d,
    f.count_30d,
    f.sum_value_30d,
    f.avg_value_30d,
    f.unique_actions_30d,
    v.flags
FROM features_interactions AS f
LEFT JOIN feature_verdicts_interactions AS v ON v.tenant_id = f.tenant_id AND v.entity_id = f.entity_id AND v.feature_time = f.seen_at
WHERE coalesce(v.refused, false) = false;

-- Rows that may not be used, with the rules that they break.
CREATE MATERIALIZED VIEW quarantined_interactions AS
SELECT f.*, v.rules
FROM features_interactions AS f
JOIN feature_verdicts_interactions AS v ON v.tenant_id = f.tenant_id AND v.entity_id = f.entity_id AND v.feature_time = f.seen_at
WHERE v.quarantined;

-- What breaks the rules that features.yaml declares for interactions_local_time; printed by `headrace features template rules`.
CREATE MATERIALIZED VIEW feature_violations_interactions_local_time AS
SELECT
    tenant_id, event_id,
    event_time AS feature_time,
    (ARRAY['hour_of_day', 'day_of_week']::VARCHAR[])[broken] AS feature,
    (ARRAY['range', 'range']::VARCHAR[])[broken] AS rule,
    (ARRAY['error', 'error']::VARCHAR[])[broken] AS severity,
    (ARRAY['warn', 'warn']::VARCHAR[])[broken] AS on_failure,
    (ARRAY[hour_of_day::VARCHAR, day_of_week::VARCHAR]::VARCHAR[])[broken] AS value,
    (ARRAY['0 <= hour_of_day <= 23', '0 <= day_of_week <= 6']::VARCHAR[])[broken] AS told
FROM (
    SELECT *, unnest(ARRAY[
        CASE WHEN (hour_of_day < 0 OR hour_of_day > 23) THEN 1 END,
        CASE WHEN (day_of_week < 0 OR day_of_week > 6) THEN 2 END
    ]) AS broken
    FROM interactions_local_time
    WHERE (hour_of_day < 0 OR hour_of_day > 23)
        OR (day_of_week < 0 OR day_of_week > 6)
) AS looked_at
WHERE broken IS NOT NULL;

-- By entity and time: what of a row is wrong, and whether it may be used.
CREATE MATERIALIZED VIEW feature_verdicts_interactions_local_time AS
SELECT
    tenant_id, event_id,
    feature_time,
    count(*) AS violations,
    array_agg(rule || coalesce(' ' || feature, '') ORDER BY rule, feature, told) AS rules,
    array_agg(rule || coalesce(' ' || feature, '') ORDER BY rule, feature, told) FILTER (WHERE on_failure = 'flag') AS flags,
    bool_or(on_failure IN ('quarantine', 'reject')) AS refused,
    bool_or(on_failure = 'quarantine') AS quarantined
FROM feature_violations_interactions_local_time
WHERE feature_time IS NOT NULL
GROUP BY tenant_id, event_id, feature_time;
