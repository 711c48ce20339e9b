"""Stages over GraphQL, with the real command behind them: `headrace models` in a process of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from api.app import build_app
from core.fakes import ManualClock
from core.settings import Settings
from headrace.model_commands import ModelCommands
from iceberg.registry import open_registry
from learning.tabular import TabularData, train_tabular
from learning.train import register
from tests.unit.api.doubles import NOWHERE, ScriptedFeed, connected

PROMOTE = """mutation ($version: Int!, $to: Stage!) { promoteModel(name: "churn", version: $version, to: $to) {
    granted fromStage toStage replaced checks { check ok reason inputs } delivery { step state } } }"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("stages")
    (folder / "policy.yaml").write_text(
        "stages:\n  production:\n    unguarded: true\n    exclusive: true\n    aliases: [champion]\n", encoding="utf-8"
    )
    settings = Settings.model_validate(
        {
            "data_dir": folder,
            "kafka": NOWHERE,
            "database_url": f"postgresql://root@{NOWHERE}/dev",
            "udf_url": f"http://{NOWHERE}",
            "api_keys": {"acme": "key-of-acme"},
            "registry": {"policy": folder / "policy.yaml"},
        }
    )
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 2)).astype(np.float32)
    data = TabularData(features, (features.sum(axis=1) > 0).astype(np.int64), ("0", "1"), ("a", "b"), "cafe")
    for seed in (1, 2):
        model = train_tabular(data, name="churn", source="test", clock=ManualClock(), seed=seed, trees=5, depth=3)
        register(open_registry(settings), [model])  # type: ignore[arg-type]
    return settings


@pytest.fixture
async def client(place: Settings, clock: ManualClock, feed: ScriptedFeed) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app(
        place, clock=clock, prediction_feed=feed, anomaly_feed=ScriptedFeed(), model_lifecycle=ModelCommands(place, os.environ)
    )
    async with connected(app) as connection:
        yield connection


async def ask(client: httpx.AsyncClient, query: str, headers: dict[str, str] | None = None, **variables: Any) -> dict[str, Any]:
    answer = await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers or {}, timeout=120)
    told: dict[str, Any] = answer.json()
    return told


async def test_stages_are_promoted_compared_and_rolled_back(client: httpx.AsyncClient) -> None:
    refused = (await ask(client, PROMOTE, version=1, to="STAGING"))["data"]["promoteModel"]
    assert refused["fromStage"] == "none"
    assert {each["check"] for each in refused["checks"]} == {
        "from_stage", "performance_threshold", "inference_time", "integration_test",
    }  # fmt: skip
    assert all(each["inputs"] for each in refused["checks"] if each["check"] != "from_stage")
    for version, replaced in ((1, []), (2, [1])):
        promoted = (await ask(client, PROMOTE, version=version, to="PRODUCTION"))["data"]["promoteModel"]
        assert (promoted["granted"], promoted["replaced"]) == (True, replaced)
    told = await ask(client, '{ models(name: "churn", stage: PRODUCTION) { version stage } }')
    assert told["data"]["models"] == [{"version": 2, "stage": "production"}]
    past = {"at": "2020-01-01T00:00:00Z"}
    assert (await ask(client, "query ($at: DateTime) { models(asOf: $at) { version } }", **past))["data"]["models"] == []
    compared = (await ask(client, '{ compareModels(name: "churn", a: 1, b: 2) { verdict signatureCompatible replay } }'))[
        "data"
    ]
    assert compared["compareModels"]["signatureCompatible"] is True
    assert compared["compareModels"]["replay"]["source"].startswith("sealed")
    back = (await ask(client, 'mutation { rollbackModel(name: "churn") { granted version replaced toStage } }'))["data"]
    assert back["rollbackModel"] == {"granted": True, "version": 1, "replaced": [2], "toStage": "production"}


async def test_errors_of_the_command_are_errors_of_the_api(client: httpx.AsyncClient) -> None:
    told = await ask(client, PROMOTE, version=99, to="STAGING")
    assert "`churn@99` is not registered" in told["errors"][0]["message"]
    option = await ask(client, 'mutation { rollbackModel(name: "--help") { version } }')
    assert "no model's name" in option["errors"][0]["message"]


async def test_only_an_admin_decides(client: httpx.AsyncClient) -> None:
    told = await ask(client, PROMOTE, {"authorization": "Bearer key-of-acme"}, version=1, to="PRODUCTION")
    assert "admin" in told["errors"][0]["message"]


async def test_an_api_without_the_command_says_so(place: Settings, clock: ManualClock, feed: ScriptedFeed) -> None:
    app = build_app(place, clock=clock, prediction_feed=feed, anomaly_feed=ScriptedFeed())
    async with connected(app) as connection:
        told = await ask(connection, PROMOTE, version=1, to="STAGING")
    assert "decides nothing about models" in told["errors"][0]["message"]
