"""`predict` through the engine: one bad row stays alone, and a killed UDF server costs time and nothing else."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pipelines import folder
from tests.chaos.engine.processes import Connection, EngineProcess, query
from tests.chaos.udfs.operator import boosted_model
from tests.chaos.udfs.processes import (
    WIDTH,
    UdfProcess,
    expected_scores,
    linear_model,
    linear_weights,
    open_registry,
    register,
    route_of,
)
from tests.services.kafka import Cluster, start_embedded, wait_until

PREDICT = """
CREATE FUNCTION predict(route JSONB, key VARCHAR, features DOUBLE PRECISION[])
RETURNS STRUCT<label VARCHAR, score DOUBLE PRECISION, members JSONB, error JSONB>
AS predict USING LINK '{url}'
"""
WEIGHTS = linear_weights(0)


@dataclass
class World:
    engine: EngineProcess
    udf: UdfProcess
    connection: Connection
    route: str

    def run(self, sql: str) -> None:
        self.connection.execute(sql)  # type: ignore[call-overload]  # psycopg wants a literal

    def query(self, sql: str) -> list[tuple[object, ...]]:
        return query(self.connection, sql)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    (folder / "data").mkdir()
    version = register(open_registry(folder / "data"), "sick", linear_model(WEIGHTS))
    udf, engine = UdfProcess(folder / "data"), EngineProcess(folder / "engine")
    engine.start()
    udf.start()
    assert engine.await_port()
    with engine.connect() as connection:
        made = World(engine, udf, connection, route_of("sick", version))
        made.run(PREDICT.format(url=udf.url))
        yield made
    engine.stop()
    udf.stop()


BAD = {
    "NaN": ({"f0": 1, "f1": "NaN", "f2": 3, "f3": 4}, "non_finite_feature"),
    "infinite": ({"f0": 1, "f1": 2, "f2": "Infinity", "f3": 4}, "non_finite_feature"),
    "wrong length": ({"f0": 1, "f1": 2, "short": 1}, "wrong_length"),
    "NULL feature": ({"f0": 1, "f1": None, "f2": 3, "f3": 4}, "null_feature"),
    "NULL vector": ({"none": 1}, "null_features"),
    # A step that cannot be computed on a row of a stream is NULL there: here the cast of one feature.
    "string": ({"f0": 1, "f1": 2, "f2": "broken", "f3": 4}, "null_feature"),
}

VIEW = """
CREATE MATERIALIZED VIEW predicted_{name} AS
SELECT id, (p).label AS label, (p).score AS score, (p).members AS members, (p).error AS error
FROM (
    SELECT id, predict('{route}'::JSONB, id::VARCHAR, features) AS p
    FROM (
        SELECT id, CASE
            WHEN doc ->> 'none' IS NOT NULL THEN NULL
            WHEN doc ->> 'short' IS NOT NULL THEN ARRAY[(doc ->> 'f0')::DOUBLE PRECISION, (doc ->> 'f1')::DOUBLE PRECISION]
            ELSE ARRAY[
                (doc ->> 'f0')::DOUBLE PRECISION, (doc ->> 'f1')::DOUBLE PRECISION,
                (doc ->> 'f2')::DOUBLE PRECISION, (doc ->> 'f3')::DOUBLE PRECISION
            ]
        END AS features
        FROM docs_{name}
    ) AS vectors
) AS answers
"""


@pytest.fixture(scope="module")
def good(world: World) -> np.ndarray:
    """9,999 rows of documents, and their features."""
    features = np.round(np.random.default_rng(1).normal(size=(9_999, WIDTH)), 6)
    world.run("CREATE TABLE docs_good (id INT PRIMARY KEY, doc JSONB)")
    world.run(VIEW.format(name="good", route=world.route))
    with world.connection.cursor() as cursor, cursor.copy("COPY docs_good (id, doc) FROM STDIN") as copy:
        for number, row in enumerate(features):
            copy.write_row((number, json.dumps({f"f{i}": value for i, value in enumerate(row.tolist())})))
    world.run("FLUSH")
    return features


def test_good_rows_get_what_the_model_says(world: World, good: np.ndarray) -> None:
    rows = world.query("SELECT id, score, error FROM predicted_good ORDER BY id")
    assert [row[0] for row in rows] == list(range(9_999))
    assert {row[2] for row in rows} == {None}
    assert np.array([row[1] for row in rows], float) == pytest.approx(expected_scores(WEIGHTS, good), abs=1e-6)


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_row_in_ten_thousand_is_one_typed_error_and_the_others_are_equal(
    world: World, good: np.ndarray, kind: str
) -> None:
    doc, code = BAD[kind]
    name = kind.lower().replace(" ", "_")
    world.run(f"CREATE TABLE docs_{name} (id INT PRIMARY KEY, doc JSONB)")
    world.run(VIEW.format(name=name, route=world.route))
    # The bad row in the middle of the same statement, so that it shares its batch with the others.
    world.run(
        f"INSERT INTO docs_{name} SELECT id, doc FROM docs_good WHERE id < 5000"
        f" UNION ALL SELECT -1, '{json.dumps(doc)}'::JSONB UNION ALL SELECT id, doc FROM docs_good WHERE id >= 5000"
    )
    world.run("FLUSH")
    assert world.query(f"SELECT count(*)::INT FROM predicted_{name}") == [(10_000,)]
    assert world.query(f"SELECT id, label, score, error ->> 'code' FROM predicted_{name} WHERE error IS NOT NULL") == [
        (-1, None, None, code)
    ]
    equal = world.query(
        f"SELECT count(*)::INT FROM predicted_{name} AS a JOIN predicted_good AS b ON a.id = b.id"
        " WHERE a.label = b.label AND a.score = b.score AND a.members = b.members AND b.error IS NULL"
    )
    assert equal == [(9_999,)]
    world.run(f"DROP TABLE docs_{name} CASCADE")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Cluster]:
    cluster = start_embedded(tmp_path)
    yield cluster
    cluster.stop()


ROUND = 4_000
KILLS = 4


def test_a_killed_udf_server_loses_nothing_doubles_nothing_and_leaves_no_null(world: World, broker: Cluster) -> None:
    features = np.round(np.random.default_rng(2).normal(size=(ROUND * (KILLS + 1), WIDTH)), 6)
    kafka = f"connector = 'kafka', properties.bootstrap.server = '{broker.bootstrap}'"
    columns = ", ".join(f"f{i} DOUBLE PRECISION" for i in range(WIDTH))
    world.run(
        f"CREATE SOURCE events (id INT, {columns}) WITH ({kafka}, topic = 'events', scan.startup.mode = 'earliest')"
        " FORMAT PLAIN ENCODE JSON"
    )
    vector = ", ".join(f"f{i}" for i in range(WIDTH))
    world.run(
        "CREATE MATERIALIZED VIEW scored AS SELECT id, (p).score AS score, (p).error AS error FROM"
        f" (SELECT id, predict('{world.route}'::JSONB, id::VARCHAR, ARRAY[{vector}]) AS p FROM events) AS answers"
    )
    world.run(f"CREATE SINK scored_out FROM scored WITH ({kafka}, topic = 'scored') FORMAT PLAIN ENCODE JSON")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 1})

    def send(start: int, end: int) -> None:
        for number in range(start, end):
            row = {"id": number, **{f"f{i}": value for i, value in enumerate(features[number].tolist())}}
            producer.produce("events", json.dumps(row).encode())
            if number % 100 == 0:
                producer.poll(0.001)
        producer.flush(30)

    def count() -> int:
        ((found,),) = world.query("SELECT count(*)::INT FROM scored")
        assert isinstance(found, int)
        return found

    send(0, ROUND)
    decided_while_away = []
    for number in range(1, KILLS + 1):
        # Half of a round flows while the server is killed, the other half comes while it is away.
        before = count()
        sending = threading.Thread(target=send, args=(ROUND * number, ROUND * number + ROUND // 2))
        sending.start()
        wait_until(lambda before=before: count() > before, 60, "the stream does not move")  # type: ignore[misc]
        world.udf.kill()
        sending.join()
        at_kill = count()
        send(ROUND * number + ROUND // 2, ROUND * (number + 1))
        assert world.query("SELECT count(*)::INT FROM scored WHERE score IS NULL OR error IS NOT NULL") == [(0,)]
        decided_while_away.append(count() - at_kill)
        world.udf.start()
    wait_until(lambda: count() == len(features), 120, f"{len(features)} predictions")
    world.run("FLUSH")
    assert decided_while_away == [0] * KILLS
    rows = world.query("SELECT id, score, error FROM scored ORDER BY id")
    assert [row[0] for row in rows] == list(range(len(features)))
    assert {row[2] for row in rows} == {None}
    expected = expected_scores(WEIGHTS, features)
    assert np.array([row[1] for row in rows], float) == pytest.approx(expected, abs=1e-6)
    delivered = _read(broker, "scored", len(features))
    assert Counter(each["id"] for each in delivered) == Counter(range(len(features))), "the topic has each row once"
    assert all(each["score"] == pytest.approx(expected[each["id"]], abs=1e-6) for each in delivered)
    world.run("DROP SOURCE events CASCADE")


def _read(broker: Cluster, topic: str, least: int) -> list[dict[str, object]]:
    """All committed records of a topic with one partition: at least so many, and then what comes within a second."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "check", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[dict[str, object]] = []
    idle = 0
    while idle < (60 if len(found) < least else 2):
        messages = consumer.consume(1_000, 0.5)
        found += [json.loads(message.value()) for message in messages if message.error() is None]
        idle = 0 if messages else idle + 1
    consumer.close()
    return found


