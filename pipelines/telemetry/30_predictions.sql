-- Two steps, so that predict runs once a row and not once a field.

CREATE MATERIALIZED VIEW scored_telemetry AS
SELECT
    f.tenant_id,
    f.entity_id,
    f.feature_start,
    f.feature_end,
    ARRAY[f.f1, f.f2, f.f3, f.f4, f.f5, f.f6, f.f7, f.f8, f.f9] AS features,
    r.route_epoch,
    predict(
        r.route,
        f.entity_id,
        ARRAY[f.f1, f.f2, f.f3, f.f4, f.f5, f.f6, f.f7, f.f8, f.f9]
    ) AS outcome
FROM features_telemetry AS f
LEFT JOIN active_routes FOR SYSTEM_TIME AS OF PROCTIME() AS r
    ON r.tenant_id = f.tenant_id AND r.endpoint = 'telemetry.anomaly';

CREATE MATERIALIZED VIEW predictions_telemetry AS
SELECT
    md5(tenant_id || '/telemetry/' || entity_id || '/' || feature_end::varchar) AS prediction_id,
    'telemetry'                                     AS pipeline,
    tenant_id,
    'telemetry.anomaly'                             AS endpoint,
    entity_id,
    feature_start,
    feature_end,
    features,
    route_epoch,
    (outcome).*
FROM scored_telemetry;
