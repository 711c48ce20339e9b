SELECT DISTINCT p.id, p.name, time_bucket(INTERVAL 10 SECOND, p.date_time) AS starttime
FROM person AS p
WHERE EXISTS (
    SELECT 1 FROM auction AS a
    WHERE a.seller = p.id AND time_bucket(INTERVAL 10 SECOND, a.date_time) = time_bucket(INTERVAL 10 SECOND, p.date_time)
)
