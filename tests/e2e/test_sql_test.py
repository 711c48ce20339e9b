"""`headrace sql test` finds planted errors, and says where they are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from headrace.ports import accepts_connections, free_port
from headrace.sqltest.reading import read
from headrace.sqltest.run import Outcome, Where, run
from headrace.sqltest.update import update

HOST = "127.0.0.1"

ORDERS = """
sql: |
  CREATE TABLE orders (id INT PRIMARY KEY, customer VARCHAR, amount DOUBLE PRECISION);
  CREATE MATERIALIZED VIEW spending AS SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
cases:
"""

EVENTS = """
sql: |
  CREATE SOURCE events (id INT, at TIMESTAMP WITH TIME ZONE, WATERMARK FOR at AS at - INTERVAL '5 seconds')
  WITH (connector = 'kafka', topic = 'events', properties.bootstrap.server = '${KAFKA_BOOTSTRAP}') FORMAT PLAIN ENCODE JSON;
"""


def outcomes(folder: Path, text: str) -> list[Outcome]:
    file = folder / "planted.test.yaml"
    file.write_text(text)
    return [run(case, Where()) for case in read(file).cases]


def test_a_wrong_row_is_shown_with_the_cell_that_differs(tmp_path: Path) -> None:
    (outcome,) = outcomes(
        tmp_path,
        ORDERS
        + """
  - name: wrong on purpose
    epochs:
      - input:
          orders: |
            id, customer, amount
            1,  ada,      10
            2,  bob,      5
            3,  cy,       1
        expect:
          spending: |
            customer, n, total
            ada,      1, 10
            bob,      2, 5
            dan,      1, 1
      - run: UPDATE orders SET amount = 7 WHERE id = 2
        expect:
          spending:
            changes: |
              op,           customer, total
              UpdateDelete, bob,      5
              UpdateInsert, bob,      8
""",
    )
    first, second = outcome.problems
    assert (first.epoch, second.epoch) == (1, 2)
    assert first.place.endswith("planted.test.yaml:16")
    assert first.difference is not None
    assert second.difference is not None
    assert [text for text, _ in first.difference.render()] == [
        "    customer  n  total",
        "    ada       1  10",
        "  - bob       2  5",
        "  + bob       1  5",
        "              ^",
        "  - dan       1  1",
        "  + cy        1  1",
        "    ^^",
    ]
    assert [(line.sign, line.cells, line.changed) for line in second.difference.lines if line.sign != " "] == [
        ("-", ("UpdateInsert", "bob", "8"), ()),
        ("+", ("UpdateInsert", "bob", "7"), (2,)),
    ]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("{sql: SELECT 1 / 0, error: no such thing}", "does not say `no such thing`"),
        ('{sql: SELECT 1 / 0, error: {sqlstate: "42P01"}}', "not 42P01"),
        ("{sql: SELECT 1, error: division}", "but the statement succeeded"),
        ("SELECT * FROM nowhere", "[42P01]"),
    ],
)
def test_a_statement_that_ends_otherwise_fails_the_case(step: str, told: str, tmp_path: Path) -> None:
    (outcome,) = outcomes(tmp_path, f"{ORDERS}  - name: x\n    run:\n      - {step}\n    expect: {{orders: []}}\n")
    (problem,) = outcome.problems
    assert told in problem.what
    assert ":8" in problem.place


def test_an_expected_error_passes(tmp_path: Path) -> None:
    step = '{sql: SELECT * FROM nowhere, error: {sqlstate: "42P01", message: nowhere}}'
    (outcome,) = outcomes(tmp_path, f"{ORDERS}  - name: x\n    run:\n      - {step}\n")
    assert outcome.passed
    assert outcome.expectations == 1


def test_a_refused_statement_of_a_file_is_found_by_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "v.sql").write_text("-- a view\nCREATE MATERIALIZED VIEW v AS\nSELECT nothing FROM orders;\n")
    (outcome,) = outcomes(tmp_path, f"{ORDERS}  - name: x\n    sql: v.sql\n    expect: {{orders: []}}\n")
    assert outcome.problems[0].place.endswith("v.sql:3:8")


def test_a_source_that_nothing_reads_and_quarantined_rows_are_told(tmp_path: Path) -> None:
    good = "CREATE MATERIALIZED VIEW good AS SELECT id FROM events"
    unread, late = outcomes(
        tmp_path,
        f"""{EVENTS}
