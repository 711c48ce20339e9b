"""Changed definitions against a running stream database: built beside, swapped, and never away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from core.errors import ConflictError, InvalidInputError
from pipelines.planning import Allowed
from tests.e2e.deployment import Deployment

pytestmark = pytest.mark.timeout(280)


@pytest.fixture
def deployment(bare_deployment: Deployment) -> Deployment:
    return bare_deployment


TABLE = "CREATE TABLE NAME_t (x INT PRIMARY KEY, g INT);\n"
SUMS = "CREATE MATERIALIZED VIEW NAME_sums AS SELECT g, sum(x) AS total FROM NAME_t GROUP BY g;\n"
TOP = "CREATE MATERIALIZED VIEW NAME_top AS SELECT NAME_sums.g, NAME_sums.total FROM NAME_sums WHERE total > 0;\n"


class Poller:
    """Reads relations all the while on a connection of its own, and remembers errors, empty answers and columns."""

    def __init__(self, deployment: Deployment, names: tuple[str, ...]) -> None:
        self.deployment, self.names = deployment, names
        self.problems: list[str] = []
        self.answers: dict[str, set[tuple[object, ...]]] = {name: set() for name in names}
        self.reads = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with psycopg.connect(self.deployment.url, autocommit=True) as connection:
            while not self._stop.is_set():
                for name in self.names:
                    try:
                        rows = connection.execute(f"SELECT * FROM {self.deployment.name}_{name} ORDER BY 1".encode()).fetchall()
                    except psycopg.Error as error:
                        self.problems.append(f"{name}: {error}")
                        continue
                    self.reads += 1
                    if not rows:
                        self.problems.append(f"{name} is empty")
                    self.answers[name].add(tuple(rows))

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


@contextmanager
def polling(deployment: Deployment, *names: str) -> Iterator[Poller]:
    with Poller(deployment, names) as poller:
        yield poller
    assert poller.problems == []
    assert poller.reads > 0


def filled(deployment: Deployment, views: str = SUMS + TOP) -> None:
    deployment.write("10_t.sql", TABLE + views)
    deployment.apply()
    deployment.query("INSERT INTO NAME_t VALUES (1, 1), (2, 1), (3, 2)")
    deployment.query("FLUSH")


def test_a_changed_view_and_what_is_built_on_it_are_swapped_under_a_reader(deployment: Deployment) -> None:
    filled(deployment)
    deployment.query("CREATE MATERIALIZED VIEW NAME_alien AS SELECT count(*) AS n FROM NAME_top")
    deployment.write("10_t.sql", TABLE + SUMS.replace("sum(x)", "sum(x * 10)") + TOP)
    planned = deployment.planned()
    assert {name: each.action for name, each in planned.items()} == {"sums": "replace", "top": "replace", "alien": "replace"}
    assert planned["alien"].because == (f"{deployment.name}_sums",)
    with polling(deployment, "sums", "top", "alien") as poller:
        applied = deployment.apply()
    assert applied.rebuilt == [f"{deployment.name}_{name}" for name in ("sums", "top", "alien")]
    assert poller.answers["sums"] <= {((1, 3), (2, 3)), ((1, 30), (2, 30))}
    assert deployment.query("SELECT * FROM NAME_top ORDER BY g") == [(1, 30), (2, 30)]
    deployment.query("INSERT INTO NAME_t VALUES (4, 3)")
    deployment.query("FLUSH")
    assert deployment.query("SELECT * FROM NAME_top ORDER BY g") == [(1, 30), (2, 30), (3, 40)], "the new ones follow"
    assert deployment.query("SELECT n FROM NAME_alien") == [(3,)]
    assert leftovers(deployment) == []
    again = deployment.apply()
    assert (again.created, again.rebuilt, again.altered) == ([], [], [])


def leftovers(deployment: Deployment) -> list[tuple[object, ...]]:
    journal = deployment.query("SELECT id FROM deployment_journal")
    return journal + deployment.query("SELECT name FROM rw_catalog.rw_relations WHERE name LIKE 'NAME%next'")


def test_a_second_change_finds_what_the_first_one_left(deployment: Deployment) -> None:
    filled(deployment)
    for factor in (10, 100):
        deployment.write("10_t.sql", TABLE + SUMS.replace("sum(x)", f"sum(x * {factor})") + TOP)
        deployment.apply()
        assert deployment.query("SELECT total FROM NAME_top WHERE g = 1") == [(3 * factor,)]
    assert leftovers(deployment) == []


def test_a_change_that_a_dependent_cannot_follow_leaves_everything_as_it_was(deployment: Deployment) -> None:
    filled(deployment)
    deployment.write("10_t.sql", TABLE + SUMS.replace("AS total", "AS amount") + TOP)
    changes = deployment.preview().columns
    assert [c.name for c in changes[f"{deployment.name}_sums"].dropped] == ["total"]
    assert "total" in (changes[f"{deployment.name}_top"].breaks or "")
    with polling(deployment, "sums", "top"), pytest.raises(InvalidInputError, match=r"_top`: .*total.*Nothing was changed"):
        deployment.apply()
    assert deployment.query("SELECT total FROM NAME_top ORDER BY g") == [(3,), (3,)]
    assert leftovers(deployment) == []
    deployment.write("10_t.sql", TABLE + SUMS + TOP)
    assert deployment.apply().rebuilt == []


def test_a_new_view_may_read_a_changed_one(deployment: Deployment) -> None:
    filled(deployment, SUMS)
    deployment.write(
        "10_t.sql", TABLE + SUMS.replace("sum(x) AS total", "sum(x) AS total, count(*) AS n") + TOP.replace(".total", ".n")
    )
    deployment.write("10_t.sql", (deployment.folder / "10_t.sql").read_text().replace("WHERE total > 0", "WHERE n > 0"))
    applied = deployment.apply()
    assert applied.created == [f"{deployment.name}_top"]
    assert deployment.query("SELECT * FROM NAME_top ORDER BY g") == [(1, 2), (2, 1)]


def test_views_subscriptions_and_indexes_move_along(deployment: Deployment) -> None:
    more = """CREATE VIEW NAME_v AS SELECT total FROM NAME_sums;
    CREATE MATERIALIZED VIEW NAME_m AS SELECT max(total) AS most FROM NAME_v;
    CREATE SUBSCRIPTION NAME_changes FROM NAME_m WITH (retention = '1 day');
    CREATE INDEX NAME_idx ON NAME_sums(g);"""
    filled(deployment, SUMS + more)
    deployment.write("10_t.sql", TABLE + SUMS.replace("sum(x)", "sum(-x)") + more)
    planned = deployment.planned()
    assert {name: each.action for name, each in planned.items()} == {
        "sums": "replace", "v": "replace", "m": "replace", "changes": "recreate", "idx": "recreate",
    }  # fmt: skip
    with polling(deployment, "sums", "v", "m"):
        deployment.apply()
    assert deployment.query("SELECT * FROM NAME_v") == [(-3,), (-3,)]
    with psycopg.connect(deployment.url, autocommit=True) as connection:
        connection.execute(f"DECLARE c SUBSCRIPTION CURSOR FOR {deployment.name}_changes SINCE now()".encode())
        deployment.query("INSERT INTO NAME_t VALUES (0, 9)")
        deployment.query("FLUSH")
        deadline = time.monotonic() + 20
        rows: list[tuple[object, ...]] = []
        while not rows and time.monotonic() < deadline:
            rows = connection.execute("FETCH 10 FROM c").fetchall()
        assert 0 in [row[0] for row in rows]
    assert leftovers(deployment) == []
    assert deployment.apply().rebuilt == []


def test_a_column_added_at_the_end_of_a_table_is_an_alter(deployment: Deployment) -> None:
    filled(deployment)
    wider = TABLE.replace("g INT)", "g INT, note VARCHAR DEFAULT 'none')")
    deployment.write("10_t.sql", wider + SUMS + TOP + "CREATE VIEW NAME_notes AS SELECT note FROM NAME_t;")
    assert {n: p.action for n, p in deployment.planned().items()} == {"t": "alter", "notes": "create"}
    applied = deployment.apply()
    assert applied.altered == [f"{deployment.name}_t"]
    assert deployment.query("SELECT DISTINCT note FROM NAME_notes") == [("none",)]
    assert deployment.query("SELECT total FROM NAME_top WHERE g = 1") == [(3,)]
    assert deployment.apply().altered == []


def test_a_table_is_made_anew_only_if_its_rows_may_be_lost(deployment: Deployment) -> None:
    filled(deployment)
    deployment.write("10_t.sql", TABLE.replace("g INT", "g BIGINT") + SUMS + TOP)
    with pytest.raises(ConflictError, match="its rows are lost"):
        deployment.apply()
    assert deployment.query("SELECT total FROM NAME_top WHERE g = 1") == [(3,)]
    deployment.apply(allowed=Allowed(data_loss=True))
    deployment.query("INSERT INTO NAME_t VALUES (7, 5000000000)")
    deployment.query("FLUSH")
    assert deployment.query("SELECT * FROM NAME_top") == [(5_000_000_000, 7)]


def test_a_changed_function_takes_all_that_calls_it_along(deployment: Deployment) -> None:
    function = "CREATE FUNCTION NAME_f(x INT) RETURNS INT LANGUAGE sql AS $$ SELECT x + 1 $$;\n"
    calling = "CREATE MATERIALIZED VIEW NAME_called AS SELECT NAME_f(x) AS y FROM NAME_t;\n"
    deployment.write("10_t.sql", function + TABLE + calling)
    deployment.apply()
    deployment.query("INSERT INTO NAME_t VALUES (1, 1)")
    deployment.query("FLUSH")
    for number, body in ((101, "x + 100"), (1001, "x + 1000"), (101, "x + 100")):
        deployment.write("10_t.sql", function.replace("x + 1 ", f"{body} ") + TABLE + calling)
        with polling(deployment, "called"):
            assert deployment.apply().rebuilt == [f"{deployment.name}_f", f"{deployment.name}_called"]
        assert deployment.query("SELECT y FROM NAME_called") == [(number,)]
        assert deployment.query("SELECT NAME_f(1)") == [(number,)], "the name itself has the new definition"
        names = deployment.query("SELECT name FROM rw_catalog.rw_functions WHERE name LIKE 'NAME_f%'")
        assert len(names) == 2, "the version that the view calls, and the name"
        assert deployment.apply().rebuilt == []


def test_a_changed_python_function_finds_its_code_under_the_versioned_name(deployment: Deployment) -> None:
    function = "CREATE FUNCTION NAME_p(x INT) RETURNS INT LANGUAGE python AS $$\ndef NAME_p(x):\n    return x + 1\n$$;\n"
    calling = "CREATE MATERIALIZED VIEW NAME_called AS SELECT NAME_p(x) AS y FROM NAME_t;\n"
    filled(deployment, function + calling)
    deployment.write("10_t.sql", TABLE + function.replace("x + 1", "x * 100") + calling)
    with polling(deployment, "called"):
        deployment.apply()
    assert deployment.query("SELECT y FROM NAME_called ORDER BY y") == [(100,), (200,), (300,)]


SINK = """CREATE SINK NAME_out FROM NAME_sums WITH (connector = 'kafka', topic = 'NAME.out',
properties.bootstrap.server = '${KAFKA_BOOTSTRAP}', primary_key = 'g') FORMAT UPSERT ENCODE JSON;\n"""


def test_a_sink_is_made_anew_only_if_allowed_and_does_not_repeat_what_it_delivered(deployment: Deployment) -> None:
    filled(deployment, SUMS + SINK)
    assert messages(deployment, 2) == [(1, 3), (2, 3)]
    deployment.write("10_t.sql", TABLE + SUMS.replace("sum(x)", "sum(x * 10)") + SINK)
    assert deployment.planned()["out"].action == "refuse"
    with pytest.raises(ConflictError, match=r"--allow-sink-rebuild"):
        deployment.apply()
    assert deployment.query("SELECT total FROM NAME_sums WHERE g = 1") == [(3,)]
    deployment.apply(allowed=Allowed(sink_rebuild=True))
    deployment.query("INSERT INTO NAME_t VALUES (5, 5)")
    deployment.query("FLUSH")
    assert messages(deployment, 3) == [(1, 3), (2, 3), (5, 50)], "history is not delivered again, what comes is"
    assert deployment.apply(allowed=Allowed(sink_rebuild=True)).rebuilt == []


def messages(deployment: Deployment, at_least: int) -> list[tuple[int, int]]:
    """(g, total) of the sink's topic from its start, once there are so many."""
    consumer = Consumer(
        {"bootstrap.servers": deployment.values["KAFKA_BOOTSTRAP"], "group.id": "test", "auto.offset.reset": "earliest",
         "isolation.level": "read_committed"}
    )  # fmt: skip
    consumer.assign([TopicPartition(f"{deployment.name}.out", 0, 0)])
    found: list[tuple[int, int]] = []
    deadline, quiet = time.monotonic() + 30, 0
    while time.monotonic() < deadline and (len(found) < at_least or quiet < 3):
        message = consumer.poll(0.5)
        if message is None or message.error():
            quiet += 1
            continue
        value = message.value()
        if value:
            row = json.loads(value)
            found.append((int(row["g"]), int(row["total"])))
    consumer.close()
    return sorted(found)


