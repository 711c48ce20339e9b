CREATE TABLE notes (id INT PRIMARY KEY, text VARCHAR);

CREATE MATERIALIZED VIEW clean_notes AS
SELECT id, (answer).value.text AS text, (answer).error ->> 'code' AS code
FROM (SELECT id, redact(text) AS answer FROM notes) AS asked;