cases:
  - name: unread
    input: {{events: "id, at\\n1, 2026-01-01T00:00:00Z"}}
    expect: {{quarantine: "stream\\nevents"}}
  - name: late
    sql: |
      {good}
    input:
      events: |
        id, at
        1,  2026-01-01T00:00:10Z
        2,  2026-01-01T00:00:00Z
    expect: {{good: "id\\n1\\n2"}}
""",
    )
    assert any("nothing reads `events`" in note for note in unread.problems[0].notes)
    assert any("late" in note for note in late.problems[0].notes)


def test_a_call_that_no_answer_fits_fails_the_case(tmp_path: Path) -> None:
    (outcome,) = outcomes(
        tmp_path,
        ORDERS
        + """
  - name: x
    sql: |
      CREATE FUNCTION twice(x DOUBLE PRECISION) RETURNS DOUBLE PRECISION AS twice USING LINK '${UDF_URL}';
      CREATE MATERIALIZED VIEW doubled AS SELECT id, twice(amount) AS amount FROM orders;
    functions:
      twice: [{when: {x: 1}, returns: 2}]
    input: {orders: "id, amount\\n1, 1\\n2, 3"}
    expect: {doubled: "id, amount\\n1, 2\\n2, "}
""",
    )
    (problem,) = outcome.problems
    assert "x=3.0" in problem.what


def test_a_filter_on_now_follows_the_clock_of_the_test(tmp_path: Path) -> None:
    (outcome,) = outcomes(
        tmp_path,
        """
now: 2026-01-01T00:00:00Z
cases:
  - name: an order is recent for an hour
    sql: |
      CREATE TABLE o (id INT PRIMARY KEY, at TIMESTAMP WITH TIME ZONE);
      CREATE MATERIALIZED VIEW recent AS SELECT id FROM o WHERE at > now() - INTERVAL '1 hour';
    epochs:
      - input: {o: "id, at\\n1, 2025-12-31T23:30:00Z\\n2, 2026-01-01T00:00:00Z"}
        expect: {recent: "id\\n1\\n2"}
      - now: 2026-01-01T00:29:00Z
        expect: {recent: "id\\n1\\n2"}
      - now: 2026-01-01T00:31:00Z
        expect:
          recent:
            rows: "id\\n2"
            changes: "op, id\\nDelete, 1"
""",
    )
    assert outcome.passed, outcome.problems


def test_what_an_epoch_is_given_is_one_barrier(tmp_path: Path) -> None:
    def numbers(first: int) -> str:
        return "id\\n" + "\\n".join(str(number) for number in range(first, first + 600))

    (outcome,) = outcomes(
        tmp_path,
        f"""{EVENTS}
  CREATE TABLE a (id INT PRIMARY KEY);
  CREATE TABLE b (id INT PRIMARY KEY);
  CREATE MATERIALIZED VIEW n AS
    SELECT count(*) AS n FROM (SELECT id FROM a UNION ALL SELECT id FROM b UNION ALL SELECT id FROM events) AS u;
cases:
  - name: two statements for each table and a topic
    input: {{a: "{numbers(0)}", b: "{numbers(1000)}", events: "{numbers(2000)}"}}
    expect:
      n:
        changes: |
          op,           n
          UpdateDelete, 0
          UpdateInsert, 1800
