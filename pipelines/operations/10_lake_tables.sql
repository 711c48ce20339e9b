-- Three of the four tables that dashboards of old read: `drift_events`, `training_jobs`, `model_registry`; the fourth, `predictions`, is
-- built over all pipelines. What they show is kept by Iceberg (docs/reference/tables.md); `headrace dev`, or `headrace tables mirror`
-- elsewhere, brings it into the tables below.

CREATE TABLE lake_drift_events (
    drift_id         VARCHAR,
    at               TIMESTAMP WITH TIME ZONE,
    tenant_id        VARCHAR,
    model            VARCHAR,
    version          INT,
    kind             VARCHAR,
    feature          VARCHAR,
    method           VARCHAR,
    statistic        DOUBLE PRECISION,
    p_value          DOUBLE PRECISION,
    score            DOUBLE PRECISION,
    reference_window JSONB,
    current_window   JSONB,
    PRIMARY KEY (drift_id)
);

CREATE TABLE lake_training_jobs (
    job_id           VARCHAR,
    at               TIMESTAMP WITH TIME ZONE,
    model            VARCHAR,
    state            VARCHAR,
    trigger          VARCHAR,
    reason           VARCHAR,
    version          INT,
    duration_seconds DOUBLE PRECISION,
    metrics          JSONB,
    error            VARCHAR,
    PRIMARY KEY (job_id, state)
);

CREATE TABLE lake_model_versions (
    name             VARCHAR,
    version          INT,
    created_at       TIMESTAMP WITH TIME ZONE,
    kind             VARCHAR,
    artifact_sha256  VARCHAR,
    artifact_bytes   BIGINT,
    signature_hash   VARCHAR,
    metrics          JSONB,
    tags             JSONB,
    aliases          JSONB,
    code_hash        VARCHAR,
    training_seconds DOUBLE PRECISION,
    PRIMARY KEY (name, version)
);

CREATE VIEW drift_events AS
SELECT * FROM lake_drift_events;

-- One row a job: the state that it is in.
CREATE VIEW training_jobs AS
SELECT job_id, model, state, trigger, reason, version, started_at, at AS changed_at, duration_seconds, metrics, error
FROM (
    SELECT
        *,
        min(at) OVER (PARTITION BY job_id)                                    AS started_at,
        row_number() OVER (PARTITION BY job_id ORDER BY at DESC, state DESC)  AS recency
    FROM lake_training_jobs
) AS ranked
WHERE recency = 1;

CREATE VIEW model_registry AS
SELECT
    name AS model_name, version, kind, created_at, aliases, metrics, tags, artifact_sha256, artifact_bytes, signature_hash, code_hash,
    training_seconds
FROM lake_model_versions;
