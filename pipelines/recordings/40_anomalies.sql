-- Rows beyond what the model saw in training. Agents follow them through the subscription.

CREATE MATERIALIZED VIEW anomalies_recordings AS
SELECT * FROM predictions_recordings WHERE score > 0.5;

CREATE SUBSCRIPTION anomalies_recordings_changes FROM anomalies_recordings WITH (retention = '1 day');
