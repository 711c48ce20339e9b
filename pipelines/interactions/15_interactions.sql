-- Each event as it was last corrected. An event without a value has the one of its type.
--
-- Rows are forgotten after the longest window (30 days) and as much as a correction may be late (a day) on top: until then an
-- event that a correction moved back in time must not come up again.

CREATE MATERIALIZED VIEW interactions AS
SELECT
    tenant_id,
    event_id,
    entity_id,
    item_id,
    event_type,
    coalesce(
        value,
        CASE event_type WHEN 'purchase' THEN 1.0 WHEN 'like' THEN 0.8 WHEN 'click' THEN 0.6 WHEN 'view' THEN 0.3 WHEN 'dislike' THEN -0.5 END
    )::DOUBLE PRECISION                             AS value,
    event_time
FROM (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY tenant_id, event_id
            ORDER BY coalesce(revision, 0) DESC, kafka_offset::BIGINT DESC, kafka_partition DESC
        ) AS recency
    FROM interactions_events
    WHERE event_time > (SELECT max(event_time) - INTERVAL '744 hours' FROM interactions_events)
) AS ranked
WHERE recency = 1 AND coalesce(retracted, false) = false;
