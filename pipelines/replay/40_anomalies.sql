-- Windows beyond what the model saw in training. Agents follow them through the subscription.

CREATE MATERIALIZED VIEW anomalies_replay AS
SELECT * FROM predictions_replay WHERE score > 0.5;

CREATE SUBSCRIPTION anomalies_replay_changes FROM anomalies_replay WITH (retention = '1 day');
