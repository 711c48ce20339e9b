"""Nexmark beyond the first nine queries, as RisingWave writes them, and what plain DuckDB is asked instead.

Left out: q11 and q12 (windows of processing time), q13 (a temporal join: tests/sql/streaming/temporal_join.slt).

Source: Tucker et al., "NEXMark: a benchmark for queries over data streams", 2002, and its common extension to q22.
"""

from __future__ import annotations

TABLES = {
    "person": "id BIGINT PRIMARY KEY, name VARCHAR, email_address VARCHAR, credit_card VARCHAR, city VARCHAR, state VARCHAR,"
    " date_time TIMESTAMP, extra VARCHAR",
    "auction": "id BIGINT PRIMARY KEY, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, reserve BIGINT,"
    " date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR",
    "bid": "n BIGINT PRIMARY KEY, auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP,"
    " extra VARCHAR",
}

_COUNTS = (
    "count(*) AS total, count(*) FILTER (WHERE price < 10000) AS low, count(*) FILTER (WHERE price >= 10000 AND price < 1000000)"
    " AS middle, count(*) FILTER (WHERE price >= 1000000) AS high"
)
_DISTINCT = (
    "count(DISTINCT bidder) AS bidders, count(DISTINCT bidder) FILTER (WHERE price < 10000) AS low_bidders,"
    " count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS high_bidders, count(DISTINCT auction) AS auctions,"
    " count(DISTINCT auction) FILTER (WHERE price < 10000) AS low_auctions"
)
_DAY = "to_char(date_time, 'YYYY-MM-DD')"
_CHANNEL = "(regexp_match(url, '(&|^|[?])channel_id=([^&]*)'))[2]"

QUERIES: dict[str, str] = {
    "q4": (
        "SELECT Q.category, avg(Q.final) AS average FROM (SELECT max(B.price) AS final, A.category FROM auction A, bid B"
        " WHERE A.id = B.auction AND B.date_time BETWEEN A.date_time AND A.expires GROUP BY A.id, A.category) Q GROUP BY Q.category"
    ),
    "q9": (
        "SELECT id, item_name, seller, category, auction, bidder, price, bid_date_time FROM (SELECT A.*, B.auction, B.bidder, B.price,"
        " B.date_time AS bid_date_time, row_number() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.date_time ASC, B.n) AS rownum"
        " FROM auction A, bid B WHERE A.id = B.auction AND B.date_time BETWEEN A.date_time AND A.expires) w WHERE rownum <= 1"
    ),
    "q10": f"SELECT auction, bidder, price, date_time, {_DAY} AS date, to_char(date_time, 'HH24:MI') AS time FROM bid",
    "q14": (
        "SELECT auction, bidder, 0.908 * price AS price, CASE WHEN extract(hour FROM date_time) >= 8 AND extract(hour FROM date_time)"
        " <= 18 THEN 'dayTime' WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime'"
        " ELSE 'otherTime' END AS kind, date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts FROM bid"
        " WHERE 0.908 * price > 1000 AND 0.908 * price < 50000000"
    ),
    "q15": f"SELECT {_DAY} AS day, {_COUNTS}, {_DISTINCT} FROM bid GROUP BY {_DAY}",
    "q16": (
        f"SELECT channel, {_DAY} AS day, max(to_char(date_time, 'HH24:MI')) AS minute, {_COUNTS}, {_DISTINCT} FROM bid"
        f" GROUP BY channel, {_DAY}"
    ),
    "q17": (
        f"SELECT auction, {_DAY} AS day, {_COUNTS}, min(price) AS least, max(price) AS most, avg(price) AS average, sum(price) AS sum"
        f" FROM bid GROUP BY auction, {_DAY}"
    ),
    "q18": (
        "SELECT auction, bidder, price, channel, url, date_time, extra FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction"
        " ORDER BY date_time DESC, n) AS place FROM bid) AS ranked WHERE place <= 1"
    ),
    "q19": (
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, n) AS place FROM bid) AS ranked"
        " WHERE place <= 10"
    ),
    "q20": (
        "SELECT B.auction, bidder, price, channel, url, B.date_time AS bid_time, item_name, initial_bid, reserve, A.date_time, expires,"
        " seller, category FROM bid AS B INNER JOIN auction AS A ON B.auction = A.id WHERE A.category = 10"
    ),
    "q21": (
        "SELECT auction, bidder, price, channel, CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1'"
        f" WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3' ELSE {_CHANNEL} END AS channel_id FROM bid"
        f" WHERE {_CHANNEL} IS NOT NULL OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')"
    ),
    "q22": (
        "SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2,"
        " split_part(url, '/', 6) AS dir3 FROM bid"
    ),
}  # fmt: skip


def for_duckdb(query: str) -> str:
    """The same question: its names for formats, and an empty match for none."""
    for ours, theirs in (("YYYY-MM-DD", "%Y-%m-%d"), ("HH24:MI", "%H:%M"), ("to_char(", "strftime(")):
        query = query.replace(ours, theirs)
    return query.replace(_CHANNEL, "nullif(regexp_extract(url, '(&|^|[?])channel_id=([^&]*)', 2), '')")
