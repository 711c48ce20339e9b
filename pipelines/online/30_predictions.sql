-- The answers as they were given.

CREATE MATERIALIZED VIEW predictions_online AS
SELECT
    prediction_id,
    'online'                                        AS pipeline,
    tenant_id,
    endpoint,
    entity_id,
    predicted_at                                    AS feature_start,
    predicted_at                                    AS feature_end,
    features,
    route_epoch,
    label,
    score,
    members,
    error
FROM online_events;
