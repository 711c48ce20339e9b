-- Times and trace ids differ from run to run and are not in here: the same input and route give the same row.

CREATE SINK predictions_replay_topic FROM predictions_replay
WITH (
    connector = 'kafka',
    topic = 'predictions',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    primary_key = 'prediction_id'
) FORMAT PLAIN ENCODE JSON;

CREATE SINK predictions_replay_lake FROM predictions_replay
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

CREATE SINK features_replay_lake FROM features_replay
WITH (
    connector = 'iceberg',
    type = 'append-only',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'features_replay',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 1
);
