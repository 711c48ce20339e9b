"""`connector = 'nexmark'`: options as RisingWave documents them, the stream of `nexmark_events`.

`nexmark.table.type` is Person, Auction or Bid; without it every event comes, with columns `event_type`, `person`, `auction` and
`bid`. A split has every n-th row of the table. `nexmark.event.num` counts events of all kinds, as it does there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa

from engine.connectors.generated_source import GeneratedSource
from engine.connectors.nexmark_events import TABLE_TYPES, NexmarkConfig, TableType, generate, generate_combined
from engine.connectors.options import parse_bool, parse_int, refuse_unknown_options
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.types import INT8, TIMESTAMP, VARCHAR, SqlType, struct_of

_PERSON = (
    ("id", INT8), ("name", VARCHAR), ("email_address", VARCHAR), ("credit_card", VARCHAR), ("city", VARCHAR),
    ("state", VARCHAR), ("date_time", TIMESTAMP), ("extra", VARCHAR),
)  # fmt: skip
_AUCTION = (
    ("id", INT8), ("item_name", VARCHAR), ("description", VARCHAR), ("initial_bid", INT8), ("reserve", INT8),
    ("date_time", TIMESTAMP), ("expires", TIMESTAMP), ("seller", INT8), ("category", INT8), ("extra", VARCHAR),
)  # fmt: skip
_BID = (
    ("auction", INT8), ("bidder", INT8), ("price", INT8), ("channel", VARCHAR), ("url", VARCHAR), ("date_time", TIMESTAMP),
    ("extra", VARCHAR),
)  # fmt: skip
_COMBINED = (
    ("event_type", INT8), ("person", struct_of(*_PERSON)), ("auction", struct_of(*_AUCTION)), ("bid", struct_of(*_BID)),
)  # fmt: skip
SCHEMAS: Mapping[str, tuple[tuple[str, SqlType], ...]] = {
    "Person": _PERSON, "Auction": _AUCTION, "Bid": _BID, "": _COMBINED,
}  # fmt: skip

_NUMBERS = {
    "nexmark.active.people": "active_people", "nexmark.in.flight.auctions": "in_flight_auctions",
    "nexmark.hot.seller.ratio": "hot_seller_ratio", "nexmark.hot.auction.ratio": "hot_auction_ratio",
    "nexmark.hot.bidder.ratio": "hot_bidder_ratio", "nexmark.person.proportion": "person",
    "nexmark.auction.proportion": "auction", "nexmark.bid.proportion": "bid",
}  # fmt: skip
_OPTIONS = (
    "connector", "nexmark.table.type", "nexmark.event.num", "nexmark.split.num", "nexmark.min.event.gap.in.ns",
    "nexmark.max.chunk.size", "nexmark.use.real.time", *_NUMBERS,
    # Lengths of the filler texts and the share of well-known channels: read over, the texts have a length of their own.
    "nexmark.avg.person.byte.size", "nexmark.avg.auction.byte.size", "nexmark.avg.bid.byte.size", "nexmark.hot.channel.ratio",
)  # fmt: skip
_DEFAULT_GAP_NS = 100_000
_DEFAULT_CHUNK_ROWS = 1024
_FAST_BATCH_ROWS = 10_000


def build_nexmark_source(options: Mapping[str, str], fields: Sequence[tuple[str, SqlType]]) -> GeneratedSource:
    """The reader that the options describe.

    Raises:
        SqlError: an option is unknown or malformed, or a column is not one of the stream's.
    """
    refuse_unknown_options(options, _OPTIONS, what="connector nexmark")
    kind = _table_type(options)
    _check_columns(fields, SCHEMAS[kind], kind)
    if parse_bool(options, "nexmark.use.real.time", default=False):
        raise UnsupportedQuery(
            "`nexmark.use.real.time` cannot be repeated after a restart",
            fix="Leave it out: event times follow the event number.",
        )
    config = NexmarkConfig(
        **{
            field: parse_int(options, name, default=getattr(NexmarkConfig, field), minimum=1)
            for name, field in _NUMBERS.items()
        }
    )
    splits = parse_int(options, "nexmark.split.num", default=1, minimum=1)
    events = parse_int(options, "nexmark.event.num", default=0, minimum=1) if "nexmark.event.num" in options else None
    gap_ns = parse_int(options, "nexmark.min.event.gap.in.ns", default=_DEFAULT_GAP_NS)
    chunk = parse_int(options, "nexmark.max.chunk.size", default=_DEFAULT_CHUNK_ROWS, minimum=1)
    share = config.share(cast(TableType, kind)) / config.total if kind else 1.0
    total = None if events is None else config.count(cast(TableType, kind), events) if kind else events
    lengths = [None if total is None else max(0, -(-(total - split) // splits)) for split in range(splits)]

    def make(split: int, first: int, count: int) -> pa.Table:
        ordinals = np.arange(first, first + count, dtype=np.int64) * splits + split
        if not kind:
            return generate_combined(config, ordinals)
        return generate(config, cast(TableType, kind), config.numbers(cast(TableType, kind), ordinals))

    rate = 1e9 / gap_ns * share if gap_ns else None
    return GeneratedSource(make, lengths, rate, chunk if gap_ns else max(chunk, _FAST_BATCH_ROWS))


def _table_type(options: Mapping[str, str]) -> str:
    given = options.get("nexmark.table.type", "").strip()
    for kind in TABLE_TYPES:
        if given.lower() == kind.lower():
            return kind
    if given:
        raise InvalidParameter(
            f"option `nexmark.table.type` cannot be `{given}`",
            fix="Use Person, Auction or Bid, or leave it out for all events.",
        )
    return ""


def _check_columns(fields: Sequence[tuple[str, SqlType]], known: Sequence[tuple[str, SqlType]], kind: str) -> None:
    types = dict(known)
    for name, type_ in fields:
        if name not in types:
            raise InvalidParameter(
                f"nexmark's {kind or 'event'} stream has no column `{name}`", fix=f"It has {', '.join(types)}."
            )
        if types[name] != type_:
            raise InvalidParameter(
                f"nexmark's column `{name}` is {types[name].sql}, not {type_.sql}",
                fix="Declare it as the stream has it, and cast in a view.",
            )
