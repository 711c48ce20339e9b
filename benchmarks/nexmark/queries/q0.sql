-- Pass through: what it costs to take events in and keep them.
SELECT auction, bidder, price, date_time FROM bid
