"""Lineage as a function of a snapshot."""

from __future__ import annotations

import pytest

from core.errors import NotFoundError
from pipelines.lineage import Node, lineage
from pipelines.snapshot import Column, Deployed, Snapshot

T = Deployed(1, "t", "TABLE", "CREATE TABLE t (x INT)")
V = Deployed(2, "v", "VIEW", "CREATE VIEW v AS SELECT x FROM t")
M = Deployed(3, "m", "MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW m AS SELECT x + 1 AS y FROM v")
BOTH = Deployed(4, "both", "MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW both AS SELECT v.x FROM v JOIN t ON t.x = v.x")
SNAPSHOT = Snapshot(
    {each.id: each for each in (T, V, M, BOTH)},
    {2: frozenset({1}), 3: frozenset({1, 2}), 4: frozenset({1, 2})},
    {1: (Column("x", "integer"),), 2: (Column("x", "integer"),), 3: (Column("y", "integer"),)},
)


def test_what_is_read_through_a_view_hangs_on_the_view() -> None:
    assert lineage("m", SNAPSHOT).upstream == Node("m", M.kind, (Node("v", V.kind, (Node("t", T.kind),)),))


def test_what_is_named_besides_a_view_hangs_on_both() -> None:
    assert [each.name for each in lineage("both", SNAPSHOT).upstream.next] == ["t", "v"]
    assert [each.name for each in lineage("t", SNAPSHOT).downstream.next] == ["v", "both"]
    assert [each.name for each in lineage("v", SNAPSHOT).downstream.next] == ["m", "both"]


def test_columns_come_from_what_is_directly_below() -> None:
    assert lineage("m", SNAPSHOT).columns == {"y": ("v.x",)}


def test_a_window_function_reads_its_first_argument() -> None:
    events = Deployed(1, "events", "SOURCE", "CREATE SOURCE events (at TIMESTAMP, x INT)")
    sql = "CREATE MATERIALIZED VIEW w AS SELECT window_end, sum(x) AS total FROM TUMBLE(events, at, INTERVAL '10 seconds') GROUP BY window_end"
    windows = Deployed(2, "w", "MATERIALIZED VIEW", sql)
    snapshot = Snapshot(
        {1: events, 2: windows},
        {2: frozenset({1})},
        {1: (Column("at", "timestamp"), Column("x", "integer")), 2: (Column("total", "bigint"),)},
    )
    assert lineage("w", snapshot).columns == {"total": ("events.x",)}


def test_a_name_that_is_not_there_is_an_error_with_near_ones() -> None:
    with pytest.raises(NotFoundError, match="Did you mean `both`"):
        lineage("bot", SNAPSHOT)
