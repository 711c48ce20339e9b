-- The raw events go to the lake as they came, with their place in the topic: features can be computed from them again. Nobody waits
-- for them, so a commit every five seconds will do.

CREATE SINK events_replay_lake AS
SELECT tenant_id, entity_id, event_time, v1, v2, v3, v4, v5, v6, v7, v8, kafka_partition, kafka_offset
FROM replay_events
WITH (
    connector = 'iceberg',
    type = 'append-only',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'events_replay',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 5
);
