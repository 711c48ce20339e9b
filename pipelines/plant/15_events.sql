-- The raw events go to the lake as they came, with their place in the topic: features can be computed from them again. Nobody waits
-- for them, so a commit every five seconds will do.

CREATE SINK events_plant_lake AS
SELECT tenant_id, entity_id, event_time, vibration, temperature, pressure, flow, kafka_partition, kafka_offset
FROM plant_events
WITH (
    connector = 'iceberg',
    type = 'append-only',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'events_plant',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 5
);
