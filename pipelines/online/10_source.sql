-- Predictions that REST `/predict` made and acknowledged, one record each. They were computed with the route that the record
-- names, so nothing is computed again here.

CREATE SOURCE online_events (
    prediction_id VARCHAR,
    tenant_id     VARCHAR,
    endpoint      VARCHAR,
    entity_id     VARCHAR,
    predicted_at  TIMESTAMP WITH TIME ZONE,
    features      DOUBLE PRECISION[],
    route_epoch   BIGINT,
    label         VARCHAR,
    score         DOUBLE PRECISION,
    members       JSONB,
    error         JSONB
)
INCLUDE partition AS kafka_partition
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'predictions.online',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;
