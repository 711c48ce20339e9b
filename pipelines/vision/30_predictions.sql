-- Two steps, so that predict runs once a row and not once a field.

CREATE MATERIALIZED VIEW scored_vision AS
SELECT
    f.tenant_id,
    f.entity_id,
    f.feature_start,
    f.feature_end,
    f.pixels AS features,
    r.route_epoch,
    predict(
        r.route,
        f.entity_id,
        f.pixels
    ) AS outcome
FROM features_vision AS f
LEFT JOIN active_routes FOR SYSTEM_TIME AS OF PROCTIME() AS r
    ON r.tenant_id = f.tenant_id AND r.endpoint = 'vision.digit';

CREATE MATERIALIZED VIEW predictions_vision AS
SELECT
    md5(tenant_id || '/vision/' || entity_id || '/' || feature_end::varchar) AS prediction_id,
    'vision'                                        AS pipeline,
    tenant_id,
    'vision.digit'                                  AS endpoint,
    entity_id,
    feature_start,
    feature_end,
    features,
    route_epoch,
    (outcome).*
FROM scored_vision;
