-- Handwritten digits, 8 x 8 pixels of one byte each (0 to 16), row by row from the top left. JSON has no bytes: `payload` is
-- base64 of the 64 raw ones.

CREATE SOURCE vision_events (
    tenant_id  VARCHAR,
    entity_id  VARCHAR,
    event_time TIMESTAMP WITH TIME ZONE,
    payload    VARCHAR,
    WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds'
)
INCLUDE partition AS kafka_partition
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'events.vision',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;
