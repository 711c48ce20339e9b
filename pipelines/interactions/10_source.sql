-- What users did with items; `entity_id` is the user. An event may be corrected by another one with its id and a higher revision,
-- and taken back by one with `retracted`. An event, or a correction, that is a day older than the newest one of its partition is
-- late.

CREATE SOURCE interactions_events (
    tenant_id  VARCHAR,
    event_id   VARCHAR,
    entity_id  VARCHAR,
    item_id    VARCHAR,
    event_type VARCHAR,
    value      DOUBLE PRECISION,
    event_time TIMESTAMP WITH TIME ZONE,
    revision   BIGINT,
    retracted  BOOLEAN,
    WATERMARK FOR event_time AS event_time - INTERVAL '1 day'
)
INCLUDE partition AS kafka_partition
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'events.interactions',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;
