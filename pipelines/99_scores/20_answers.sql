-- Over all pipelines: what each model said about each prediction, and how near it was to the label, if one came back.

-- One row a prediction and member that was asked, shadows too.
CREATE VIEW member_answers AS
SELECT prediction_id, pipeline, tenant_id, endpoint, feature_end, route_epoch, member
FROM (
    SELECT prediction_id, pipeline, tenant_id, endpoint, feature_end, route_epoch, jsonb_array_elements(members) AS member
    FROM predictions
) AS asked
UNION ALL
SELECT p.prediction_id, p.pipeline, p.tenant_id, p.endpoint, p.feature_end, p.route_epoch, s.member
FROM shadows AS s
JOIN route_history AS h ON md5(h.route::VARCHAR) = s.route_md5
JOIN predictions AS p
    ON p.tenant_id = h.tenant_id
    AND p.endpoint = h.endpoint
    AND p.route_epoch = h.route_epoch
    AND p.entity_id = s.key
    AND p.features = s.features;

-- With the probability that the member gave to the label, and to its own answer (`confidence`): a two-class model says `value` = P(positive) and names both
-- classes, another says all its probabilities and the sum of their squares.
CREATE VIEW member_outcomes AS
SELECT
    a.prediction_id,
    a.pipeline,
    a.tenant_id,
    a.endpoint,
    a.feature_end,
    a.route_epoch,
    a.member ->> 'model'                            AS model,
    (a.member ->> 'version')::INT                   AS version,
    a.member ->> 'role'                             AS role,
    a.member ->> 'label'                            AS answer,
    a.member -> 'error' ->> 'code'                  AS error_code,
    l.label,
    CASE
        WHEN l.label = a.member ->> 'positive' THEN (a.member ->> 'value')::DOUBLE PRECISION
        WHEN l.label = a.member ->> 'negative' THEN 1 - (a.member ->> 'value')::DOUBLE PRECISION
        ELSE coalesce((a.member -> 'probabilities' ->> l.label)::DOUBLE PRECISION, 0)
    END                                             AS probability,
    CASE
        WHEN a.member ->> 'positive' IS NULL THEN (a.member ->> 'value')::DOUBLE PRECISION
        ELSE greatest((a.member ->> 'value')::DOUBLE PRECISION, 1 - (a.member ->> 'value')::DOUBLE PRECISION)
    END                                             AS confidence,
    coalesce(
        (a.member ->> 'sum_of_squares')::DOUBLE PRECISION,
        (a.member ->> 'value')::DOUBLE PRECISION * (a.member ->> 'value')::DOUBLE PRECISION
        + (1 - (a.member ->> 'value')::DOUBLE PRECISION) * (1 - (a.member ->> 'value')::DOUBLE PRECISION)
    )                                               AS sum_of_squares
FROM member_answers AS a
LEFT JOIN labels AS l ON l.tenant_id = a.tenant_id AND l.prediction_id = a.prediction_id;

CREATE VIEW member_losses AS
SELECT
    *,
    round(1000000000 * confidence)::BIGINT AS confidence_e9,
    CASE WHEN label IS NOT NULL AND answer IS NOT NULL
        THEN round(-1000000000 * ln(greatest(probability, 0.000000000000001)))::BIGINT END AS log_loss_e9,
    CASE WHEN label IS NOT NULL AND answer IS NOT NULL
        THEN round(500000000 * (sum_of_squares - 2 * probability + 1))::BIGINT END         AS brier_e9
FROM member_outcomes;
