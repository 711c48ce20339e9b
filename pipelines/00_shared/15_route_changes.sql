-- A change of a route is one row: the strategy and all members at once, under the next epoch. Sinks carry it on into `endpoints`
-- and `routes` within the same epoch of the database, so nobody ever meets half of it. Of two changes that claim the same
-- epoch the first one stays, and the other one's writer sees that and gives up.

CREATE TABLE route_changes (
    tenant_id  VARCHAR,
    endpoint   VARCHAR,
    epoch      BIGINT,
    strategy   VARCHAR,
    members    JSONB,
    changed_by VARCHAR,
    reason     VARCHAR,
    change_id  VARCHAR,
    evidence   JSONB,
    changed_at TIMESTAMP WITH TIME ZONE AS proctime(),
    PRIMARY KEY (tenant_id, endpoint, epoch)
) ON CONFLICT DO NOTHING;

CREATE SINK route_changes_endpoints INTO endpoints AS
SELECT tenant_id, endpoint, strategy
FROM route_changes
WITH (type = 'append-only', force_append_only = 'true');

CREATE SINK route_changes_routes INTO routes AS
SELECT
    tenant_id,
    endpoint,
    member ->> 'model'                              AS model,
    (member ->> 'version')::INT                     AS version,
    member ->> 'role'                               AS role,
    (member ->> 'weight')::DOUBLE PRECISION         AS weight,
    (member ->> 'fraction')::DOUBLE PRECISION       AS fraction,
    epoch
FROM (SELECT tenant_id, endpoint, epoch, jsonb_array_elements(members) AS member FROM route_changes) AS each_member
WITH (type = 'append-only', force_append_only = 'true');

-- Every route that was ever active, as `predict` got it, and when the database made it so; whoever changed `routes`.
CREATE TABLE route_history (
    tenant_id   VARCHAR,
    endpoint    VARCHAR,
    route_epoch BIGINT,
    route       JSONB,
    served_from TIMESTAMP WITH TIME ZONE AS proctime(),
    PRIMARY KEY (tenant_id, endpoint, route_epoch)
) ON CONFLICT DO NOTHING;

CREATE SINK active_routes_history INTO route_history FROM active_routes
WITH (type = 'append-only', force_append_only = 'true');

-- Who served a tenant's endpoint at a time: the row with served_from <= time and (served_until IS NULL OR served_until > time).
CREATE VIEW served_routes AS
SELECT
    h.tenant_id,
    h.endpoint,
    h.route_epoch,
    h.route,
    h.served_from,
    lead(h.served_from) OVER (PARTITION BY h.tenant_id, h.endpoint ORDER BY h.route_epoch) AS served_until,
    c.changed_by,
    c.reason,
    c.evidence
FROM route_history AS h
LEFT JOIN route_changes AS c ON c.tenant_id = h.tenant_id AND c.endpoint = h.endpoint AND c.epoch = h.route_epoch;

-- What the control loop may do with a route, and within which bounds; see docs/how-to/route-models.md.
CREATE TABLE route_policies (
    tenant_id VARCHAR,
    endpoint  VARCHAR,
    policy    JSONB,
    PRIMARY KEY (tenant_id, endpoint)
);
