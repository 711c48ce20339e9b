"""The sources that make their rows: the same rows whatever the cuts, and through the engine exactly once over a restart."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.clock import SystemClock
from core.settings import EngineSettings
from engine.connectors.datagen_source import build_datagen_source
from engine.connectors.nexmark_events import TABLE_TYPES, NexmarkConfig, TableType, generate, generate_combined
from engine.connectors.nexmark_source import SCHEMAS, build_nexmark_source
from engine.connectors.registry import build_source
from engine.front.session import EngineSessions
from engine.runtime.engine import Engine
from engine.sql.errors import InvalidParameter
from engine.sql.types import FLOAT8, INT4, INT8, TIMESTAMP, VARCHAR, list_of, struct_of

CONFIG = NexmarkConfig()


def read_all(source: Any, rows: int, positions: dict[int, int] | None = None) -> pa.Table:
    source.start(positions or {}, lambda: None)
    taken: list[pa.Table] = []
    deadline = time.monotonic() + 20
    try:
        while sum(t.num_rows for t in taken) < rows:
            assert time.monotonic() < deadline, "the source did not give its rows in time"
            table = source.take(rows - sum(t.num_rows for t in taken))
            if table is not None:
                taken.append(table)
    finally:
        source.close()
    return pa.concat_tables(taken)


@pytest.mark.parametrize("kind", TABLE_TYPES)
def test_any_stretch_of_a_nexmark_table_can_be_made_alone(kind: TableType) -> None:
    numbers = CONFIG.numbers(kind, np.arange(500, dtype=np.int64))
    whole = generate(CONFIG, kind, numbers)
    assert whole.slice(123, 77).to_pylist() == generate(CONFIG, kind, numbers[123:200]).to_pylist()
    assert whole.column_names == [name for name, _ in SCHEMAS[kind]]


def test_events_come_in_the_standard_proportions_and_refer_to_what_exists() -> None:
    people, auctions, bids = (
        generate(CONFIG, kind, CONFIG.numbers(kind, np.arange(CONFIG.count(kind, 50_000), dtype=np.int64)))
        for kind in TABLE_TYPES
    )
    assert (people.num_rows, auctions.num_rows, bids.num_rows) == (1000, 3000, 46_000)
    known_people, known_auctions = set(people["id"].to_pylist()), set(auctions["id"].to_pylist())
    assert set(auctions["seller"].to_pylist()) <= known_people
    assert set(bids["auction"].to_pylist()) <= known_auctions
    assert set(bids["bidder"].to_pylist()) <= known_people
    assert all(a["date_time"] < a["expires"] for a in auctions.to_pylist())
    # Half of the bids go to hot auctions, which are every hundredth.
    hot = sum(a % 100 == 0 for a in bids["auction"].to_pylist()) / bids.num_rows
    assert 0.45 < hot < 0.60


def test_the_combined_stream_holds_the_same_events_as_the_three_tables() -> None:
    combined = generate_combined(CONFIG, np.arange(200, dtype=np.int64)).to_pylist()
    for code, kind in enumerate(TABLE_TYPES):
        own = [row[kind.lower()] for row in combined if row["event_type"] == code]
        assert (
            own == generate(CONFIG, kind, CONFIG.numbers(kind, np.arange(CONFIG.count(kind, 200), dtype=np.int64))).to_pylist()
        )
    assert all(sum(row[kind.lower()] is not None for kind in TABLE_TYPES) == 1 for row in combined)


def test_splits_share_a_nexmark_table_without_overlap() -> None:
    options = {
        "connector": "nexmark",
        "nexmark.table.type": "Bid",
        "nexmark.event.num": "1000",
        "nexmark.min.event.gap.in.ns": "0",
    }
    one = read_all(build_nexmark_source(options, SCHEMAS["Bid"]), 920)
    three = read_all(build_nexmark_source({**options, "nexmark.split.num": "3"}, SCHEMAS["Bid"]), 920)
    assert set(three["partition"].to_pylist()) == {0, 1, 2}
    names = [name for name, _ in SCHEMAS["Bid"]]

    def rows(table: pa.Table) -> list[str]:
        return sorted(map(str, table.select(names).to_pylist()))

    assert rows(one) == rows(three)


def test_a_datagen_source_goes_on_at_an_offset_as_if_it_had_never_stopped() -> None:
    fields = [
        ("i", INT8), ("x", FLOAT8), ("t", VARCHAR), ("a", list_of(INT4)), ("s", struct_of(("v", INT8), ("w", VARCHAR))), ("m", TIMESTAMP),
    ]  # fmt: skip
    options = {
        "connector": "datagen", "datagen.rows.per.second": "20000", "fields.i.kind": "sequence", "fields.i.start": "5", "fields.i.end": "60",
        "fields.x.min": "-1", "fields.x.max": "1", "fields.t.length": "7", "fields.a.length": "2", "fields.a._.kind": "sequence",
        "fields.s.v.max": "9", "fields.m.max_past": "2h", "fields.m.basetime": "2024-01-01T00:00:00Z",
    }  # fmt: skip
    names = [name for name, _ in fields]
    whole = read_all(build_datagen_source(options, fields), 100).select(names).to_pylist()
    rest = read_all(build_datagen_source(options, fields), 60, {0: 40}).select(names).to_pylist()
    assert rest == whole[40:]
    assert [row["i"] for row in whole[:3]] == [5, 6, 7]
    assert whole[56]["i"] is None, "a sequence that has ended gives NULL"
    assert all(-1 <= row["x"] <= 1 and len(row["t"]) == 7 and 0 <= row["s"]["v"] <= 9 for row in whole)
    assert [row["a"] for row in whole[:2]] == [[0, 1], [2, 3]]
    assert len({row["t"] for row in whole}) == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connector": "nexmark", "nexmark.table.type": "Bids"}, "cannot be `Bids`"),
        ({"connector": "nexmark", "nexmark.table.typ": "Bid"}, "unknown option"),
        ({"connector": "nexmark", "nexmark.table.type": "Person"}, "has no column `auction`"),
        ({"connector": "datagen", "fields.auction.kind": "seq"}, "cannot be `seq`"),
        ({"connector": "datagen", "fields.nothing.kind": "random"}, "unknown option"),
        ({"connector": "datagen", "fields.auction.max_past": "1h"}, "unknown option"),
        ({"connector": "nothing"}, "no source connector"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        build_source(options, None, [("auction", INT8)])


async def test_nexmark_events_are_counted_once_over_a_restart(tmp_path: Path) -> None:
    script = """
        CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, extra VARCHAR)
        WITH (connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = '5000', nexmark.split.num = '2',
              nexmark.min.event.gap.in.ns = '0');
        CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, sum(price)::bigint AS total, count(DISTINCT auction) AS auctions FROM bid;
    """
    settings = EngineSettings(epoch_interval_ms=1, epoch_max_rows=700)
    rows: list[Any] = []
    for opening in range(2):
        engine = Engine(tmp_path, settings, SystemClock())
        engine.start()
        session = await EngineSessions(engine)(database="dev", user="root", options={})
        if opening == 0:
            for statement in session.parse(script):
                await session.execute(await session.prepare(statement))
        wanted = 1500 if opening == 0 else 4600
        deadline = time.monotonic() + 30
        count = 0
        while count < wanted:
            assert time.monotonic() < deadline, f"only {count} bids arrived"
            (statement,) = session.parse("SELECT n, total, auctions FROM sums")
            answer = await session.execute(await session.prepare(statement))
            rows = _rows(answer)
            count = int(rows[0][0]) if rows else 0
            await asyncio.sleep(0.005)
        await asyncio.to_thread(engine.close)
    bids = generate(CONFIG, "Bid", CONFIG.numbers("Bid", np.arange(4600, dtype=np.int64)))
    prices, auctions = bids["price"].to_pylist(), bids["auction"].to_pylist()
    assert [int(v) for v in rows[0]] == [4600, sum(prices), len(set(auctions))]


def _rows(answer: Any) -> list[list[Any]]:
    return [list(row.values()) for row in answer.rows.to_pylist()]
