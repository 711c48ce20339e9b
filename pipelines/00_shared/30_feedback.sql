-- Labels come late, twice, and out of order: the last one by time counts.

CREATE TABLE feedback (
    tenant_id     VARCHAR,
    prediction_id VARCHAR,
    label         VARCHAR,
    labelled_at   TIMESTAMP WITH TIME ZONE,
    source        VARCHAR
)
APPEND ONLY
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'feedback',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;

CREATE MATERIALIZED VIEW labels AS
SELECT tenant_id, prediction_id, label, labelled_at, source
FROM (
    SELECT *, row_number() OVER (PARTITION BY tenant_id, prediction_id ORDER BY labelled_at DESC, kafka_offset DESC) AS recency
    FROM feedback
) AS ranked
WHERE recency = 1;

CREATE SINK feedback_lake FROM feedback
WITH (
    connector = 'iceberg',
    type = 'append-only',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'feedback',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 5
);
