"""Values are as strict as RisingWave's JSON."""

from __future__ import annotations

import pytest

from api.ingest.columns import check_for


@pytest.mark.parametrize(
    ("sql_type", "good", "bad"),
    [
        ("double precision", [1, 1.5, -0.0, 10**300], ["1", True, [], float("inf"), 10**400]),
        ("integer", [0, -(2**31), 2**31 - 1], [2**31, 1.0, "1", True]),
        ("smallint", [32767], [32768]),
        ("bigint", [2**63 - 1], [2**63]),
        ("boolean", [True, False], [0, "true"]),
        ("character varying", ["", "ü"], [1, "a\x00b", "\ud800", {}]),
        ("numeric(10,2)", ["1.10", 1.1, 3], ["x", "NaN", True]),
        ("date", ["2026-01-31"], ["2026-02-31", 1]),
        ("time without time zone", ["12:00:00"], ["25:00:00"]),
        ("timestamp without time zone", ["2026-01-31T08:00:00"], ["2026-01-31T08:00:00Z", "today"]),
        ("double precision[]", [[], [1, 2.5, None]], [[1, "2"], 1]),
        ("struct<a integer>", [{}], [[]]),
        ("jsonb", [1, "a", [], {}], []),
    ],
)
def test_values_that_fit_pass_and_others_do_not(sql_type: str, good: list[object], bad: list[object]) -> None:
    check = check_for(sql_type)
    assert [value for value in good if check(value) is not None] == []
    assert [value for value in bad if check(value) is None] == []


@pytest.mark.parametrize("text", ["2026-01-31T08:30:00Z", "2026-01-31 08:30:00.123456+02:00", "2026-01-31T08:30+02"])
def test_an_instant_has_a_time_zone(text: str) -> None:
    assert check_for("timestamp with time zone")(text) is None


@pytest.mark.parametrize(
    "value", ["2026-01-31T08:30:00", "2026-13-31T08:30:00Z", "2026-01-31T08:30:00.1234567Z", "2026-W01-1", 1]
)
def test_what_is_no_instant_is_refused(value: object) -> None:
    assert check_for("timestamptz")(value) is not None