_CHILD = """
import os, signal, sys
from pathlib import Path
from pipelines import deployer, folder
from pipelines.planning import Allowed

left = int(sys.argv[3])

def failpoint(name):
    global left
    left -= 1
    if left == 0:
        print(name, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

values = dict(zip(sys.argv[4::2], sys.argv[5::2]))
deployer.apply(sys.argv[1], [folder.load(Path(sys.argv[2]))], values, allowed=Allowed(sink_rebuild=True), failpoint=failpoint)
"""


EVERY = range(1, 60)
SOME = (3, 7, 15, 59)
"""A step of building, of swapping, and of dropping; then none."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("places", [SOME, pytest.param(EVERY, marks=pytest.mark.nightly)], ids=["some", "every"])
def test_an_exchange_that_is_killed_after_a_step_is_finished_by_the_next_run(
    deployment: Deployment, places: Sequence[int]
) -> None:
    extra = (
        "CREATE SUBSCRIPTION NAME_changes FROM NAME_top WITH (retention = '1 day');\nCREATE INDEX NAME_idx ON NAME_top(g);\n"
    )
    function = "CREATE FUNCTION NAME_f(x BIGINT) RETURNS BIGINT LANGUAGE sql AS $$ SELECT x + 0 $$;\n"
    views = SUMS.replace("sum(x)", "sum(NAME_f(x::bigint))") + TOP
    deployment.write("05_f.sql", function)
    filled(deployment, views + extra + SINK)
    killed: list[str] = []
    for number in places:
        deployment.write("05_f.sql", function.replace("x + 0", f"x + {number}"))
        with polling(deployment, "sums", "top"):
            ended, place = apply_and_die(deployment, number)
            if ended == -signal.SIGKILL:
                killed.append(place)
                deployment.apply(allowed=Allowed(sink_rebuild=True))
        total = sum(x + number for x in (1, 2))
        assert deployment.query("SELECT total FROM NAME_top WHERE g = 1") == [(total,)], place
        assert leftovers(deployment) == [], place
        again = deployment.apply(allowed=Allowed(sink_rebuild=True))
        assert (again.rebuilt, again.resumed) == ([], False), place
        if ended == 0:
            break
    print("killed after:", *killed, sep="\n  ")
    assert ended == 0, "the loop ends when there is no step left"
    assert {place.partition(":")[0] for place in killed} >= {"build", "switch", "clean"}
    assert len(killed) >= (18 if places is EVERY else 3)


def apply_and_die(deployment: Deployment, number: int) -> tuple[int, str]:
    """Apply in a process that kills itself at the failpoint of that number; how it ended, and where."""
    values = [part for pair in deployment.values.items() for part in pair]
    command = [sys.executable, "-c", _CHILD, deployment.url, str(deployment.folder), str(number), *values]
    child = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert child.returncode in (0, -signal.SIGKILL), child.stderr
    return child.returncode, child.stdout.strip()


def test_an_exchange_that_was_killed_while_building_is_taken_back_when_the_folder_changed_again(deployment: Deployment) -> None:
    filled(deployment)
    deployment.write("10_t.sql", TABLE + SUMS.replace("sum(x)", "sum(x * 10)") + TOP)
    assert apply_and_die(deployment, 2)[1].startswith("build")
    assert deployment.preview().resumes
    deployment.write("10_t.sql", TABLE + SUMS + TOP)
    applied = deployment.apply()
    assert (applied.rebuilt, applied.resumed) == ([], False)
    assert deployment.query("SELECT total FROM NAME_top WHERE g = 1") == [(3,)]
    assert leftovers(deployment) == []


def test_planning_changes_nothing(deployment: Deployment, tmp_path: Path) -> None:
    filled(deployment)
    before = deployment.query("SELECT id, name, definition FROM rw_catalog.rw_relations ORDER BY id")
    deployment.write("10_t.sql", TABLE.replace("g INT", "g BIGINT") + SUMS.replace("sum(x)", "min(x)") + TOP)
    preview = deployment.preview(allowed=Allowed(data_loss=True))
    assert {each.action for each in preview.plan.changes} == {"recreate", "replace"}
    assert preview.costs[f"{deployment.name}_top"].reads == {f"{deployment.name}_sums": 2}
    assert deployment.query("SELECT id, name, definition FROM rw_catalog.rw_relations ORDER BY id") == before


def test_what_cannot_be_known_beforehand_is_not_called_broken(deployment: Deployment) -> None:
    filled(deployment, SUMS)
    joined = """CREATE TABLE NAME_in (g INT) APPEND ONLY;
    CREATE MATERIALIZED VIEW NAME_looked AS SELECT i.g, s.total FROM NAME_in AS i
    LEFT JOIN NAME_sums FOR SYSTEM_TIME AS OF PROCTIME() AS s ON s.g = i.g;
    CREATE FUNCTION NAME_n(x INT) RETURNS INT LANGUAGE sql AS $$ SELECT x $$;
    CREATE MATERIALIZED VIEW NAME_calls AS SELECT NAME_n(g) AS y FROM NAME_in;"""
    deployment.write("10_t.sql", TABLE + SUMS.replace("sum(x)", "max(x)") + joined)
    found = {name.removeprefix(f"{deployment.name}_"): each for name, each in deployment.preview().columns.items()}
    assert (found["looked"].breaks, found["looked"].unknown) == (None, None)
    assert found["sums"].retyped == (("total", "int8", "int4"),)
    assert found["calls"].breaks is None
    assert "is new or changes" in (found["calls"].unknown or "")
