"""pathway: its own incremental tables over JSON lines in a file, read as a bounded stream. Queries: q0 to q3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pathway as pw
import pyarrow as pa
from common import main, now

_WANTED = (1007, 1020, 2001, 2019, 2087)


class Bid(pw.Schema):
    auction: int
    bidder: int
    price: int
    date_time: str


# `id` is the row's own key in pathway.
class Person(pw.Schema):
    person_id: int
    name: str
    city: str
    state: str


class Auction(pw.Schema):
    auction_id: int
    seller: int
    category: int


def run(query: str, tables: dict[str, pa.Table], folder: Path) -> tuple[float, pa.Table]:
    del tables  # pathway reads the JSON lines beside them

    def read(name: str, schema: type[pw.Schema]) -> Any:
        paths = {} if name == "bid" else {f"{name}_id": "/id"}
        return pw.io.jsonlines.read(str(folder / f"{name}.ndjson"), schema=schema, mode="static", json_field_paths=paths)

    if query in ("q0", "q1", "q2"):
        bid = read("bid", Bid)
        result = bid
        if query == "q1":
            result = bid.select(bid.auction, bid.bidder, price=0.908 * bid.price, date_time=bid.date_time)
        if query == "q2":
            a = bid.auction
            wanted = (a == _WANTED[0]) | (a == _WANTED[1]) | (a == _WANTED[2]) | (a == _WANTED[3]) | (a == _WANTED[4])
            result = bid.filter(wanted).select(pw.this.auction, pw.this.price)
    elif query == "q3":
        person, auction = read("person", Person), read("auction", Auction)
        person = person.filter((person.state == "OR") | (person.state == "ID") | (person.state == "CA"))
        auction = auction.filter(auction.category == 10)
        result = auction.join(person, pw.left.seller == pw.right.person_id).select(
            pw.right.name, pw.right.city, pw.right.state, pw.left.auction_id
        )
    else:
        raise NotImplementedError("no exact form of this query was written")
    rows: dict[Any, dict[str, Any]] = {}

    def change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        del time
        if is_addition:
            rows[key] = row
        else:
            rows.pop(key)

    pw.io.subscribe(result, on_change=change)
    began = now()
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    seconds = now() - began
    answer = pa.Table.from_pylist(list(rows.values()))
    answer = answer.rename_columns(["id" if name == "auction_id" else name for name in answer.column_names])
    if "date_time" in answer.column_names:
        moments = pa.array(answer["date_time"].to_pylist()).cast(pa.timestamp("us"))
        answer = answer.set_column(answer.column_names.index("date_time"), "date_time", moments)
    return seconds, answer


main(run)
