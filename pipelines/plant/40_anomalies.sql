-- Windows that look like a fault. Agents follow them through the subscription.

CREATE MATERIALIZED VIEW anomalies_plant AS
SELECT * FROM predictions_plant WHERE score > 0.8;

CREATE SUBSCRIPTION anomalies_plant_changes FROM anomalies_plant WITH (retention = '1 day');
