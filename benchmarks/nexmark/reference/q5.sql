WITH counts AS (
    SELECT auction, count(*) AS num, time_bucket(INTERVAL 2 SECOND, date_time) - k * INTERVAL 2 SECOND AS starttime
    FROM bid, range(5) AS w(k) GROUP BY ALL
)
SELECT auction, num, starttime FROM counts QUALIFY num = max(num) OVER (PARTITION BY starttime)
