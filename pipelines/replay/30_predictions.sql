-- Two steps, so that predict runs once a row and not once a field.

CREATE MATERIALIZED VIEW scored_replay AS
SELECT
    f.tenant_id,
    f.entity_id,
    f.feature_start,
    f.feature_end,
    ARRAY[
        f.v1_avg, f.v2_avg, f.v3_avg, f.v4_avg, f.v5_avg, f.v6_avg, f.v7_avg, f.v8_avg,
        f.v1_std, f.v2_std, f.v3_std, f.v4_std, f.v5_std, f.v6_std, f.v7_std, f.v8_std
    ] AS features,
    r.route_epoch,
    predict(
        r.route,
        f.entity_id,
        ARRAY[
            f.v1_avg, f.v2_avg, f.v3_avg, f.v4_avg, f.v5_avg, f.v6_avg, f.v7_avg, f.v8_avg,
            f.v1_std, f.v2_std, f.v3_std, f.v4_std, f.v5_std, f.v6_std, f.v7_std, f.v8_std
        ]
    ) AS outcome
FROM features_replay AS f
LEFT JOIN active_routes FOR SYSTEM_TIME AS OF PROCTIME() AS r
    ON r.tenant_id = f.tenant_id AND r.endpoint = 'replay.anomaly';

CREATE MATERIALIZED VIEW predictions_replay AS
SELECT
    md5(tenant_id || '/replay/' || entity_id || '/' || feature_end::varchar) AS prediction_id,
    'replay'                                        AS pipeline,
    tenant_id,
    'replay.anomaly'                                AS endpoint,
    entity_id,
    feature_start,
    feature_end,
    features,
    route_epoch,
    (outcome).*
FROM scored_replay;