""",
    )
    assert outcome.passed, outcome.problems


GOLDEN = (
    ORDERS
    + """
  # this comment stays
  - name: to be filled in
    input: {orders: "id, customer, amount\\n1, ada, 10\\n2, bob, 5"}
    expect:
      spending: |
        customer, total
        eve,      1
        bob,      5.0

      orders: []
      title:
        query: SELECT count(*) AS n FROM orders
        rows:   # nothing yet
"""
)


def test_rows_within_braces_are_left_alone_and_named(tmp_path: Path) -> None:
    text = ORDERS + '  - {name: x, input: {orders: "id\\n1"}, expect: {orders: []}}\n'
    (outcome,) = outcomes(tmp_path, text)
    changed, left = update(outcome.problems)
    assert (tmp_path / "planted.test.yaml").read_text() == text
    assert len(left) == 1
    assert left[0].endswith("planted.test.yaml:6")
    assert changed == []


def headrace(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", "sql", *arguments],
        cwd=cwd, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.timeout(280)
def test_the_command_reports_to_people_and_programs_and_updates_files(tmp_path: Path) -> None:
    file = tmp_path / "golden.test.yaml"
    file.write_text(GOLDEN)
    done = headrace("test", ".", "--json", "--junit", "junit.xml", "--update", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert (told["ok"], told["passed"], told["failed"], told["updated"]) == (False, 0, 1, ["golden.test.yaml"])
    (case,) = told["cases"]
    assert {"file", "line", "name", "ok", "seconds", "expectations", "problems"} == case.keys()
    first = case["problems"][0]
    assert {"place", "epoch", "kind", "what", "notes", "columns", "lines"} == first.keys()
    assert first["place"] == "golden.test.yaml:11"
    assert [(line["sign"], line["cells"]) for line in first["lines"]] == [("-", ["eve", "1"]), ("+", ["ada", "10"])]
    failures = ElementTree.parse(tmp_path / "junit.xml").getroot().findall("./testsuite/testcase/failure")
    assert [failure.get("type") for failure in failures] == ["rows"] * 3
    expected = GOLDEN
    for before, after in (
        ("        eve,      1\n        bob,      5.0\n", "        bob,      5.0\n        ada,      10\n"),
        ("orders: []", "orders: |\n        id, customer, amount\n        1,  ada,      10\n        2,  bob,      5"),
        ("rows:   # nothing yet", "rows: |   # nothing yet\n          n\n          2"),
    ):
        assert before in expected
        expected = expected.replace(before, after)
    assert file.read_text() == expected
    again = [run(case, Where()) for case in read(file).cases]
    assert [outcome.passed for outcome in again] == [True]


@contextmanager
def running_engine(folder: Path) -> Iterator[str]:
    port = free_port(HOST)
    command = [sys.executable, "-m", "headrace", "--log-level", "error", "serve", "engine", "--listen", f"{HOST}:{port}"]
    environ = {"PATH": os.environ["PATH"], "HEADRACE_DATA_DIR": str(folder), "HEADRACE_ENGINE__METRICS_PORT": "0"}
    with subprocess.Popen(command, env=environ) as process:
        deadline = time.monotonic() + 120
        try:
            while not accepts_connections(HOST, port):
                assert process.poll() is None, "the engine ended at its start"
                assert time.monotonic() < deadline, "the engine does not listen"
                time.sleep(0.05)
            yield f"postgresql://root@{HOST}:{port}/dev"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.mark.timeout(280)
def test_the_same_tests_run_against_a_database_at_a_url(tmp_path: Path) -> None:
    pipelines = Path(__file__).parents[2] / "pipelines"
    with running_engine(tmp_path) as url:
        for name in ("plant/tests/features.test.yaml", "00_shared/tests/labels.test.yaml"):
            for case in read(pipelines / name).cases:
                outcome = run(case, Where(database_url=url))
                assert outcome.passed, outcome.problems
        with psycopg.connect(url, autocommit=True) as connection:
            assert connection.execute("SHOW DATABASES").fetchall() == [("dev",)], "databases of tests are left behind"
