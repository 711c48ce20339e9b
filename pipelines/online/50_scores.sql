-- Predictions with the label that came back, and accuracy per hour of feature time; missing labels are counted, not guessed.

CREATE MATERIALIZED VIEW labelled_online AS
SELECT
    p.prediction_id,
    p.tenant_id,
    p.endpoint,
    p.entity_id,
    p.feature_end,
    p.route_epoch,
    p.label                                         AS predicted,
    p.score,
    l.label,
    l.labelled_at,
    l.source
FROM predictions_online AS p
JOIN labels AS l ON l.tenant_id = p.tenant_id AND l.prediction_id = p.prediction_id;

CREATE MATERIALIZED VIEW model_scores_online AS
SELECT
    p.tenant_id,
    p.window_start                                  AS hour_start,
    count(*)                                        AS predictions,
    count(l.label)                                  AS labelled,
    avg(CASE WHEN l.label = p.label THEN 1.0 ELSE 0.0 END) FILTER (WHERE l.label IS NOT NULL) AS accuracy
FROM TUMBLE(predictions_online, feature_end, INTERVAL '1 hour') AS p
LEFT JOIN labels AS l ON l.tenant_id = p.tenant_id AND l.prediction_id = p.prediction_id
GROUP BY p.tenant_id, p.window_start;