def test_the_functions_of_headrace_answer_in_queries_and_in_views(world: World) -> None:
    text = (folder.BUILT_IN / "functions" / "10_functions.sql").read_text()
    for statement in text.replace("${UDF_URL}", world.udf.url).split(";\n"):
        if statement.strip():
            world.run(statement)
    world.run("CREATE TABLE notes (id INT PRIMARY KEY, g INT, x DOUBLE PRECISION, note VARCHAR)")
    world.run(
        "CREATE MATERIALIZED VIEW clean AS SELECT id, ((redact(note)).value).text AS note, (redact(note)).error AS error FROM notes"
    )
    world.run(
        "CREATE MATERIALIZED VIEW sketches AS SELECT g, (profile(xs)).value AS sketch FROM"
        " (SELECT g, array_agg(x) AS xs FROM notes GROUP BY g) AS grouped"
    )
    world.run(
        "INSERT INTO notes SELECT i, i % 3, CASE WHEN i % 10 = 0 THEN NULL ELSE i::DOUBLE PRECISION END,"
        " 'mail a' || i || '@example.org' FROM generate_series(1, 1000) AS s(i)"
    )
    world.run("FLUSH")
    assert world.query("SELECT DISTINCT note, error FROM clean") == [("mail [EMAIL]", None)]
    world.run("INSERT INTO notes VALUES (5000, 0, 1.0, 'card 4111 1111 1111 1111')")
    world.run("DELETE FROM notes WHERE id = 1")
    world.run("FLUSH")
    assert world.query("SELECT count(*)::INT, count(DISTINCT note)::INT FROM clean") == [(1000, 2)]
    ((told,),) = world.query(
        "SELECT to_jsonb((p).value)::VARCHAR FROM"
        " (SELECT profile_read((profile_merge(jsonb_agg(sketch))).value) AS p FROM sketches) AS merged"
    )
    profile = json.loads(str(told))
    assert (profile["rows"], profile["nulls"]) == (1000, 100)
    assert profile["mean"] == pytest.approx((sum(i for i in range(2, 1001) if i % 10) + 1.0) / 900)
    assert profile["p50"] == pytest.approx(500, rel=0.02)
    row = world.query("SELECT (detect('{\"a\": 1}'::BYTEA)).value IS NOT NULL, ((detect('{\"a\": 1}'::BYTEA)).value).format")
    assert row == [(True, "json")]
    explained = world.query("SELECT (explain('sick', 1, ARRAY[1.0, 2.0, 3.0, 4.0])).error ->> 'code'")
    assert explained == [("no_background",)]
    version = register(open_registry(world.udf.folder), "boosted", boosted_model(0))
    ((unit, method, total, wrong),) = world.query(
        "SELECT (e).unit, (e).method, (e).base + (e).contributions[1] + (e).contributions[2] + (e).contributions[3]"
        " + (e).contributions[4], (e).error"
        f" FROM (SELECT explain('boosted', {version}, ARRAY[1.0, 2.0, 3.0, 4.0]) AS e) AS explained"
    )
    assert (unit, method, wrong) == ("log_odds", "tree", None)
    ((score,),) = world.query(
        f"SELECT (predict('{route_of('boosted', version)}'::JSONB, 'k', ARRAY[1.0, 2.0, 3.0, 4.0])).score"
    )
    assert 1 / (1 + np.exp(-float(str(total)))) == pytest.approx(float(str(score)), abs=1e-5)
