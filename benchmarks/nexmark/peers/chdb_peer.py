"""chdb (ClickHouse in the process): materialized views that aggregate on insertion; joins and maxima are finished when read.

That is how one keeps such queries fresh in ClickHouse: q0 to q2, q5 and q7 have a view that a read finishes cheaply; a join of
two streams (q3, q4, q6, q8) has no incremental form that is exact whatever the order of arrival, so those are one query at the
end over tables that were filled by insertion.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from chdb import session
from common import epochs, main, now

_TYPES = {"int64": "Int64", "string": "String", "timestamp[us]": "DateTime64(6)"}
# Of each query: the view's SELECT over `bid` with its engine, and what is read at the end.
VIEWS = {
    "q0": ("MergeTree ORDER BY tuple()", "SELECT auction, bidder, price, date_time FROM bid", "SELECT * FROM view"),
    "q1": (
        "MergeTree ORDER BY tuple()",
        "SELECT auction, bidder, toDecimal64(0.908, 3) * price AS price, date_time FROM bid",
        "SELECT * FROM view",
    ),
    "q2": (
        "MergeTree ORDER BY tuple()",
        "SELECT auction, price FROM bid WHERE auction IN (1007, 1020, 2001, 2019, 2087)",
        "SELECT * FROM view",
    ),
    "q5": (
        "SummingMergeTree ORDER BY (starttime, auction)",
        "SELECT auction, count() AS num, arrayJoin(arrayMap(k -> toStartOfInterval(date_time, INTERVAL 2 SECOND) - INTERVAL 2 * k SECOND,"
        " range(5))) AS starttime FROM bid GROUP BY auction, starttime",
        "SELECT auction, n AS num, toDateTime64(starttime, 6) AS starttime FROM (SELECT auction, starttime, sum(num) AS n, max(n) OVER (PARTITION BY starttime) AS m"
        " FROM view GROUP BY auction, starttime) WHERE n = m",
    ),
    "q7": (
        "AggregatingMergeTree ORDER BY ended",
        "SELECT toStartOfInterval(date_time, INTERVAL 10 SECOND) + INTERVAL 10 SECOND AS ended, maxSimpleState(price) AS maxprice FROM bid"
        " GROUP BY ended",
        "SELECT b.auction, b.price, b.bidder, b.date_time FROM bid AS b JOIN (SELECT ended, max(maxprice) AS maxprice FROM view GROUP BY ended)"
        " AS m ON b.price = m.maxprice WHERE b.date_time BETWEEN m.ended - INTERVAL 10 SECOND AND m.ended",
    ),
}
_JOINED = (
    "SELECT a.id AS id, a.category AS category, a.seller AS seller, max(b.price) AS final, max(b.date_time) AS date_time FROM auction AS a"
    " JOIN bid AS b ON a.id = b.auction WHERE b.date_time BETWEEN a.date_time AND a.expires GROUP BY a.id, a.category, a.seller"
)
READS_AT_END = {
    "q3": "SELECT p.name, p.city, p.state, a.id FROM auction AS a JOIN person AS p ON a.seller = p.id WHERE a.category = 10"
    " AND p.state IN ('OR', 'ID', 'CA')",
    "q4": f"SELECT category, avg(final) AS avg FROM ({_JOINED}) GROUP BY category",
    "q6": "SELECT seller, id, avg(final) OVER (PARTITION BY seller ORDER BY date_time, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS avg"
    f" FROM ({_JOINED})",
    "q8": "SELECT DISTINCT p.id AS id, p.name AS name, toDateTime64(toStartOfInterval(p.date_time, INTERVAL 10 SECOND), 6) AS starttime FROM person AS p JOIN auction AS a"
    " ON a.seller = p.id WHERE toStartOfInterval(a.date_time, INTERVAL 10 SECOND) = toStartOfInterval(p.date_time, INTERVAL 10 SECOND)",
}


def run(query: str, tables: dict[str, pa.Table], folder: Path) -> tuple[float, pa.Table]:
    del folder
    chdb = session.Session()
    chdb.query("CREATE DATABASE n ENGINE = Atomic")
    chdb.query("USE n")
    for name, table in tables.items():
        columns = ", ".join(f"{field.name} {_TYPES[str(field.type)]}" for field in table.schema)
        # A query that only needs the view does not store the events themselves.
        engine = "Null" if query in ("q0", "q1", "q2", "q5") else "MergeTree ORDER BY tuple()"
        chdb.query(f"CREATE TABLE {name} ({columns}) ENGINE = {engine}")
    final = READS_AT_END.get(query)
    if final is None:
        storage, select, final = VIEWS[query]
        chdb.query(f"CREATE MATERIALIZED VIEW view ENGINE = {storage} AS {select}")
    chdb.query("SELECT 1", "ArrowTable")  # what is loaded once is not part of the measurement
    began = now()
    for name, part in epochs(tables):
        batch = part.combine_chunks()  # noqa: F841  chdb reads the variable by its name
        chdb.query(f"INSERT INTO {name} SELECT * FROM Python(batch)")
    answer = chdb.query(final, "ArrowTable")
    seconds = now() - began
    return seconds, answer


main(run)
