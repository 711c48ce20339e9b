-- Experiments: who takes part, which variant each unit saw first and with which chance, and whether it converted afterwards.

CREATE TABLE experiments (
    tenant_id                 VARCHAR,
    experiment_id             VARCHAR,
    name                      VARCHAR,
    description               VARCHAR,
    endpoint                  VARCHAR,
    allocation_strategy       VARCHAR,
    traffic_percentage        DOUBLE PRECISION,
    conversion_window_seconds DOUBLE PRECISION,
    variants                  JSONB,
    status                    VARCHAR,
    created_at                TIMESTAMP WITH TIME ZONE,
    started_at                TIMESTAMP WITH TIME ZONE,
    stopped_at                TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (tenant_id, experiment_id)
);

-- `propensities` are the chances of all variants, in their order, at the moment of the choice.
CREATE TABLE experiment_exposures (
    tenant_id     VARCHAR,
    experiment_id VARCHAR,
    unit_id       VARCHAR,
    variant_id    VARCHAR,
    propensities  DOUBLE PRECISION[],
    exposed_at    TIMESTAMP WITH TIME ZONE,
    prediction_id VARCHAR,
    latency_ms    DOUBLE PRECISION
)
APPEND ONLY
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'experiments.exposures',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;

CREATE TABLE experiment_conversions (
    tenant_id     VARCHAR,
    experiment_id VARCHAR,
    unit_id       VARCHAR,
    converted_at  TIMESTAMP WITH TIME ZONE
)
APPEND ONLY
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'experiments.conversions',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;

-- A unit keeps the variant that it saw first, and counts once however often it comes back.
CREATE MATERIALIZED VIEW experiment_units AS
SELECT tenant_id, experiment_id, unit_id, variant_id, propensities, exposed_at
FROM (
    SELECT *, row_number() OVER (
        PARTITION BY tenant_id, experiment_id, unit_id ORDER BY exposed_at, kafka_offset::bigint
    ) AS visit
    FROM experiment_exposures
) AS visits
WHERE visit = 1;

CREATE MATERIALIZED VIEW experiment_first_conversions AS
SELECT u.tenant_id, u.experiment_id, u.unit_id, min(c.converted_at) AS converted_at
FROM experiment_units AS u
JOIN experiment_conversions AS c
    ON c.tenant_id = u.tenant_id AND c.experiment_id = u.experiment_id AND c.unit_id = u.unit_id
WHERE c.converted_at >= u.exposed_at
GROUP BY u.tenant_id, u.experiment_id, u.unit_id;

CREATE MATERIALIZED VIEW experiment_outcomes AS
SELECT u.tenant_id, u.experiment_id, u.unit_id, u.variant_id, u.propensities, u.exposed_at, c.converted_at
FROM experiment_units AS u
LEFT JOIN experiment_first_conversions AS c
    ON c.tenant_id = u.tenant_id AND c.experiment_id = u.experiment_id AND c.unit_id = u.unit_id;

CREATE MATERIALIZED VIEW experiment_results AS
SELECT tenant_id, experiment_id, variant_id, count(*) AS impressions, count(converted_at) AS conversions
FROM experiment_outcomes
GROUP BY tenant_id, experiment_id, variant_id;

CREATE MATERIALIZED VIEW experiment_latencies AS
SELECT tenant_id, experiment_id, variant_id, avg(latency_ms) AS avg_latency_ms
FROM experiment_exposures
WHERE latency_ms IS NOT NULL
GROUP BY tenant_id, experiment_id, variant_id;
