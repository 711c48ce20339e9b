-- Two steps, so that predict runs once a row and not once a field.

CREATE MATERIALIZED VIEW scored_plant AS
SELECT
    f.tenant_id,
    f.entity_id,
    f.feature_start,
    f.feature_end,
    ARRAY[f.vibration_avg, f.vibration_std, f.vibration_max, f.temperature_avg, f.temperature_span, f.pressure_avg, f.flow_avg] AS features,
    r.route_epoch,
    predict(
        r.route,
        f.entity_id,
        ARRAY[f.vibration_avg, f.vibration_std, f.vibration_max, f.temperature_avg, f.temperature_span, f.pressure_avg, f.flow_avg]
    ) AS outcome
FROM features_plant AS f
LEFT JOIN active_routes FOR SYSTEM_TIME AS OF PROCTIME() AS r
    ON r.tenant_id = f.tenant_id AND r.endpoint = 'plant.health';

CREATE MATERIALIZED VIEW predictions_plant AS
SELECT
    md5(tenant_id || '/plant/' || entity_id || '/' || feature_end::varchar) AS prediction_id,
    'plant'                                         AS pipeline,
    tenant_id,
    'plant.health'                                  AS endpoint,
    entity_id,
    feature_start,
    feature_end,
    features,
    route_epoch,
    (outcome).*
FROM scored_plant;
