-- Routing as data: which models answer for whom, with which weight. Every decision can be replayed from these rows.

CREATE TABLE endpoints (
    tenant_id VARCHAR,
    endpoint  VARCHAR,
    strategy  VARCHAR,
    PRIMARY KEY (tenant_id, endpoint)
);

-- One row per member. A temporal join never revises: the first routes are inserted and flushed before a pipeline's
-- predictions are created.
CREATE TABLE routes (
    tenant_id VARCHAR,
    endpoint  VARCHAR,
    model     VARCHAR,
    version   INT,
    role      VARCHAR,
    weight    DOUBLE PRECISION,
    fraction  DOUBLE PRECISION,
    epoch     BIGINT,
    PRIMARY KEY (tenant_id, endpoint, model, version)
);

CREATE MATERIALIZED VIEW active_routes AS
SELECT
    e.tenant_id,
    e.endpoint,
    max(r.epoch) AS route_epoch,
    jsonb_build_object(
        'strategy', max(e.strategy),
        'members', jsonb_agg(
            jsonb_build_object('model', r.model, 'version', r.version, 'role', r.role, 'weight', r.weight, 'fraction', r.fraction)
            ORDER BY r.model, r.version
        )
    ) AS route
FROM endpoints AS e
JOIN routes AS r ON r.tenant_id = e.tenant_id AND r.endpoint = e.endpoint
WHERE r.weight > 0 OR r.role = 'shadow'
GROUP BY e.tenant_id, e.endpoint;
