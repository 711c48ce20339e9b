SELECT auction, bidder, CAST(0.908 AS DECIMAL(10,3)) * price AS price, date_time FROM bid
