-- Images that no class claims with confidence: the ones worth a second look.

CREATE MATERIALIZED VIEW anomalies_vision AS
SELECT * FROM predictions_vision WHERE score < 0.5;

CREATE SUBSCRIPTION anomalies_vision_changes FROM anomalies_vision WITH (retention = '1 day');
