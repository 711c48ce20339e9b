"""What breaks the rules of its features stands in a prediction's lineage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from headrace.lineage.graph import Graph
from headrace.lineage.sources import Database, Lake
from headrace.lineage.upstream import Upstream

END = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
ROW = {"pipeline": "kiln", "tenant_id": "acme", "entity_id": "k1", "feature_end": END}


class Verdicts:
    """A stream database that has one relation."""

    def __init__(self, rows: dict[tuple[Any, ...], dict[str, Any]] | None) -> None:
        self._rows = rows

    def rows(self, relation: str, where: str, values: tuple[Any, ...]) -> list[dict[str, Any]] | None:
        assert (relation, where.count("%s")) == ("feature_verdicts_kiln", len(values))
        if self._rows is None:
            return None
        return [self._rows[values]] if values in self._rows else []


def _traced(database: Verdicts | None, row: dict[str, Any] = ROW) -> Graph:
    graph = Graph("prediction:p", "upstream")
    upstream = Upstream(cast("Lake", None), cast("Database", database))
    upstream._verdict(graph, "window:w", row)
    return graph


def test_a_window_that_breaks_rules_says_which() -> None:
    verdict = {"rules": ["range temperature", "sql"], "refused": True}
    graph = _traced(Verdicts({("acme", "k1", END): verdict}))
    (node,) = graph.nodes.values()
    assert (node.kind, node.facts) == ("verdict", verdict)
    assert [(edge.to, edge.relation, edge.of) for edge in graph.edges] == [("window:w", "breaks", node.id)]


def test_a_window_that_breaks_none_and_a_pipeline_without_rules_say_nothing() -> None:
    for database in (Verdicts({}), Verdicts(None), None):
        assert not _traced(database).nodes
    assert not _traced(Verdicts({}), {**ROW, "feature_end": None}).nodes
