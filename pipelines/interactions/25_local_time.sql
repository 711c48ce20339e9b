-- When it happened, where it happened: event time on the local clock, Monday is 0, business hours are 09:00 to 17:59.
-- Printed by `headrace features template local-time`; see docs/how-to/use-window-features.md.
CREATE MATERIALIZED VIEW interactions_local_time AS
SELECT
    tenant_id,
    event_id,
    entity_id,
    event_time,
    extract(hour FROM local_time)::INT              AS hour_of_day,
    (extract(isodow FROM local_time) - 1)::INT      AS day_of_week,
    extract(isodow FROM local_time) > 5             AS is_weekend,
    extract(hour FROM local_time) BETWEEN 9 AND 17 AS is_business_hours
FROM (
    SELECT e.tenant_id, e.event_id, e.entity_id, e.event_time, e.event_time AT TIME ZONE coalesce(z.zone, 'UTC') AS local_time
    FROM interactions AS e
    LEFT JOIN interactions_zones AS z ON z.tenant_id = e.tenant_id
) AS events;
