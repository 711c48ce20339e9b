SELECT b.auction, b.price, b.bidder, b.date_time
FROM bid AS b JOIN (
    SELECT max(price) AS maxprice, time_bucket(INTERVAL 10 SECOND, date_time) + INTERVAL 10 SECOND AS ended FROM bid GROUP BY ended
) AS m ON b.price = m.maxprice
WHERE b.date_time BETWEEN m.ended - INTERVAL 10 SECOND AND m.ended
