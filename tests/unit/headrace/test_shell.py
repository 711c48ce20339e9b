"""The SQL shell: when a statement is whole, and what is shown of an answer or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from headrace.shell.shell import Shell
from headrace.shell.statements import Gatherer
from headrace.sqltest.bench import embedded


@pytest.mark.parametrize(
    ("lines", "statements"),
    [
        (["SELECT 1;"], ["SELECT 1"]),
        (["SELECT 1; SELECT", "2;"], ["SELECT 1", "SELECT\n2"]),
        (["SELECT ';';"], ["SELECT ';'"]),
        (["SELECT 'it''s", ";';"], ["SELECT 'it''s\n;'"]),
        (['SELECT 1 AS "a;b";'], ['SELECT 1 AS "a;b"']),
        (["-- not; here", "SELECT 1;"], ["-- not; here\nSELECT 1"]),
        (["/* ; */ SELECT 1;"], ["/* ; */ SELECT 1"]),
        (["CREATE FUNCTION f() AS $$", "a;", "$$;"], ["CREATE FUNCTION f() AS $$\na;\n$$"]),
        ([";;"], []),
    ],
)
def test_a_statement_ends_with_a_semicolon_outside_of_quotes(lines: list[str], statements: list[str]) -> None:
    gatherer = Gatherer()
    assert [statement for line in lines for statement in gatherer.add(line)] == statements
    assert not gatherer.waiting


def test_what_is_begun_waits_and_can_be_forgotten() -> None:
    gatherer = Gatherer()
    assert gatherer.add("SELECT 1") == []
    assert gatherer.waiting
    gatherer.forget()
    assert not gatherer.waiting


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded([], None) as bench:
        info = bench.connection.info
        yield f"postgresql://root@{info.host}:{info.port}/dev"


def test_a_table_and_the_tag_of_what_returns_no_rows_are_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(url, as_json=False)
    assert shell.run_all(["CREATE TABLE t (id INT, name VARCHAR);", "INSERT INTO t VALUES (1, 'ada'), (2, NULL); FLUSH;"])
    assert shell.run_all(["SELECT * FROM t ORDER BY id;", r"\dt", r"\d t"])
    told = capsys.readouterr().out
    assert "CREATE_TABLE\nINSERT 0 2\nFLUSH\n" in told
    assert "id  name\n1   ada\n2   NULL\n(2 rows)" in "\n".join(line.rstrip() for line in told.splitlines())
    assert "table" in told
    assert "character varying" in told


def test_json_is_one_document_a_statement(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert Shell(url, as_json=True).run_all(["SELECT 1 AS a, NULL AS b; FLUSH"])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [[{"a": "1", "b": None}], "FLUSH"]


def test_an_error_underlines_its_place_and_ends_a_script(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not Shell(url, as_json=False).run_all(["SELECT 1,", "  nothing FROM rw_catalog.rw_tables;", "SELECT 2;"])
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0].startswith("ERROR [42703]: ")
    assert lines[1:3] == ["LINE 2:   nothing FROM rw_catalog.rw_tables", "          ^"]


def test_a_person_sees_errors_and_goes_on(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed = iter(["SELECT nothing;", r"\timing", "SELECT 7", "AS n;", r"\nonsense", r"\q", "SELECT 8;"])
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return next(typed)

    Shell(url, as_json=False).converse(ask)
    told = capsys.readouterr()
    assert "7\n(1 row)\nTime: " in "\n".join(line.rstrip() for line in told.out.splitlines())
    assert "no command" in told.err
    assert prompts == ["sql> ", "sql> ", "sql> ", "   ...> ", "sql> ", "sql> "]
