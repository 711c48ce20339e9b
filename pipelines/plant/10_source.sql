-- Readings of a fleet of pumps, about one a second and pump. A row that arrives more than five seconds after the newest
-- one of its partition is late.

CREATE SOURCE plant_events (
    tenant_id   VARCHAR,
    entity_id   VARCHAR,
    event_time  TIMESTAMP WITH TIME ZONE,
    vibration   DOUBLE PRECISION,
    temperature DOUBLE PRECISION,
    pressure    DOUBLE PRECISION,
    flow        DOUBLE PRECISION,
    WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds'
)
INCLUDE partition AS kafka_partition
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'events.plant',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;
