"""Rules as SQL: each has a row that meets it and one that breaks it; what becomes of the rows is what was declared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.errors import InvalidInputError, NotFoundError
from core.fakes.clock import ManualClock
from features.declaration import FeatureView
from features.reading import read_text
from features.validation import validation_sql, violations_query
from features.violations import Verdict, validate, verdict_of
from headrace.sqltest.bench import Bench, embedded
from pipelines import folder
from tests.unit.engine.runtime.inprocess import running

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = "id VARCHAR, at TIMESTAMPTZ, n INT, v DOUBLE PRECISION, s VARCHAR, b BOOLEAN, seq INT"
GOOD = "('a', '2026-01-01 00:00:00Z', 5, 1.5, 'red', true, 1), ('a', '2026-01-01 00:01:00Z', 6, 1.5, 'red', true, 2)"


def view(rules: dict[str, list[dict[str, Any]]], rows: list[dict[str, Any]] | None = None) -> FeatureView:
    types = {"n": "integer", "v": "double precision", "s": "varchar", "b": "boolean", "seq": "integer"}
    declared = {
        "name": "x", "entity": ["id"], "timestamp": "at", "rules": rows or [],
        "features": [{"name": name, "type": type_, "rules": rules.get(name, [])} for name, type_ in types.items()],
    }  # fmt: skip
    (found,) = read_text(yaml.safe_dump({"feature_views": [declared]}))
    return found.view


# Rule of a feature or of the row; a row that breaks it (beside the good ones); what is told of it.
BROKEN = {
    "not_null": ("n", {"rule": "not_null"}, "('c', '2026-01-01 00:00:30Z', NULL, 1, 'x', true, 3)", ("n", None)),
    "range below": ("n", {"rule": "range", "min": 5}, "('c', '2026-01-01 00:00:30Z', 4, 1, 'x', true, 3)", ("n", "4")),
    "range above": ("v", {"rule": "range", "max": 1.5}, "('c', '2026-01-01 00:00:30Z', 5, 1.75, 'x', true, 3)", ("v", "1.75")),
    "range NaN": ("v", {"rule": "range", "min": 0}, "('c', '2026-01-01 00:00:30Z', 5, 'NaN', 'x', true, 3)", ("v", "NaN")),
    "one_of": ("s", {"rule": "one_of", "values": ["red", "it's"]}, "('c', '2026-01-01 00:00:30Z', 5, 1, 'blue', true, 3)", ("s", "blue")),
    "one_of boolean": ("b", {"rule": "one_of", "values": [True]}, "('c', '2026-01-01 00:00:30Z', 5, 1, 'x', false, 3)", ("b", "false")),
    "matches": ("s", {"rule": "matches", "pattern": "r.d|x"}, "('c', '2026-01-01 00:00:30Z', 5, 1, 'red ', true, 3)", ("s", "red ")),
    "monotone": ("seq", {"rule": "monotone"}, "('a', '2026-01-01 00:00:30Z', 5, 1, 'x', true, 0)", ("seq", "0")),
    "sql": ("", {"rule": "sql", "predicate": "n > v"}, "('c', '2026-01-01 00:00:30Z', 1, 1, 'x', true, 3)", (None, None)),
    "unique": ("", {"rule": "unique", "columns": ["seq"]}, "('c', '2026-01-01 00:00:30Z', 5, 1, 'x', true, 2)", (None, "2")),
    "max_lag of the clock": ("", {"rule": "max_lag", "lag": "1 hour"}, "('c', '2025-12-31 23:00:59Z', 5, 1, 'x', true, 3)", (None, "2025-12-31 23:00:59+00:00")),
    "monotone time": ("", {"rule": "monotone", "order": "seq"}, "('a', '2026-01-01 00:00:30Z', 5, 1, 'x', true, 3)", (None, "2026-01-01 00:00:30+00:00")),
}  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with embedded([], None) as made:
        yield made


@pytest.mark.parametrize("name", BROKEN)
def test_a_rule_finds_what_breaks_it_and_nothing_else(bench: Bench, name: str) -> None:
    feature, rule, bad, told = BROKEN[name]
    checked = view({feature: [rule]} if feature else {}, None if feature else [rule])
    run = bench.connection.execute
    try:
        run(f"CREATE TABLE features_x ({COLUMNS}, row_id SERIAL)".replace(", row_id SERIAL", "").encode())
        run(validation_sql(checked).encode())
        run(f"INSERT INTO features_x VALUES {GOOD}".encode())
        bench.barrier()
        asked_now = run(violations_query(checked).encode()).fetchall()
        assert asked_now == run(b"SELECT * FROM feature_violations_x").fetchall() == []
        run(f"INSERT INTO features_x VALUES {bad}".encode())
        bench.barrier()
        found = run(b"SELECT feature, value, rule FROM feature_violations_x").fetchall()
        assert set(found) == {(*told, rule["rule"])}
        assert len(found) == (2 if rule["rule"] == "unique" else 1)
        assert sorted(map(str, run(violations_query(checked).encode()))) == sorted(
            map(str, run(b"SELECT * FROM feature_violations_x"))
        )
        assert sum(n for (n,) in run(b"SELECT violations FROM feature_verdicts_x").fetchall()) == len(found)
    finally:
        for what in ("feature_verdicts_x", "feature_violations_x"):
            run(f"DROP MATERIALIZED VIEW IF EXISTS {what}".encode())
        run(b"DROP TABLE IF EXISTS features_x")


def test_too_many_nulls_are_a_violation_of_no_single_row(bench: Bench) -> None:
    checked = view({"v": [{"rule": "max_null_rate", "rate": 0.25}]})
    run = bench.connection.execute
    run(f"CREATE TABLE features_x ({COLUMNS})".encode())
    run(validation_sql(checked).encode())
    row = "('a', '2026-01-01 00:00:00Z', 1, {v}, 's', true, 1)"
    run(f"INSERT INTO features_x VALUES {', '.join(row.format(v=v) for v in ('1', '2', '3', 'NULL'))}".encode())
    bench.barrier()
    assert run(b"SELECT value FROM feature_violations_x").fetchall() == []
    run(f"INSERT INTO features_x VALUES {row.format(v='NULL')}".encode())
    bench.barrier()
    assert run(b"SELECT id, feature_time, value FROM feature_violations_x").fetchall() == [(None, None, "2 of 5")]
    run(b"DROP TABLE features_x CASCADE")


def test_what_becomes_of_a_row_is_what_was_declared(bench: Bench) -> None:
    checked = view(
        {
            "n": [{"rule": "range", "min": 0, "on_failure": "quarantine"}],
            "v": [{"rule": "range", "max": 10, "on_failure": "null"}],
            "s": [{"rule": "one_of", "values": ["red"], "on_failure": "flag"}],
            "b": [{"rule": "not_null", "on_failure": "reject"}],
            "seq": [{"rule": "range", "min": 0, "on_failure": "warn"}],
        }
    )
    run = bench.connection.execute
    run(f"CREATE TABLE features_x ({COLUMNS})".encode())
    run(validation_sql(checked).encode())
    rows = {
        "good": "5, 1, 'red', true, 1", "quarantined": "-1, 1, 'red', true, 1", "nulled": "5, 11, 'red', true, 1",
        "flagged": "5, 1, 'blue', true, 1", "rejected": "5, 1, 'red', NULL, 1", "warned": "5, 1, 'red', true, -1",
    }  # fmt: skip
    listed = ", ".join(f"('{name}', '2026-01-01 00:00:00Z', {values})" for name, values in rows.items())
    run(f"INSERT INTO features_x VALUES {listed}".encode())
    bench.barrier()
    valid = {row[0]: row[1:] for row in run(b"SELECT id, v, flags FROM valid_x").fetchall()}
    assert valid == {"good": (1, None), "nulled": (None, None), "flagged": (1, ["one_of s"]), "warned": (1, None)}
    assert run(b"SELECT id, rules FROM quarantined_x").fetchall() == [("quarantined", ["range n"])]
    broken = {name for (name,) in run(b"SELECT id FROM feature_violations_x").fetchall()}
    assert broken == rows.keys() - {"good"}
    assert verdict_of(bench.connection, checked, ["quarantined"], NOW) == Verdict(("range n",), refused=True)
    assert verdict_of(bench.connection, checked, ["flagged"], NOW) == Verdict(("one_of s",), refused=False)
    assert verdict_of(bench.connection, checked, ["good"], NOW) is None
    told = validate(bench.connection, checked, examples=1)
    assert (told.rows, told.deployed, told.ok) == (6, True, False)
    assert {(r.feature, r.violations, r.examples[0]["id"]) for r in told.broken} == {
        ("n", 1, "quarantined"), ("v", 1, "nulled"), ("s", 1, "flagged"), ("b", 1, "rejected"), ("seq", 1, "warned"),
    }  # fmt: skip
    run(b"UPDATE features_x SET n = 1, v = 1, s = 'red', b = true, seq = 1")
    bench.barrier()
    assert run(b"SELECT count(*) FROM feature_violations_x").fetchall() == [(0,)]
    assert run(b"SELECT count(*) FROM valid_x").fetchall() == [(6,)]
    assert validate(bench.connection, checked).ok
    run(b"DROP TABLE features_x CASCADE")


def test_lag_behind_the_time_of_day_comes_without_any_event(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    checked = view({}, [{"rule": "max_lag", "lag": "10 minutes", "against": "now"}])
    with running(tmp_path, clock) as session:
        session.run(f"CREATE TABLE features_x ({COLUMNS})")
        session.run(validation_sql(checked))
        session.run(f"INSERT INTO features_x VALUES {GOOD}; FLUSH")
        assert session.rows("SELECT id FROM feature_violations_x") == []
        clock.advance(NOW.replace(minute=12) - NOW)
        session.run("FLUSH")
        assert session.rows("SELECT id, rule FROM feature_violations_x") == [("a", "max_lag")]


def test_a_view_without_rules_or_that_is_not_there_is_told(bench: Bench) -> None:
    with pytest.raises(InvalidInputError, match="has no rules"):
        validate(bench.connection, view({}))
    with pytest.raises(NotFoundError, match="no `features_x`"):
        validate(bench.connection, view({"n": [{"rule": "not_null"}]}))


def test_a_predicate_that_the_database_refuses_is_told(bench: Bench) -> None:
    run = bench.connection.execute
    run(f"CREATE TABLE features_x ({COLUMNS})".encode())
    try:
        with pytest.raises(InvalidInputError, match="refuses the rules of `x`"):
            validate(bench.connection, view({}, [{"rule": "sql", "predicate": "nobody > 1"}]))
    finally:
        run(b"DROP TABLE features_x")


WRONG = [
    ({"n": [{"rule": "sql", "predicate": "true"}]}, [], "about rows"),
    ({}, [{"rule": "not_null"}], "about a feature"),
    ({}, [{"rule": "monotone"}], "needs `order`"),
    ({"n": [{"rule": "not_null", "on_failure": "null"}]}, [], "for the value of a feature"),
    ({"n": [{"rule": "max_null_rate", "rate": 0.1, "on_failure": "reject"}]}, [], "no single row"),
    ({}, [{"rule": "max_lag"}], "needs `lag`"),
    ({}, [{"rule": "unique", "min": 1}], "has no `min`"),
]


@pytest.mark.parametrize(("features", "rows", "told"), WRONG)
def test_a_rule_that_makes_no_sense_is_refused(features: Any, rows: Any, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        view(features, rows)


def test_the_committed_rules_are_what_the_command_prints(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "features", "template", "rules", "interactions", "--json"],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    committed = (folder.BUILT_IN / "interactions" / "40_rules.sql").read_text(encoding="utf-8")
    assert json.loads(done.stdout)["sql"] == committed
