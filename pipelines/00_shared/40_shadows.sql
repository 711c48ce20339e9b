-- What shadows answered, aside of the row that was served: the UDF server puts it here when it has time for it. After a crash
-- the same question may be asked again; its answer is the same. `member` is shaped like the entries of `members`.

CREATE TABLE shadow_answers (
    route_md5 VARCHAR,
    key       VARCHAR,
    features  DOUBLE PRECISION[],
    model     VARCHAR,
    version   INT,
    member    JSONB
)
APPEND ONLY
INCLUDE offset AS kafka_offset
WITH (
    connector = 'kafka',
    topic = 'predictions.shadow',
    properties.bootstrap.server = '${KAFKA_BOOTSTRAP}',
    scan.startup.mode = 'earliest'
) FORMAT PLAIN ENCODE JSON;

CREATE MATERIALIZED VIEW shadows AS
SELECT route_md5, key, features, model, version, member
FROM (
    SELECT *, row_number() OVER (PARTITION BY route_md5, key, features, model, version ORDER BY kafka_offset) AS asked
    FROM shadow_answers
) AS ranked
WHERE asked = 1;
