"""Nexmark's event stream as Arrow, a pure function of the event number.

Of every 50 events the first is a person, the next three are auctions, the rest bids. An event's random numbers are a hash of
its number, so that any stretch of the stream can be made again, by anybody, in any order:

    event number --> kind, ordinal of that kind, time --> hashes of the number --> columns

Source: Tucker et al., "NEXMark, a benchmark for queries over data streams", 2002; Apache Beam's generator for the proportions,
the hot keys (recent people and auctions are asked for more often) and the price distribution; RisingWave's documentation for
the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

TableType = Literal["Person", "Auction", "Bid"]
TABLE_TYPES: tuple[TableType, ...] = ("Person", "Auction", "Bid")

_CITIES = ("Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne")
_STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
_FIRST_NAMES = ("Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter")
_LAST_NAMES = ("Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris")
_CHANNELS = ("Google", "Facebook", "Baidu", "Apple")
_CHANNELS_IN_ALL = 10_000
_FIRST_ID = 1000  # of people and auctions
_FIRST_CATEGORY = 10
_CATEGORIES = 5
_BASE_TIME_US = 1_436_918_400_000_000  # 2015-07-15 00:00:00 UTC, as in the reference generators
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
_LINES = 4096  # distinct filler texts; a bid picks one

Int64s = NDArray[np.int64]


@dataclass(frozen=True)
class NexmarkConfig:
    """How the stream is made; the defaults are the reference generators'.

    Attributes:
        person, auction, bid: proportions.
        event_gap_us: event time between two events.
        active_people, in_flight_auctions: how far back an event may refer.
        hot_seller_ratio, hot_auction_ratio, hot_bidder_ratio: one in so many does not refer to a hot key.
    """

    person: int = 1
    auction: int = 3
    bid: int = 46
    event_gap_us: int = 100
    active_people: int = 1000
    in_flight_auctions: int = 100
    hot_seller_ratio: int = 4
    hot_auction_ratio: int = 2
    hot_bidder_ratio: int = 4

    @property
    def total(self) -> int:
        return self.person + self.auction + self.bid

    def first(self, kind: TableType) -> int:
        """Where events of this kind begin in every round of `total` events."""
        return {"Person": 0, "Auction": self.person, "Bid": self.person + self.auction}[kind]

    def share(self, kind: TableType) -> int:
        return {"Person": self.person, "Auction": self.auction, "Bid": self.bid}[kind]

    def numbers(self, kind: TableType, ordinals: Int64s) -> Int64s:
        """Event numbers of the events of one kind, by their ordinal among that kind."""
        share = self.share(kind)
        return ordinals // share * self.total + self.first(kind) + ordinals % share

    def count(self, kind: TableType, events: int) -> int:
        """How many of the first `events` events are of this kind."""
        whole, rest = divmod(events, self.total)
        return whole * self.share(kind) + min(max(rest - self.first(kind), 0), self.share(kind))


def generate(config: NexmarkConfig, kind: TableType, numbers: Int64s) -> pa.Table:
    """The columns of one kind's table.

    Args:
        numbers: int64[n], event numbers, all of this kind.
    """
    return {"Person": _people, "Auction": _auctions, "Bid": _bids}[kind](config, numbers)


def generate_combined(config: NexmarkConfig, numbers: Int64s) -> pa.Table:
    """`event_type` (0 person, 1 auction, 2 bid) and one struct a kind, NULL but for the event's own.

    Args:
        numbers: int64[n], any event numbers.
    """
    within = numbers % config.total
    kinds = np.searchsorted([config.first("Auction"), config.first("Bid")], within, side="right").astype(np.int64)
    columns: dict[str, Any] = {"event_type": pa.array(kinds)}
    for code, kind in enumerate(TABLE_TYPES):
        chosen = kinds == code
        table = generate(config, kind, numbers[chosen]).combine_chunks()
        structs = pa.StructArray.from_arrays(
            [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in table.columns],
            table.column_names,
        )
        places = np.cumsum(chosen) - 1
        columns[kind.lower()] = structs.take(pa.array(places, pa.int64(), mask=~chosen))
    return pa.table(columns)


def times_us(config: NexmarkConfig, numbers: Int64s) -> Int64s:
    """Event times, whole milliseconds, as unix microseconds."""
    return _BASE_TIME_US + numbers * config.event_gap_us // 1000 * 1000


def _people(config: NexmarkConfig, numbers: Int64s) -> pa.Table:
    ids = _last_person(config, numbers)
    names = pc.binary_join_element_wise(_pick(_FIRST_NAMES, numbers, 1), _pick(_LAST_NAMES, numbers, 2), " ")
    texts = pc.cast(pa.array(ids), pa.string())
    return pa.table(
        {
            "id": ids + _FIRST_ID,
            "name": names,
            "email_address": pc.binary_join_element_wise(_filler(numbers, 3, 7), "@", _filler(numbers, 4, 5), ".com", ""),
            "credit_card": pc.binary_join_element_wise("4000 1234 5678 ", pc.utf8_lpad(texts, 4, "0"), ""),
            "city": _pick(_CITIES, numbers, 5),
            "state": _pick(_STATES, numbers, 6),
            "date_time": _timestamps(times_us(config, numbers)),
            "extra": _filler(numbers, 7, 40),
        }
    )


def _auctions(config: NexmarkConfig, numbers: Int64s) -> pa.Table:
    initial = _prices(numbers, 1)
    moments = times_us(config, numbers)
    in_flight = config.in_flight_auctions * config.total // config.auction
    horizon_ms = np.maximum(in_flight * config.event_gap_us // 1000 * 2, 1)
    length_us = (1 + _below(numbers, 2, horizon_ms)) * 1000
    last = _last_person(config, numbers)
    hot = _below(numbers, 3, config.hot_seller_ratio) > 0
    seller = np.where(hot, last // 100 * 100, _recent(last, config.active_people, numbers, 4))
    return pa.table(
        {
            "id": _last_auction(config, numbers) + _FIRST_ID,
            "item_name": _filler(numbers, 5, 20),
            "description": _filler(numbers, 6, 60),
            "initial_bid": initial,
            "reserve": initial + _prices(numbers, 7),
            "date_time": _timestamps(moments),
            "expires": _timestamps(moments + length_us),
            "seller": seller + _FIRST_ID,
            "category": _FIRST_CATEGORY + _below(numbers, 8, _CATEGORIES),
            "extra": _filler(numbers, 9, 60),
        }
    )


def _bids(config: NexmarkConfig, numbers: Int64s) -> pa.Table:
    auction = _last_auction(config, numbers)
    hot = _below(numbers, 1, config.hot_auction_ratio) > 0
    chosen = np.where(hot, auction // 100 * 100, _recent(auction, config.in_flight_auctions, numbers, 2))
    person = _last_person(config, numbers)
    hot = _below(numbers, 3, config.hot_bidder_ratio) > 0
    bidder = np.where(hot, np.minimum(person // 100 * 100 + 1, person), _recent(person, config.active_people, numbers, 4))
    channels = _channels()
    channel = np.where(_below(numbers, 5, 2) > 0, _below(numbers, 6, len(_CHANNELS)), _below(numbers, 7, _CHANNELS_IN_ALL))
    index = pa.array(channel)
    return pa.table(
        {
            "auction": chosen + _FIRST_ID,
            "bidder": bidder + _FIRST_ID,
            "price": _prices(numbers, 8),
            "channel": channels[0].take(index),
            "url": channels[1].take(index),
            "date_time": _timestamps(times_us(config, numbers)),
            "extra": _filler(numbers, 9, 32),
        }
    )


def _last_person(config: NexmarkConfig, numbers: Int64s) -> Int64s:
    """Ordinal of the last person at or before an event."""
    rounds, within = np.divmod(numbers, config.total)
    ordinals: Int64s = rounds * config.person + np.minimum(within, config.person - 1)
    return ordinals


def _last_auction(config: NexmarkConfig, numbers: Int64s) -> Int64s:
    """Ordinal of the last auction at or before an event; 0 before the first."""
    rounds, within = np.divmod(numbers, config.total)
    offset = np.clip(within - config.person, -1, config.auction - 1)
    ordinals: Int64s = np.maximum(rounds * config.auction + offset, 0)
    return ordinals


def _recent(last: Int64s, span: int, numbers: Int64s, salt: int) -> Int64s:
    """One of the last `span` ordinals up to `last`."""
    known = np.minimum(last + 1, span)
    chosen: Int64s = last - _below(numbers, salt, known)
    return chosen


def _prices(numbers: Int64s, salt: int) -> Int64s:
    """Whole cents between 1 and 10,000 dollars, log-uniform."""
    uniform = _hash(numbers, salt) / 2.0**64
    cents: Int64s = np.round(10.0 ** (uniform * 6.0) * 100.0).astype(np.int64)
    return cents


def _below(numbers: Int64s, salt: int, limit: Any) -> Int64s:
    """A whole number from 0 to `limit` - 1 (a scalar or int64[n])."""
    chosen: Int64s = (_hash(numbers, salt) >> np.uint64(11)).astype(np.int64) % limit
    return chosen


def _hash(numbers: Int64s, salt: int) -> NDArray[np.uint64]:
    """SplitMix64 of number and salt. Source: Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) * np.uint64(16) + np.uint64(salt)
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _pick(texts: tuple[str, ...], numbers: Int64s, salt: int) -> pa.Array:
    return pa.array(texts).take(pa.array(_below(numbers, salt, len(texts))))


