"""`POST /predict` around the real UDF server: answers, records, bad rows, who serves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from api.fast_paths import FastPaths
from api.http import problems
from api.inference.active_routes import FRESH_SECONDS, STALE_SECONDS, WAIT_SECONDS, ActiveRoutes
from api.inference.lineage import Lineage
from api.inference.routes import build_router
from api.inference.rows import MAX_ROWS
from api.inference.service import Inference
from api.reading.lake import Lake
from api.v2.models import Models
from api.v2.service import V2
from core.fakes import ManualClock
from core.settings import Settings
from iceberg.registry import Registry
from tests.unit.api.doubles import NOWHERE, ListLog, ScriptedReads, authenticator_of, connected
from udfs.server import UdfFlightServer, build_server
from udfs.sessions import ModelSessions

READ = "SELECT route_epoch, route::varchar AS route FROM active_routes WHERE tenant_id = %s AND endpoint = %s"
ACME = {"authorization": "Bearer key-of-acme"}


def route_of(*members: tuple[str, int, float], strategy: str = "ensemble_mean") -> str:
    listed = [{"model": m, "version": v, "role": "champion", "weight": w, "fraction": None} for m, v, w in members]
    return json.dumps({"strategy": strategy, "members": listed})


@dataclass
class RouteReads(ScriptedReads):
    """Answers for `active_routes` by tenant and endpoint."""

    routes: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    hangs: asyncio.Event | None = None

    def __post_init__(self) -> None:
        super().__init__()

    async def fetch(
        self, statement: Any, parameters: Any = (), *, timeout_seconds: float | None = None
    ) -> list[dict[str, Any]]:
        if statement != READ:
            return await super().fetch(statement, parameters, timeout_seconds=timeout_seconds)
        if self.hangs is not None:
            await self.hangs.wait()
        self.answers[READ] = []
        await super().fetch(statement, parameters)
        found = self.routes.get(tuple(parameters))
        return [{"route_epoch": found[0], "route": found[1]}] if found else []


@dataclass
class Api:
    """The route over a real UDF server and registry, with doubles of log and stream database."""

    app: FastAPI
    inference: Inference
    log: ListLog
    reads: RouteReads
    clock: ManualClock

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(record.value) for record in self.log.topics.get("predictions.online", [])]


def build(settings: Settings, udf_url: str, *, patience_seconds: float = 5.0, fast: bool = True) -> Api:
    clock, log, reads = ManualClock(), ListLog(), RouteReads()
    reads.routes["default", "default"] = (3, route_of(("default", 1, 1.0)))
    lineage = Lineage(Lake(settings), clock)
    inference = Inference(ActiveRoutes(reads, clock), udf_url, lineage, log, clock, patience_seconds=patience_seconds)
    app = FastAPI()
    problems.install(app)
    app.include_router(build_router(inference, authenticator_of(settings)))
    if fast:
        v2 = V2(Models(Lake(settings), clock), udf_url)
        app.add_middleware(FastPaths, inference=inference, v2=v2, authenticator=authenticator_of(settings))
    return Api(app, inference, log, reads, clock)


@pytest.fixture
def routed(lake_settings: Settings, udf_server: UdfFlightServer) -> Iterator[Api]:
    """Without the fast paths: FastAPI's own route."""
    built = build(lake_settings, f"http://127.0.0.1:{udf_server.port}", fast=False)
    yield built
    built.inference.close()


@pytest.fixture
def api(lake_settings: Settings, udf_server: UdfFlightServer) -> Iterator[Api]:
    built = build(lake_settings, f"http://127.0.0.1:{udf_server.port}")
    yield built
    built.inference.close()


