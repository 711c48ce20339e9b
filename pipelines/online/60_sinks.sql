-- Online predictions are a topic already; here they join the others in the lake.

CREATE SINK predictions_online_lake FROM predictions_online
WITH (
    connector = 'iceberg',
    type = 'append-only',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'predictions',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 1
);