def _timestamps(moments_us: Int64s) -> pa.Array:
    return pa.array(moments_us).cast(pa.timestamp("us"))


def _filler(numbers: Int64s, salt: int, length: int) -> pa.Array:
    """A text of lower-case letters, one of `_LINES` that the salt and length name."""
    return _lines(salt, length).take(pa.array(_below(numbers, salt + 100, _LINES)))


@cache
def _lines(salt: int, length: int) -> pa.Array:
    letters = _LETTERS[_below(np.arange(_LINES * length, dtype=np.int64), salt, 26)]
    offsets = np.arange(_LINES + 1, dtype=np.int32) * length
    return pa.StringArray.from_buffers(_LINES, pa.py_buffer(offsets.tobytes()), pa.py_buffer(letters.tobytes()))


@cache
def _channels() -> tuple[pa.Array, pa.Array]:
    """Names and addresses of all channels, the four hot ones first."""
    ordinals = np.arange(_CHANNELS_IN_ALL, dtype=np.int64)
    names = [*_CHANNELS, *(f"channel-{i}" for i in range(len(_CHANNELS), _CHANNELS_IN_ALL))]
    paths = [f"https://www.nexmark.com/{a}/item.htm?query=1" for a in _filler(ordinals, 10, 12).to_pylist()]
    numbered = [path if i % 10 else f"{path}&channel_id={i}" for i, path in enumerate(paths)]
    return pa.array(names), pa.array(numbered)
