-- Stands for the view over all pipelines.
CREATE TABLE predictions (
    prediction_id VARCHAR PRIMARY KEY,
    pipeline      VARCHAR,
    tenant_id     VARCHAR,
    endpoint      VARCHAR,
    entity_id     VARCHAR,
    feature_end   TIMESTAMP WITH TIME ZONE,
    features      DOUBLE PRECISION[],
    route_epoch   BIGINT,
    members       JSONB
);
