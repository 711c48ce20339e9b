"""Shadows answer aside: all of them when there is time, none in the way, each row counted once."""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import md5
from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.udfs.shadow_parts import FileSink, FolderSource
from udfs.client import UdfClient
from udfs.predict import predict
from udfs.server import build_server
from udfs.shadows import ShadowLane, ShadowPlan, wait_for_a_gap

ROWS = [[float(i), 1.0, -1.0] for i in range(20)]
KEYS = pa.array([f"k{i}" for i in range(20)])
FEATURES = pa.array(ROWS, pa.list_(pa.float64()))


@pytest.fixture
def place(tmp_path: Path, artifacts) -> Path:
    for (name, version), artifact in artifacts.stored.items():
        (tmp_path / f"{name}@{version}.onnx").write_bytes(artifact)
    return tmp_path


@pytest.fixture
def make_lane(place: Path) -> Iterator[Callable[..., ShadowLane]]:
    lanes: list[ShadowLane] = []

    def make(**more: int) -> ShadowLane:
        lanes.append(ShadowLane(ShadowPlan(partial(FolderSource, place), partial(FileSink, place)), **more))
        return lanes[-1]

    yield make
    (place / "hold").unlink(missing_ok=True)
    for lane in lanes:
        lane.close()


def answers(place: Path) -> list[dict]:
    return [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]


def test_a_shadow_says_aside_what_it_would_have_said_in_the_row(place, make_lane, make_route, sessions) -> None:
    route = make_route(("sick", 1, "champion", 1.0), ("sick", 2, "shadow", 0.0))
    with_served = make_route(("sick", 2, "champion", 1.0))
    lane = make_lane()
    lane.offer(route, KEYS, FEATURES)
    assert lane.wait_until_done(60)
    assert lane.counts() == {"offered": 20, "answered": 20, "shed": 0, "waiting": 0}
    expected = predict(pa.array([with_served] * 20), KEYS, FEATURES, sessions).to_pylist()
    told = answers(place)
    assert [(each["key"], each["features"], each["member"]["value"]) for each in told] == [
        (f"k{i}", ROWS[i], expected[i]["members"][0]["value"]) for i in range(20)
    ]
    assert {(each["model"], each["version"], each["member"]["role"], each["member"]["weight"]) for each in told} == {
        ("sick", 2, "shadow", 0.0)
    }
    assert {each["route_md5"] for each in told} == {md5(route.encode(), usedforsecurity=False).hexdigest()}


def test_when_it_cannot_keep_up_rows_are_shed_counted_and_nobody_waits(place, make_lane, make_route) -> None:
    (place / "hold").touch()
    route = make_route(("sick", 1, "champion", 1.0), ("sick", 2, "shadow", 0.0))
    lane = make_lane(capacity_rows=50)
    begun = time.perf_counter()
    lane.offer(route, KEYS, FEATURES)
    lane.offer(route, KEYS, FEATURES)
    for _ in range(998):
        lane.offer(route, KEYS, FEATURES)
    took = time.perf_counter() - begun
    counts = lane.counts()
    assert (counts["offered"], counts["shed"], counts["waiting"]) == (20_000, 20_000 - 40, 40)
    assert took < 2.0, "an offer waits for nothing"
    (place / "hold").unlink()
    assert lane.wait_until_done(60)
    lane.offer(route, KEYS, FEATURES)
    assert lane.wait_until_done(60)
    assert lane.counts() == {"offered": 20_020, "answered": 60, "shed": 19_960, "waiting": 0}


def test_a_process_that_dies_costs_what_waited_and_comes_back(place, make_lane, make_route) -> None:
    (place / "die").touch()
    route = make_route(("sick", 1, "champion", 1.0), ("sick", 2, "shadow", 0.0))
    lane = make_lane()
    lane.offer(route, KEYS, FEATURES)
    assert lane.wait_until_done(60)
    assert lane.counts() == {"offered": 20, "answered": 0, "shed": 20, "waiting": 0}
    lane.offer(route, KEYS, FEATURES)
    assert lane.wait_until_done(60)
    assert lane.counts()["answered"] == 20


def test_only_rows_of_routes_with_a_shadow_are_handed_over_and_a_shadow_that_fails_says_so(
    place, make_lane, make_route
) -> None:
    lane = make_lane()
    shadowed = make_route(("sick", 1, "champion", 1.0), ("nowhere", 1, "shadow", 0.0), ("sick", 2, "shadow", 0.0), sick=0.0)
    plain = make_route(("sick", 1, "champion", 1.0))
    server = build_server(FolderSource(place), port=0, shadows=lane)
    try:
        with UdfClient(f"http://127.0.0.1:{server.port}") as client:
            routes = [shadowed if i % 2 else plain for i in range(20)]
            served = client.predict(list(routes), KEYS.to_pylist(), list(ROWS))
            assert lane.wait_until_done(60)
            health = client.health()
    finally:
        server.drain_and_stop(1.0)
    assert served.field("error").null_count == 20
    assert health["shadows"] == {"offered": 10, "answered": 10, "shed": 0, "waiting": 0}
    assert health["latency"]["sick@1"]["calls"] == 1
    told = answers(place)
    assert [each["key"] for each in told] == [f"k{i}" for i in range(1, 20, 2)]
    assert {each["member"]["error"]["code"] for each in told} == {"model_not_found"}


def test_the_row_does_not_depend_on_whether_shadows_are_asked(place, make_lane, make_route) -> None:
    route = make_route(("sick", 1, "champion", 1.0), ("sick", 2, "shadow", 0.0))
    found = []
    for lane in (None, make_lane()):
        server = build_server(FolderSource(place), port=0, shadows=lane)
        try:
            with UdfClient(f"http://127.0.0.1:{server.port}") as client:
                found.append(client.predict([route] * 20, KEYS.to_pylist(), list(ROWS)).to_pylist())
        finally:
            server.drain_and_stop(1.0)
    assert found[0] == found[1]


def test_who_waits_for_a_gap_goes_on_when_the_last_call_is_answered() -> None:
    calls = ctypes.c_int(2)
    waiting = threading.Thread(target=wait_for_a_gap, args=(calls, 60.0), daemon=True)
    waiting.start()
    calls.value = 1
    waiting.join(0.05)
    assert waiting.is_alive()
    calls.value = 0
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_server_that_never_rests_does_not_starve_its_shadows(place, make_lane, make_route) -> None:
    lane = make_lane()
    lane.calls_under_way.value = 1
    lane.offer(make_route(("sick", 1, "champion", 1.0), ("sick", 2, "shadow", 0.0)), KEYS, FEATURES)
    assert lane.wait_until_done(60)
    assert lane.counts()["answered"] == 20


def test_the_calls_under_way_are_known_while_they_are_answered(place, make_lane, make_route) -> None:
    lane = make_lane()
    seen = []

    class Watched(FolderSource):
        def load_artifact(self, name: str, version: int) -> bytes:
            seen.append(lane.calls_under_way.value)
            return super().load_artifact(name, version)

    server = build_server(Watched(place), port=0, shadows=lane)
    try:
        with UdfClient(f"http://127.0.0.1:{server.port}") as client:
            client.predict([make_route(("sick", 1, "champion", 1.0))] * 20, KEYS.to_pylist(), list(ROWS))
    finally:
        server.drain_and_stop(1.0)
    assert seen == [1]
    assert lane.calls_under_way.value == 0
