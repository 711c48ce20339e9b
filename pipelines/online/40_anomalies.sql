-- An endpoint may serve any model, so a score says nothing by itself; what is odd for all of them is a row without an answer.

CREATE MATERIALIZED VIEW anomalies_online AS
SELECT * FROM predictions_online WHERE error IS NOT NULL;

CREATE SUBSCRIPTION anomalies_online_changes FROM anomalies_online WITH (retention = '1 day');
