-- Recordings of a process, row by row, a tenant a recording. One with fewer than eight channels leaves the others NULL.

CREATE SOURCE recordings_events (
    tenant_id  VARCHAR,
    entity_id  VARCHAR,
    event_time TIMESTAMP WITH TIME ZONE,
    v1         DOUBLE PRECISION,
    v2         DOUBLE PRECISION,
    v3         DOUBLE PRECISION,
    v4         DOUBLE PRECISION,
    v5         DOUBLE PRECISION,
    v6         DOUBLE PRECISION,
    v7         DOUBLE PRECISION,
    v8         DOUBLE PRECISION,
    WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds'
)
INCLUDE partition AS kafka_partition
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'events.recordings',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;
