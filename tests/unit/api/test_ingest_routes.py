"""Rows over REST: verdicts, quarantine, tenants, and who may call."""

from __future__ import annotations

import base64
import hashlib
import json

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.ingest.routes import MAX_BINARY_BYTES, MAX_BODY_BYTES
from tests.unit.api.doubles import PLANT_COLUMNS, ListLog, ScriptedReads, connected

GOOD = {"entity_id": "pump-1", "event_time": "2026-01-31T08:30:00Z", "vibration": 0.5}
ACME = {"authorization": "Bearer key-of-acme"}


async def test_good_rows_are_taken_and_bad_rows_are_named_and_kept(client: httpx.AsyncClient, log: ListLog) -> None:
    bad_type = GOOD | {"vibration": "high"}
    no_entity = {key: value for key, value in GOOD.items() if key != "entity_id"}
    answer = await client.post("/v1/ingest/plant", json=[GOOD, bad_type, no_entity, GOOD | {"readings": 3}])
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    assert [(row["row"], row["code"]) for row in answer.json()["rejected"]] == [(1, "wrong_type"), (2, "missing_key")]
    events = [json.loads(record.value) for record in log.topics["events.plant"]]
    assert events == [{"tenant_id": "default", **GOOD}, {"tenant_id": "default", **GOOD, "readings": 3}]
    kept = [json.loads(record.value) for record in log.topics["quarantine.plant"]]
    assert [(row["row"], row["code"], row["tenant_id"]) for row in kept] == [
        (1, "wrong_type", "default"),
        (2, "missing_key", "default"),
    ]
    assert [json.loads(base64.b64decode(row["payload"])) for row in kept] == [bad_type, no_entity]


async def test_a_request_of_bad_rows_only_is_422(client: httpx.AsyncClient, log: ListLog) -> None:
    answer = await client.post("/v1/ingest/plant", content=b"{broken")
    assert answer.status_code == 422
    assert answer.json()["rejected"][0]["code"] == "malformed_json"
    assert base64.b64decode(json.loads(log.topics["quarantine.plant"][0].value)["payload"]) == b"{broken"
    assert "events.plant" not in log.topics


async def test_nothing_is_said_to_be_accepted_when_the_broker_does_not_acknowledge(
    client: httpx.AsyncClient, log: ListLog
) -> None:
    log.away = True
    answer = await client.post("/v1/ingest/plant", json=GOOD)
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"
    assert "accepted" not in answer.json()
    assert answer.headers["retry-after"]


async def test_the_tenant_is_the_callers_and_a_row_cannot_say_otherwise(client: httpx.AsyncClient, log: ListLog) -> None:
    rows = [GOOD, GOOD | {"tenant_id": "acme"}, GOOD | {"tenant_id": "globex"}, GOOD | {"tenant_id": None}]
    answer = await client.post("/v1/ingest/plant", json=rows, headers=ACME)
    assert [(row["row"], row["code"]) for row in answer.json()["rejected"]] == [(2, "tenant_mismatch"), (3, "missing_key")]
    assert {json.loads(record.value)["tenant_id"] for record in log.topics["events.plant"]} == {"acme"}


async def test_a_tenant_hidden_behind_an_escaped_second_key_is_refused(client: httpx.AsyncClient, log: ListLog) -> None:
    body = json.dumps(GOOD)[:-1] + ', "tenant_id": "acme", "tenant\\u005fid": "globex"}'
    answer = await client.post("/v1/ingest/plant", content=body, headers=ACME)
    assert answer.json()["rejected"][0]["code"] == "duplicate_key"
    assert "events.plant" not in log.topics


