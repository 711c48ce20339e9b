-- The functions that come with headrace, for any SQL: why a model answered (`explain`, `saliency`), what a payload is (`detect`),
-- mergeable sketches of numbers (`profile...`), and text without what is personal or secret (`redact`). See
-- docs/how-to/explain-predictions.md and docs/how-to/use-built-in-functions.md. `headrace udfs sql --library` prints this file.

CREATE FUNCTION explain(model VARCHAR, version INT, features DOUBLE PRECISION[])
RETURNS STRUCT<label VARCHAR, unit VARCHAR, method VARCHAR, base DOUBLE PRECISION, contributions DOUBLE PRECISION[],
    half_widths DOUBLE PRECISION[], bound DOUBLE PRECISION, error JSONB>
AS 'explain@1' USING LINK '${UDF_URL}';

CREATE FUNCTION saliency(model VARCHAR, version INT, image DOUBLE PRECISION[], width INT, patch INT)
RETURNS STRUCT<label VARCHAR, score DOUBLE PRECISION, saliency DOUBLE PRECISION[], error JSONB>
AS 'saliency@1' USING LINK '${UDF_URL}';

CREATE FUNCTION detect(payload BYTEA)
RETURNS STRUCT<value STRUCT<format VARCHAR, mime VARCHAR, confidence DOUBLE PRECISION, schema JSONB>, error JSONB>
AS 'detect@1' USING LINK '${UDF_URL}';

CREATE FUNCTION profile(numbers DOUBLE PRECISION[])
RETURNS STRUCT<value JSONB, error JSONB>
AS 'profile@1' USING LINK '${UDF_URL}';

CREATE FUNCTION profile_merge(sketches JSONB)
RETURNS STRUCT<value JSONB, error JSONB>
AS 'profile_merge@1' USING LINK '${UDF_URL}';

CREATE FUNCTION profile_read(sketch JSONB)
RETURNS STRUCT<value STRUCT<rows BIGINT, nulls BIGINT, not_finite BIGINT, null_rate DOUBLE PRECISION, mean DOUBLE PRECISION, variance DOUBLE PRECISION, minimum DOUBLE PRECISION, maximum DOUBLE PRECISION, p01 DOUBLE PRECISION, p05 DOUBLE PRECISION, p25 DOUBLE PRECISION, p50 DOUBLE PRECISION, p75 DOUBLE PRECISION, p95 DOUBLE PRECISION, p99 DOUBLE PRECISION>, error JSONB>
AS 'profile_read@1' USING LINK '${UDF_URL}';

CREATE FUNCTION profile_quantile(sketch JSONB, q DOUBLE PRECISION)
RETURNS STRUCT<value DOUBLE PRECISION, error JSONB>
AS 'profile_quantile@1' USING LINK '${UDF_URL}';

CREATE FUNCTION redact(text VARCHAR)
RETURNS STRUCT<value STRUCT<text VARCHAR, found JSONB>, error JSONB>
AS 'redact@1' USING LINK '${UDF_URL}';