@pytest.fixture
async def caller(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(api.app) as client:
        yield client


async def test_the_promised_line_is_answered_and_every_row_is_acknowledged(
    api: Api, caller: httpx.AsyncClient, registry: Registry
) -> None:
    rows = [[1.0, 2.0, 3.0], [-4.0, -5.0, 6.0]]
    answer = await caller.post("/predict", json={"features": rows})
    assert answer.status_code == 200
    told = answer.json()
    session = ModelSessions(registry)
    from udfs.route import ModelKey

    model = session.get(ModelKey("default", 1))
    wanted = model.probabilities(np.array(rows, np.float32))  # type: ignore[union-attr]
    assert told["predictions"] == ["1", "0"]
    assert told["probabilities"] == wanted[:, 1].astype(float).tolist()
    assert (told["model_name"], told["model_version"], told["endpoint"], told["errors"]) == ("default", "1", "default", [])
    assert len(set(told["prediction_ids"])) == 2
    sealed = registry.must_get("default", 1)
    (model_told,) = told["lineage"]["models"]
    assert told["lineage"]["route_epoch"] == 3
    assert model_told["artifact_sha256"] == sealed.artifact_sha256
    assert model_told["training_data"]["sha256"] == "cafe"
    kept = api.records()
    assert [each["prediction_id"] for each in kept] == told["prediction_ids"]
    assert [each["features"] for each in kept] == rows
    assert [(each["label"], each["score"], each["members"]) for each in kept] == list(
        zip(told["predictions"], told["probabilities"], told["members"], strict=True)
    )
    assert {(each["tenant_id"], each["endpoint"], each["route_epoch"], each["error"]) for each in kept} == {
        ("default", "default", 3, None)
    }


async def test_before_training_the_answer_is_503_no_active_model(api: Api, caller: httpx.AsyncClient) -> None:
    api.reads.routes.clear()
    answer = await caller.post("/predict", json={"features": [[1.0, 2.0, 3.0]]})
    assert (answer.status_code, answer.json()["code"]) == (503, "no_active_model")
    assert not api.log.topics
    api.reads.routes["default", "default"] = (1, route_of(("default", 1, 1.0)))
    assert (await caller.post("/predict", json={"features": [[1.0, 2.0, 3.0]]})).status_code == 200


BAD_ROWS = {
    "NaN": ([float("nan"), 1.0, 2.0], "non_finite_feature"),
    "infinity": ([1e999, 1.0, 2.0], "non_finite_feature"),
    "beyond a double": ([10**400, 1.0, 2.0], "non_finite_feature"),
    "beyond a float": ([1e300, 1.0, 2.0], "non_finite_feature"),
    "too short": ([1.0, 2.0], "wrong_length"),
    "too long": ([1.0, 2.0, 3.0, 4.0], "wrong_length"),
    "empty": ([], "wrong_length"),
    "NULL": (None, "null_features"),
    "NULL inside": ([None, 1.0, 2.0], "null_feature"),
    "a string": ("nonsense", "wrong_type"),
    "a string inside": ([1.0, "2.0", 3.0], "wrong_type"),
    "an object": ({"a": 1}, "wrong_type"),
    "nested": ([[1.0], 2.0, 3.0], "wrong_type"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
async def test_one_bad_row_in_ten_thousand_leaves_all_others_as_they_are_without_it(
    api: Api, caller: httpx.AsyncClient, kind: str
) -> None:
    rows: list[Any] = np.random.default_rng(11).normal(size=(MAX_ROWS, 3)).tolist()
    bad, code = BAD_ROWS[kind]
    without = (await caller.post("/predict", content=json.dumps({"features": rows}))).json()
    at = 6_123
    answer = await caller.post("/predict", content=json.dumps({"features": [*rows[:at], bad, *rows[at + 1 :]]}))
    assert answer.status_code == 200
    told = answer.json()
    assert [(each["row"], each["code"]) for each in told["errors"]] == [(at, code)]
    for name in ("predictions", "probabilities", "members"):
        assert told[name].pop(at) is None or name == "members"
        without[name].pop(at)
        assert told[name] == without[name]
    kept = api.records()
    assert len(kept) == 2 * MAX_ROWS
    refused = [each for each in kept if each["error"] is not None]
    assert [(each["prediction_id"], each["error"]["code"]) for each in refused] == [(told["prediction_ids"][at], code)]


async def test_rows_that_are_all_bad_are_422_and_say_why(api: Api, caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/predict", json={"features": [[1.0], "x"]})
    assert answer.status_code == 422
    assert [each["code"] for each in answer.json()["errors"]] == ["wrong_length", "wrong_type"]


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{", '{"features": 3}', '{"features": []}', '{"features": [[1]], "keys": ["a", "b"]}', '{"features": [[1]], "x": 1}',
     '{"features": [[1]], "endpoint": 3}', "[" * 100_000],
)  # fmt: skip
async def test_a_body_that_is_no_request_is_400(api: Api, caller: httpx.AsyncClient, body: str) -> None:
    answer = await caller.post("/predict", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert not api.log.topics


async def test_more_rows_than_allowed_are_413(caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/predict", json={"features": [[1.0]] * (MAX_ROWS + 1)})
    assert answer.status_code == 413


async def test_nothing_is_promised_that_the_broker_did_not_acknowledge(api: Api, caller: httpx.AsyncClient) -> None:
    api.log.away = True
    answer = await caller.post("/predict", json={"features": [[1.0, 2.0, 3.0]]})
    assert answer.status_code == 503
    assert "predictions" not in answer.json()


async def test_the_tenant_is_the_callers_and_sees_only_its_own_routes(api: Api, caller: httpx.AsyncClient) -> None:
    body = {"features": [[1.0, 2.0, 3.0]], "keys": ["globex/secret"]}
    assert (await caller.post("/predict", json=body, headers=ACME)).status_code == 503
    api.reads.routes["acme", "default"] = (9, route_of(("other", 1, 1.0)))
    answer = await caller.post("/predict", json=body, headers=ACME)
    assert answer.json()["lineage"]["route_epoch"] == 9
    assert {each["tenant_id"] for each in api.records()} == {"acme"}
    assert all(parameters[0] == "acme" for text, parameters in api.reads.asked if text == READ)
    assert (await caller.post("/predict", json=body, headers={"authorization": "Bearer wrong"})).status_code == 401


async def test_an_ensemble_names_each_member_and_what_each_rests_on(api: Api, caller: httpx.AsyncClient) -> None:
    api.reads.routes["default", "both"] = (4, route_of(("default", 1, 3.0), ("other", 1, 1.0)))
    told = (await caller.post("/predict", json={"features": [[1.0, 2.0, 3.0]], "endpoint": "both"})).json()
    assert told["model_name"] is None
    assert [(each["model"], each["weight"]) for each in told["members"][0]] == [("default", 0.75), ("other", 0.25)]
    assert [each["name"] for each in told["lineage"]["models"]] == ["default", "other"]
    assert told["lineage"]["models"][1]["code_hash"] == "c0de"


async def test_a_new_epoch_serves_soon_and_a_database_that_is_away_stops_nothing(api: Api, caller: httpx.AsyncClient) -> None:
    body = {"features": [[1.0, 2.0, 3.0]]}

    async def epoch() -> int:
        return (await caller.post("/predict", json=body)).json()["lineage"]["route_epoch"]  # type: ignore[no-any-return]

    assert await epoch() == 3
    api.reads.routes["default", "default"] = (4, route_of(("other", 1, 1.0)))
    assert await epoch() == 3, "a fresh route is not asked for again"
    api.clock.advance(timedelta(seconds=FRESH_SECONDS))
    await epoch()
    assert await epoch() == 4
    api.reads.routes["default", "default"] = (5, route_of(("default", 1, 1.0)))
    api.clock.advance(timedelta(hours=1))
    assert await epoch() == 5, "after a long silence the first answer is not by an old route"
    api.reads.away = True
    for age_seconds in (FRESH_SECONDS, 3600.0, 0.0):
        api.clock.advance(timedelta(seconds=age_seconds))
        assert await epoch() == 5


async def test_a_database_that_hangs_costs_one_short_wait_and_no_more(api: Api, caller: httpx.AsyncClient) -> None:
    body = {"features": [[1.0, 2.0, 3.0]]}
    assert (await caller.post("/predict", json=body)).status_code == 200
    api.reads.hangs = asyncio.Event()
    api.clock.advance(timedelta(seconds=STALE_SECONDS))
    assert (await caller.post("/predict", json=body)).json()["lineage"]["route_epoch"] == 3
    async with asyncio.timeout(WAIT_SECONDS / 2):
        api.clock.advance(timedelta(seconds=STALE_SECONDS))
        assert (await caller.post("/predict", json=body)).json()["lineage"]["route_epoch"] == 3
    api.reads.routes["default", "default"] = (4, route_of(("default", 1, 1.0)))
    api.reads.hangs.set()

    async def epoch() -> int:
        return (await caller.post("/predict", json=body)).json()["lineage"]["route_epoch"]  # type: ignore[no-any-return]

    async with asyncio.timeout(5):
        while await epoch() != 4:
            pass


async def test_calls_at_the_same_time_share_batches_and_get_their_own_answers(api: Api, caller: httpx.AsyncClient) -> None:
    rows = np.random.default_rng(2).normal(size=(200, 3)).tolist()
    alone = (await caller.post("/predict", json={"features": rows})).json()
    before = api.inference.calls
    answers = await asyncio.gather(*(caller.post("/predict", json={"features": [row]}) for row in rows))
    assert [answer.json()["probabilities"][0] for answer in answers] == alone["probabilities"]
    assert api.inference.calls - before < len(rows) / 2


async def test_a_udf_server_that_comes_back_is_waited_for_and_one_that_does_not_is_503(
    lake_settings: Settings, registry: Registry
) -> None:
    first = build_server(registry, port=0)
    port = first.port
    api = build(lake_settings, f"http://127.0.0.1:{port}")
    async with connected(api.app) as client:
        body = {"features": [[1.0, 2.0, 3.0]]}
        assert (await client.post("/predict", json=body)).status_code == 200
        first.drain_and_stop(1.0)
        again: list[UdfFlightServer] = []
        timer = threading.Timer(0.5, lambda: again.append(build_server(registry, port=port)))
        timer.start()
        assert (await client.post("/predict", json=body)).status_code == 200
        timer.join()
        again[0].drain_and_stop(1.0)
    api.inference.close()
    away = build(lake_settings, f"http://{NOWHERE}", patience_seconds=0.2)
    async with connected(away.app) as client:
        answer = await client.post("/predict", json=body)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    away.inference.close()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ('{"features": [[1.0, 2.0, 3.0], [1.0]]}', {}),
        ('{"features": [[1.0]]}', {}),
        ('{"features": 3}', {}),
        ('{"features": [[1.0, 2.0, 3.0]], "endpoint": "absent"}', {}),
        ('{"features": [[1.0, 2.0, 3.0]]}', {"authorization": "Bearer wrong"}),
        ('{"features": [[1.0, 2.0, 3.0]]}', {"content-length": "999999999"}),
    ],
)
async def test_the_fast_path_and_the_documented_route_answer_alike(
    api: Api, routed: Api, body: str, headers: dict[str, str]
) -> None:
    answers = []
    for each in (api, routed):
        async with connected(each.app) as client:
            answer = await client.post("/predict", content=body, headers=headers)
        told = {name: value for name, value in answer.json().items() if name not in ("prediction_ids", "latency_ms")}
        answers.append((answer.status_code, answer.headers["content-type"], told))
    assert answers[0] == answers[1]