async def test_raw_bytes_become_a_content_addressed_event(
    client: httpx.AsyncClient, log: ListLog, reads: ScriptedReads
) -> None:
    envelope = [{"Name": "tenant_id", "Type": "varchar"}, {"Name": "entity_id", "Type": "varchar"}]
    envelope += [{"Name": "event_time", "Type": "timestamptz"}]
    reads.answers['SHOW COLUMNS FROM "vision_events"'] = [*envelope, {"Name": "payload", "Type": "character varying"}]
    reads.answers['SHOW COLUMNS FROM "wave_events"'] = [*envelope, {"Name": "payload", "Type": "bytea"}]
    image = bytes(range(64))
    for stream in ("vision", "wave"):
        answer = await client.post(
            f"/v1/ingest/{stream}",
            params={"entity_id": "camera-1", "event_time": "2026-01-31T08:30:00Z"},
            content=image,
            headers={"content-type": "application/octet-stream"},
        )
        assert answer.status_code == 202, answer.text
    vision, wave = (json.loads(log.topics[f"events.{stream}"][0].value) for stream in ("vision", "wave"))
    assert base64.b64decode(vision["payload"]) == image
    assert wave["payload"] == "\\x" + image.hex()
    assert vision["sha256"] == hashlib.sha256(image).hexdigest()
    assert vision["event_time"] == "2026-01-31T08:30:00Z"
    no_entity = await client.post("/v1/ingest/vision", content=image, headers={"content-type": "application/octet-stream"})
    assert no_entity.json()["rejected"][0]["code"] == "missing_key"


async def test_bodies_beyond_the_cap_are_refused(client: httpx.AsyncClient) -> None:
    too_long = await client.post("/v1/ingest/plant", content=b" " * (MAX_BODY_BYTES + 1))
    binary = await client.post(
        "/v1/ingest/plant", content=b"x" * (MAX_BINARY_BYTES + 1), headers={"content-type": "application/octet-stream"}
    )
    assert (too_long.status_code, binary.status_code) == (413, 413)


async def test_a_stream_that_does_not_exist_is_404_with_a_remedy(client: httpx.AsyncClient) -> None:
    unknown = await client.post("/v1/ingest/nothing", json=GOOD)
    malformed = await client.post("/v1/ingest/Not%20a%20name", json=GOOD)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert "events.nothing" in unknown.json()["fix"]
    assert malformed.status_code == 400


async def test_a_stream_under_another_name_is_found_by_its_topic(client: httpx.AsyncClient, reads: ScriptedReads) -> None:
    reads.answers["SHOW SOURCES"] = [{"Name": "plant_events"}, {"Name": "turbines"}]
    reads.answers['SHOW CREATE SOURCE "turbines"'] = [
        {"Name": "turbines", "Create Sql": "CREATE SOURCE turbines WITH (connector = 'kafka', topic = 'events.wind')"}
    ]
    reads.answers['SHOW COLUMNS FROM "turbines"'] = reads.answers['SHOW COLUMNS FROM "plant_events"']
    assert (await client.post("/v1/ingest/wind", json=GOOD)).status_code == 202


async def test_while_the_stream_database_is_away_the_envelope_is_checked(
    client: httpx.AsyncClient, reads: ScriptedReads
) -> None:
    reads.away = True
    answer = await client.post("/v1/ingest/plant", json=[GOOD | {"vibration": "high"}, GOOD | {"event_time": "soon"}])
    assert answer.json()["validated"] is False
    assert (answer.json()["accepted"], [row["row"] for row in answer.json()["rejected"]]) == (1, [1])


