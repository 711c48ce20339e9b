"""Test files of streaming SQL: how rows are read and compared, and what is said about a malformed file."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InvalidInputError, NotFoundError
from headrace.sqltest.diff import Column, Found, compare
from headrace.sqltest.model import Place, Rows, Span
from headrace.sqltest.reading import find, read
from headrace.sqltest.rows import parse_rows, split_csv, write_csv
from headrace.sqltest.run import Where, check

HERE = Place(Path("a.test.yaml"), 1)
INT, FLOAT, NUMERIC, TEXT, BOOL, INSTANT, JSONB, FLOATS = 23, 701, 1700, 1043, 16, 1184, 3802, 1022


def rows(text: str) -> Rows:
    return parse_rows(text, HERE, Span(HERE.file))


def found(oids: dict[str, int], *values: tuple[str | None, ...]) -> Found:
    return Found(tuple(Column(name, oid) for name, oid in oids.items()), values)


def test_cells_may_be_aligned_and_an_empty_one_is_null() -> None:
    assert split_csv('acme ,  "a, ""b""",, "" ', HERE) == ("acme", 'a, "b"', None, "")


def test_rows_are_written_as_they_are_read() -> None:
    table = (("a", None, "x, y"), ("", "#1", ' "q" '))
    again = rows("\n".join(write_csv(("k", "n", "t"), table)))
    assert (again.columns, again.rows) == (("k", "n", "t"), table)


def test_a_json_line_may_leave_columns_out() -> None:
    read_rows = rows('{"a": 1}\n{"b": [1, null], "a": null}')
    assert (read_rows.columns, read_rows.rows) == (("a", "b"), ((1, None), (None, [1, None])))


@pytest.mark.parametrize(
    ("oid", "wanted", "came"),
    [
        (BOOL, "true", "t"),
        (NUMERIC, "1.0", "1.00"),
        (FLOAT, "0.3", "0.30000000000000004"),
        (FLOAT, "NaN", "NaN"),
        (INSTANT, "2026-01-01T00:00:00Z", "2026-01-01 00:00:00+00"),
        (INSTANT, "2026-01-01T01:00:00+01:00", "2026-01-01 00:00:00+00"),
        (FLOATS, "{0.3,NULL}", "{0.30000000000000004,NULL}"),
    ],
)
def test_two_ways_to_write_a_value_agree(oid: int, wanted: str, came: str) -> None:
    expected = Rows(("v",), ((wanted,),), "csv", HERE, (HERE,), Span(HERE.file))
    assert compare(expected, found({"v": oid}, (came,)), ordered=False, tolerance=1e-9) is None


@pytest.mark.parametrize(
    ("oid", "wanted", "came"),
    [
        (BOOL, "false", "t"),
        (INT, "1", "2"),
        (INT, None, "0"),
        (TEXT, "", None),
        (TEXT, "1.0", "1"),
        (NUMERIC, "1.0", "1.0000000001"),
        (FLOAT, "0.3", "0.3001"),
        (INSTANT, "2026-01-01T00:00:00Z", "2026-01-01 00:00:01+00"),
        (JSONB, '{"a": 1}', '{"a": "1"}'),
        (FLOATS, "{1,2}", "{2,1}"),
    ],
)
def test_two_values_that_differ_do_not_agree(oid: int, wanted: str | None, came: str | None) -> None:
    expected = Rows(("v",), ((wanted,),), "csv", HERE, (HERE,), Span(HERE.file))
    assert compare(expected, found({"v": oid}, (came,)), ordered=False, tolerance=1e-9) is not None


def test_json_compares_by_its_content() -> None:
    expected = rows('{"v": {"a": [1, 2.0], "b": null}}')
    assert compare(expected, found({"v": JSONB}, ('{"b": null, "a": [1.0, 2]}',)), ordered=False, tolerance=0) is None


def test_the_difference_pairs_changed_rows_and_marks_their_cells() -> None:
    expected = rows("id, name, n\n1, a, 1\n2, b, 2\n3, c, 3")
    came = found({"id": INT, "name": TEXT, "n": INT}, ("4", "d", "4"), ("2", "b", "9"), ("1", "a", "1"))
    difference = compare(expected, came, ordered=False, tolerance=0)
    assert difference is not None
    assert [text for text, _ in difference.render()] == [
        "    id  name  n",
        "    1   a     1",
        "  - 2   b     2",
        "  + 2   b     9",
        "              ^",
        "  - 3   c     3",
        "  + 4   d     4",
    ]
    assert (difference.missing, difference.unexpected) == (2, 2)


def test_a_row_that_came_twice_is_unexpected_once() -> None:
    difference = compare(rows("id\n1"), found({"id": INT}, ("1",), ("1",)), ordered=False, tolerance=0)
    assert difference is not None
    assert [line.sign for line in difference.lines] == [" ", "+"]


def test_order_counts_only_when_asked() -> None:
    expected, came = rows("id\n1\n2"), found({"id": INT}, ("2",), ("1",))
    assert compare(expected, came, ordered=False, tolerance=0) is None
    difference = compare(expected, came, ordered=True, tolerance=0)
    assert difference is not None
    assert difference.order_only


