-- Shuttle sensor readings, nine a row. The recording is in no time order, so a row is scored by itself, unwindowed, at the
-- time that the sender gave it.

CREATE SOURCE telemetry_events (
    tenant_id  VARCHAR,
    entity_id  VARCHAR,
    event_time TIMESTAMP WITH TIME ZONE,
    f1         DOUBLE PRECISION,
    f2         DOUBLE PRECISION,
    f3         DOUBLE PRECISION,
    f4         DOUBLE PRECISION,
    f5         DOUBLE PRECISION,
    f6         DOUBLE PRECISION,
    f7         DOUBLE PRECISION,
    f8         DOUBLE PRECISION,
    f9         DOUBLE PRECISION,
    WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds'
)
INCLUDE partition AS kafka_partition
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'events.telemetry',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;
