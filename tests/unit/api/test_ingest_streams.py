"""What is known about streams: asked for once, kept for a while, and never in the way of ingestion."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from api.ingest.streams import StreamCatalog
from core.errors import NotFoundError
from core.fakes import ManualClock
from tests.unit.api.doubles import PLANT_COLUMNS, ScriptedReads, eventually

COLUMNS_OF_PLANT = 'SHOW COLUMNS FROM "plant_events"'


async def test_many_requests_at_once_ask_once(reads: ScriptedReads, clock: ManualClock) -> None:
    catalog = StreamCatalog(reads, clock)
    found = await asyncio.gather(*(catalog.schema_of("plant") for _ in range(20)))
    assert {schema.known for schema in found} == {True}
    assert [text for text, _ in reads.asked] == [COLUMNS_OF_PLANT]


async def test_a_changed_stream_is_noticed_without_making_anybody_wait(reads: ScriptedReads, clock: ManualClock) -> None:
    catalog = StreamCatalog(reads, clock)
    await catalog.schema_of("plant")
    reads.answers[COLUMNS_OF_PLANT] = [*PLANT_COLUMNS, {"Name": "pressure", "Type": "double precision"}]
    assert "pressure" not in (await catalog.schema_of("plant")).types
    clock.advance(timedelta(seconds=6))
    assert "pressure" not in (await catalog.schema_of("plant")).types  # answers at once with what is known
    await eventually(lambda: len(reads.asked) == 2)
    assert "pressure" in (await catalog.schema_of("plant")).types


async def test_while_the_database_is_away_what_was_known_still_holds(reads: ScriptedReads, clock: ManualClock) -> None:
    catalog = StreamCatalog(reads, clock)
    await catalog.schema_of("plant")
    reads.away = True
    for _ in range(5):
        clock.advance(timedelta(seconds=6))
        assert (await catalog.schema_of("plant")).known
        await asyncio.sleep(0)
    assert not (await catalog.schema_of("other")).known
    reads.away = False
    clock.advance(timedelta(seconds=2))
    await catalog.schema_of("other")  # asks again, in the background
    await eventually(lambda: reads.asked[-1][0] == 'SHOW CREATE SOURCE "plant_events"')
    await asyncio.sleep(0)
    with pytest.raises(NotFoundError):
        await catalog.schema_of("other")


async def test_a_caller_that_goes_does_not_spoil_the_answer_for_the_others(reads: ScriptedReads, clock: ManualClock) -> None:
    catalog = StreamCatalog(reads, clock)
    gone, waiting = asyncio.create_task(catalog.schema_of("plant")), asyncio.create_task(catalog.schema_of("plant"))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await waiting).known
