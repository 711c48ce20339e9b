-- The one function that a pipeline calls. It is stateless and deterministic in its arguments: the route comes with the row.

CREATE FUNCTION predict(route JSONB, key VARCHAR, features DOUBLE PRECISION[])
RETURNS STRUCT<label VARCHAR, score DOUBLE PRECISION, members JSONB, error JSONB>
AS predict USING LINK '${UDF_URL}';
