-- The raw events go to the lake as they came, with their place in the topic, each version of each: features can be computed from
-- them again, at any moment.

CREATE SINK events_interactions_lake AS
SELECT
    tenant_id, entity_id, event_time, event_id, item_id, event_type, value, revision, retracted, kafka_partition, kafka_offset
FROM interactions_events
WITH (
    connector = 'iceberg',
    type = 'append-only',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'events_interactions',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 1
);
