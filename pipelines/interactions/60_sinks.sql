-- The raw events, each version of each, for features at moments in the past and for training.

CREATE SINK interactions_events_lake FROM interactions_events
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
