-- The raw events go to the lake as they came, with their place in the topic: features can be computed from them again. Nobody waits
-- for them, so a commit every five seconds will do.

CREATE SINK events_telemetry_lake AS
SELECT tenant_id, entity_id, event_time, f1, f2, f3, f4, f5, f6, f7, f8, f9, kafka_partition, kafka_offset
FROM telemetry_events
WITH (
    connector = 'iceberg',
    type = 'append-only',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'events_telemetry',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 5
);
