-- What the caller sent: a vector without names, at the time of the call.

CREATE MATERIALIZED VIEW features_online AS
SELECT
    tenant_id,
    entity_id,
    predicted_at                                    AS feature_start,
    predicted_at                                    AS feature_end,
    endpoint,
    prediction_id,
    features
FROM online_events;
