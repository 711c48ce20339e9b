"""Features by GraphQL: a caller sees its tenant's entities and no others, now and as of then; looking views up is not paid by each read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.http.problems import ForbiddenError
from api.identity.identity import Identity
from api.reading.features import REMEMBERED_SECONDS, Features
from api.reading.lake import Lake
from core.errors import InvalidInputError, NotFoundError
from core.fakes import ManualClock
from core.ids import TenantId
from core.settings import Settings
from features import online
from features.references import choose
from features.registry import FeatureRegistry
from iceberg.catalog import open_lake
from tests.unit.api.doubles import NOWHERE, ScriptedFeed, ScriptedReads, serving
from tests.unit.features.conftest import Lake as History
from tests.unit.features.conftest import closed

PUMPS = closed()
ACME = Identity(TenantId("acme"), "viewer", "key")
SHARED = replace(PUMPS, name="shared", entity=("entity_id",))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        kafka=NOWHERE,
        database_url=f"postgresql://root@{NOWHERE}/dev",
        udf_url=f"http://{NOWHERE}",
        api_keys={"acme": SecretStr("key-of-acme")},
    )


@pytest.fixture
def features(settings: Settings, reads: ScriptedReads, clock: ManualClock) -> Features:
    registry = FeatureRegistry(open_lake(settings), clock)
    registry.apply(PUMPS)
    registry.apply(SHARED)
    return Features(reads, Lake(settings), clock)


def _script(reads: ScriptedReads, clock: ManualClock, entities: list[dict[str, str]], *rows: list[Any]) -> None:
    text, _ = online.statement(choose(["pumps"], {"pumps": PUMPS}), entities)
    reads.answers[text] = [{f"c{i}": cell for i, cell in enumerate(row)} for row in rows]
    assert clock.now().tzinfo is UTC


async def test_the_tenant_is_the_callers_and_a_key_that_names_another_is_refused(
    features: Features, reads: ScriptedReads, clock: ManualClock
) -> None:
    moment = clock.now() - timedelta(seconds=30)
    entity = {"entity_id": "p1", "tenant_id": "acme"}
    _script(reads, clock, [entity], [0, moment, "0:17,1:4", moment, [1.5, None]])
    answer = await features.read(ACME, "pumps", [{"entity_id": "p1"}], None)
    (row,) = answer.rows
    assert reads.asked[-1][1] == ["acme", "p1"]
    assert dict(row.values) == {"pumps__x": 1.5, "pumps__y": None}
    assert (row.views["pumps"].status, row.views["pumps"].age_seconds) == ("present", 30.0)
    assert answer.views["pumps"].position == {0: 17, 1: 4}
    assert answer.views["pumps"].lag_seconds == 30.0
    with pytest.raises(InvalidInputError, match="another tenant"):
        await features.read(ACME, "pumps", [{"entity_id": "p1", "tenant_id": "globex"}], None)
    with pytest.raises(InvalidInputError, match="does not name exactly"):
        await features.read(ACME, "pumps", [{"pump": "p1"}], None)
    with pytest.raises(InvalidInputError, match="object of texts"):
        await features.read(ACME, "pumps", ["p1"], None)


async def test_a_view_of_no_tenant_is_for_admins(features: Features) -> None:
    with pytest.raises(ForbiddenError, match="admin"):
        await features.read(ACME, "shared", [{"entity_id": "p1"}], None)
    with pytest.raises(NotFoundError):
        await features.read(ACME, "nothing", [{"entity_id": "p1"}], None)


async def test_looking_views_up_costs_one_visit_to_the_lake_however_many_reads(
    features: Features, reads: ScriptedReads, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U47: resolving metadata must not cost each read as much as the read."""
    visits = 0
    latest: Callable[[FeatureRegistry], Any] = FeatureRegistry.latest

    def counted(registry: FeatureRegistry) -> Any:
        nonlocal visits
        visits += 1
        return latest(registry)

    monkeypatch.setattr(FeatureRegistry, "latest", counted)
    _script(reads, clock, [{"entity_id": "p1", "tenant_id": "acme"}], [0, None, None, None, None])
    for _ in range(20):
        answer = await features.read(ACME, "pumps", [{"entity_id": "p1"}], None)
        assert answer.rows[0].views["pumps"].status == "missing"
    assert visits == 1
    clock.advance(timedelta(seconds=REMEMBERED_SECONDS))
    await features.read(ACME, "pumps", [{"entity_id": "p1"}], None)
    assert visits == 2


@pytest.fixture
async def address(settings: Settings, features: Features, clock: ManualClock) -> AsyncIterator[str]:
    _ = features
    async with serving(settings, clock, ScriptedFeed()) as (address, _services):
        yield address


async def test_graphql_tells_views_and_what_was_known_then(settings: Settings, clock: ManualClock, address: str) -> None:
    history = History(open_lake(settings))
    history.clock = ManualClock(datetime(2025, 12, 1, tzinfo=UTC))
    history.create(PUMPS)
    then = history.clock.now()
    rows = [
        {"tenant_id": tenant, "entity_id": "p1", "feature_end": then, "x": x, "y": 0.0}
        for tenant, x in (("acme", 1.0), ("globex", 2.0))
    ]
    history.append(PUMPS, rows)
    query = """query Q($asOf: DateTime) {
      featureViews { name version entity ttlSeconds features { name type } }
      features(view: "pumps", keys: [{entity_id: "p1"}, {entity_id: "p2"}], asOf: $asOf) { entity values status timestamp asOf lagSeconds }
    }"""
    moment = (then + timedelta(minutes=1)).isoformat()
    async with httpx.AsyncClient(base_url=f"http://{address}", headers={"authorization": "Bearer key-of-acme"}) as client:
        answer = (await client.post("/graphql", json={"query": query, "variables": {"asOf": moment}})).json()
    assert "errors" not in answer, answer
    assert [view["name"] for view in answer["data"]["featureViews"]] == ["pumps", "shared"]
    assert answer["data"]["featureViews"][0]["features"] == [{"name": n, "type": "double precision"} for n in ("x", "y")]
    first, second = answer["data"]["features"]
    assert (first["values"], first["status"]) == ({"x": 1.0, "y": 0.0}, "PRESENT")
    assert first["entity"] == {"entity_id": "p1", "tenant_id": "acme"}
    assert (second["values"], second["status"], second["timestamp"]) == ({"x": None, "y": None}, "MISSING", None)
    assert clock.now() > then
