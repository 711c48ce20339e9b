-- Two steps, so that predict runs once a row and not once a field.

CREATE MATERIALIZED VIEW scored_recordings AS
SELECT
    f.tenant_id,
    f.entity_id,
    f.feature_start,
    f.feature_end,
    ARRAY[
        f.v1_level, f.v2_level, f.v3_level, f.v4_level, f.v5_level, f.v6_level, f.v7_level, f.v8_level,
        f.rows_seen::double precision
    ] AS features,
    r.route_epoch,
    predict(
        r.route,
        f.entity_id,
        ARRAY[
            f.v1_level, f.v2_level, f.v3_level, f.v4_level, f.v5_level, f.v6_level, f.v7_level, f.v8_level,
            f.rows_seen::double precision
        ]
    ) AS outcome
FROM features_recordings AS f
LEFT JOIN active_routes FOR SYSTEM_TIME AS OF PROCTIME() AS r
    ON r.tenant_id = f.tenant_id AND r.endpoint = 'recordings.anomaly';

CREATE MATERIALIZED VIEW predictions_recordings AS
SELECT
    md5(tenant_id || '/recordings/' || entity_id || '/' || feature_end::varchar) AS prediction_id,
    'recordings'                                    AS pipeline,
    tenant_id,
    'recordings.anomaly'                            AS endpoint,
    entity_id,
    feature_start,
    feature_end,
    features,
    route_epoch,
    (outcome).*
FROM scored_recordings;