MALFORMED = {
    "no YAML": ("cases: [", "a.test.yaml:1", "this is no YAML"),
    "nothing": ("# nothing", "a.test.yaml", "the file is empty"),
    "no cases": ("sql: SELECT 1\n", "a.test.yaml:1", "`cases:`"),
    "unknown key": ("cases:\n  - name: x\n    expects: {t: []}\n", "a.test.yaml:3", "Did you mean `expect`?"),
    "key twice": ("cases:\n  - name: x\n    expect: {t: []}\n    expect: {t: []}\n", "a.test.yaml:4", "there twice"),
    "name twice": ("cases:\n  - {name: x, expect: {t: []}}\n  - {name: x, expect: {t: []}}\n", "a.test.yaml:3", "other is at"),
    "nothing expected": ("cases:\n  - name: x\n    run: SELECT 1\n", "a.test.yaml:2", "expects nothing"),
    "short row": ("cases:\n  - name: x\n    expect:\n      t: |\n        a, b\n        1\n", "a.test.yaml:6", "1 cells"),
    "bad cell": ('cases:\n  - name: x\n    expect:\n      t: |\n        a\n        {"a"\n', "a.test.yaml:6", "cannot be read"),
    "bad JSON": ("cases:\n  - name: x\n    expect:\n      t: |\n        {a: 1}\n", "a.test.yaml:5", "this line is no JSON"),
    "bad operation": (
        "cases:\n  - name: x\n    expect:\n      t:\n        changes: |\n          op, a\n          Upsert, 1\n",
        "a.test.yaml:7",
        "`op` is one of Insert",
    ),
    "no operation": (
        "cases:\n  - name: x\n    expect:\n      t:\n        changes: |\n          a\n",
        "a.test.yaml:6",
        "no column `op`",
    ),
    "no file": (
        "cases:\n  - name: x\n    sql: ../10_no.sql\n    expect: {t: []}\n",
        "a.test.yaml:3",
        "there is no `../10_no.sql`",
    ),
    "no time": ("cases:\n  - name: x\n    now: noon\n    expect: {t: []}\n", "a.test.yaml:3", "`noon` is no time"),
    "folded": (
        "cases:\n  - name: x\n    expect:\n      t: >\n        a\n        1\n",
        "a.test.yaml:4",
        "Begin the block with `|`",
    ),
    "both forms": ("cases:\n  - name: x\n    epochs: []\n    expect: {t: []}\n", "a.test.yaml:4", "stands beside `epochs`"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_with_file_line_and_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, place, told = MALFORMED[name]
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.test.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        read(file)
    assert (caught.value.where or "").startswith(place)
    assert told in str(caught.value)


SOURCE = """
CREATE SOURCE s (id INT, name VARCHAR) WITH (connector = 'kafka', topic = 's',
properties.bootstrap.server = '${KAFKA_BOOTSTRAP}') FORMAT PLAIN ENCODE JSON;
CREATE FUNCTION f(x INT) RETURNS INT AS f USING LINK '${UDF_URL}';
"""

UNFIT = {
    "unknown column": ("    input: {s: \"id, nam\\n1, a\"}\n", "no column `nam`", "Did you mean `name`?"),
    "raw into a table": ("    input: {t: {raw: [x]}}\n", "`t` reads no topic", "connector = 'kafka'"),
    "answer of another type": ("    functions: {f: [{returns: much}]}\n", "does not fit integer", "`much` is no integer"),
    "unknown argument": ("    functions: {f: [{when: {y: 1}, returns: 1}]}\n", "no argument `y`", "`x`"),
    "unknown function": ("    functions: {g: [{returns: 1}]}\n", "creates the function `g`", "`f`"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_the_sql_is_refused_before_anything_runs(name: str, tmp_path: Path) -> None:
    text, told, remedy = UNFIT[name]
    (tmp_path / "s.sql").write_text(SOURCE)
    file = tmp_path / "a.test.yaml"
    functions = "" if "functions" in text else "    functions: {f: [{returns: 1}]}\n"
    file.write_text(f"cases:\n  - name: x\n    sql: s.sql\n{functions}{text}    expect: {{s: []}}\n")
    with pytest.raises(InvalidInputError) as caught:
        check(read(file).cases[0], Where())
    assert told in str(caught.value)
    assert remedy in str(caught.value)


def test_a_function_without_an_answer_names_both_ways_out(tmp_path: Path) -> None:
    (tmp_path / "s.sql").write_text(SOURCE)
    file = tmp_path / "a.test.yaml"
    file.write_text("cases:\n  - {name: x, sql: s.sql, expect: {s: []}}\n")
    with pytest.raises(InvalidInputError, match="--udf-url") as caught:
        check(read(file).cases[0], Where())
    assert "`functions:`" in str(caught.value)


def test_the_clock_is_refused_on_a_database_that_runs_by_its_own(tmp_path: Path) -> None:
    file = tmp_path / "a.test.yaml"
    file.write_text("cases:\n  - {name: x, now: 2026-01-01, expect: {s: []}}\n")
    with pytest.raises(InvalidInputError, match="without --database-url"):
        check(read(file).cases[0], Where(database_url="postgresql://127.0.0.1:1/dev"))


def test_a_folder_without_tests_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no `\*.test.yaml`"):
        find([tmp_path])
