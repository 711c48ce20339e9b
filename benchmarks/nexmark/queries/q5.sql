-- Hot items: the auctions with most bids of the last ten seconds, every two seconds.
SELECT auction_bids.auction, auction_bids.num, auction_bids.starttime
FROM (
    SELECT auction, COUNT(*) AS num, window_start AS starttime
    FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)
    GROUP BY window_start, auction
) AS auction_bids
JOIN (
    SELECT MAX(count_bids.num) AS maxn, count_bids.starttime_c
    FROM (
        SELECT COUNT(*) AS num, window_start AS starttime_c
        FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)
        GROUP BY auction, window_start
    ) AS count_bids
    GROUP BY count_bids.starttime_c
) AS max_bids
ON auction_bids.starttime = max_bids.starttime_c AND auction_bids.num >= max_bids.maxn
