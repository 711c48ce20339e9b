-- Changes of stage, as the registry decided them, for whoever serves models: a server that reads an event loads the version beside
-- those that serve, and acknowledges. Routes change afterwards; see docs/how-to/promote-a-model.md.

CREATE TABLE model_events (
    promotion_id VARCHAR,
    sequence     BIGINT,
    kind         VARCHAR,
    name         VARCHAR,
    version      INT,
    from_stage   VARCHAR,
    to_stage     VARCHAR,
    actor        VARCHAR,
    decided_at   TIMESTAMP WITH TIME ZONE,
    told_at      TIMESTAMP WITH TIME ZONE AS proctime(),
    PRIMARY KEY (promotion_id)
) ON CONFLICT DO NOTHING;

CREATE SUBSCRIPTION model_events_changes FROM model_events WITH (retention = '7 days');

-- Who serves models, and what each said to an event.
CREATE TABLE model_servers (
    server_id VARCHAR,
    url       VARCHAR,
    since     TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (server_id)
);

CREATE TABLE model_acks (
    promotion_id VARCHAR,
    server_id    VARCHAR,
    ready        BOOLEAN,
    message      VARCHAR,
    acked_at     TIMESTAMP WITH TIME ZONE AS proctime(),
    PRIMARY KEY (promotion_id, server_id)
) ON CONFLICT DO NOTHING;

-- The memory of routes, for who asks later than the stream database lives.
CREATE SINK route_history_lake FROM route_history
WITH (
    connector = 'iceberg',
    type = 'append-only',
    force_append_only = 'true',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'route_history',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 1
);

CREATE SINK route_changes_lake FROM route_changes
WITH (
    connector = 'iceberg',
    type = 'append-only',
    force_append_only = 'true',
    warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}',
    catalog.uri = '${CATALOG_URI}',
    catalog.name = 'headrace',
    database.name = 'lake',
    table.name = 'route_changes',
    create_table_if_not_exists = 'true',
    commit_checkpoint_interval = 1
);
