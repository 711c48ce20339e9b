-- Where a tenant's clocks are: a name of the time zone database. Who is not in here lives by UTC.

CREATE TABLE interactions_zones (
    tenant_id VARCHAR,
    zone      VARCHAR,
    PRIMARY KEY (tenant_id)
);