async def test_labels_go_to_the_feedback_topic(client: httpx.AsyncClient, log: ListLog) -> None:
    rows = [
        {"prediction_id": "p1", "label": "worn", "labelled_at": "2026-01-31T08:30:00Z", "source": "person"},
        {"prediction_id": "p2", "label": 7},
        {"prediction_id": "p3"},
        {"prediction_id": "p4", "label": "ok", "labelled_at": "yesterday"},
        {"prediction_id": "p5", "label": "ok", "tenant_id": "globex"},
    ]
    answer = await client.post("/v1/feedback", json=rows)
    assert answer.json()["accepted"] == 2
    assert [row["code"] for row in answer.json()["rejected"]] == ["missing_key", "wrong_type", "tenant_mismatch"]
    assert [json.loads(record.value) for record in log.topics["feedback"]] == [
        {"tenant_id": "default", "prediction_id": "p1", "label": "worn", "labelled_at": "2026-01-31T08:30:00Z", "source": "person"},
        {"tenant_id": "default", "prediction_id": "p2", "label": "7", "labelled_at": "2026-01-01T00:00:00+00:00", "source": "api"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic a2V5"}, 401),
        ({"host": "attacker.example"}, 403),
        ({"host": "127.0.0.1.attacker.example"}, 403),
        ({"host": "localhost:8000"}, 202),
        ({"host": "[::1]:8000"}, 202),
        ({"origin": "http://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 202),
        ({"origin": "http://localhost:3000"}, 202),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"x-headrace-tenant": "globex"}, 202),
        ({"x-headrace-tenant": "globex", **ACME}, 403),
    ],
)
async def test_who_may_call(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    answer = await client.post("/v1/ingest/plant", json=GOOD, headers=headers)
    assert answer.status_code == status, answer.text


async def test_without_credentials_only_loopback_callers_are_known(ingest_app: FastAPI) -> None:
    async with connected(ingest_app, address="192.0.2.7") as stranger:
        assert (await stranger.post("/v1/ingest/plant", json=GOOD)).status_code == 401
        assert (await stranger.post("/v1/ingest/plant", json=GOOD, headers=ACME)).status_code == 202


# Also what JSON can say and UTF-8 cannot: halves of surrogate pairs.
texts = st.text(st.characters(categories=["L", "N", "P", "Z", "Cs", "Cc"]), max_size=8)
cells = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.lists(st.integers(), max_size=2)
names = st.sampled_from(
    ["tenant_id", "entity_id", "event_time", "vibration", "readings", "day", "prediction_id", "label", "source"]
)
rows_of_anything = st.lists(st.dictionaries(names | texts, cells, max_size=8), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    body=st.binary(max_size=60) | rows_of_anything.map(lambda rows: json.dumps(rows).encode()),
    content_type=st.sampled_from(["application/json", "application/x-ndjson", "application/octet-stream", "text/plain"]),
    path=st.sampled_from(["/v1/ingest/plant", "/v1/feedback"]),
    params=st.dictionaries(st.sampled_from(["entity_id", "event_time"]), st.text(max_size=5)),
)
async def test_no_body_makes_the_server_fail_and_every_row_gets_its_verdict(
    client: httpx.AsyncClient,
    log: ListLog,
    reads: ScriptedReads,
    body: bytes,
    content_type: str,
    path: str,
    params: dict[str, str],
) -> None:
    reads.answers['SHOW COLUMNS FROM "plant_events"'] = [*PLANT_COLUMNS, {"Name": "day", "Type": "date"}]
    log.topics.clear()
    answer = await client.post(path, content=body, params=params, headers={"content-type": content_type})
    assert answer.status_code in (202, 422), answer.text
    found = answer.json()
    assert (answer.status_code == 422) == (found["accepted"] == 0 and bool(found["rejected"]))
    kept = [record for topic, records in log.topics.items() if topic.startswith("quarantine.") for record in records]
    taken = [record for topic, records in log.topics.items() if not topic.startswith("quarantine.") for record in records]
    assert (len(taken), len(kept)) == (found["accepted"], len(found["rejected"]))
    assert all(json.loads(record.value)["tenant_id"] == "default" for record in taken)


async def test_what_utf8_cannot_say_is_refused_and_told(client: httpx.AsyncClient, reads: ScriptedReads) -> None:
    reads.answers['SHOW COLUMNS FROM "plant_events"'] = [*PLANT_COLUMNS, {"Name": "day", "Type": "date"}]
    half = "\\ud800"
    label = f'{{"prediction_id": "p", "label": "ok", "{half}": 1}}'
    day = json.dumps(GOOD)[:-1] + f', "day": "{half}"}}'
    entity = json.dumps(GOOD).replace("pump-1", half)
    codes = []
    for path, body in (("/v1/feedback", label), ("/v1/ingest/plant", day), ("/v1/ingest/plant", entity)):
        answer = await client.post(path, content=body)
        codes.append((answer.status_code, answer.json()["rejected"][0]["code"]))
    assert codes == [(422, "unknown_key"), (422, "wrong_type"), (422, "wrong_type")]
