-- Readings that look like an anomaly. Agents follow them through the subscription.

CREATE MATERIALIZED VIEW anomalies_telemetry AS
SELECT * FROM predictions_telemetry WHERE score > 0.8;

CREATE SUBSCRIPTION anomalies_telemetry_changes FROM anomalies_telemetry WITH (retention = '1 day');
