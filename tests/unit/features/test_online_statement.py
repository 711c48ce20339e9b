"""The one statement of an online read, and what its rows are decoded to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.errors import InvalidInputError
from features.declaration import Feature, FeatureView, Offline
from features.online import decode, statement
from features.packing import packs
from features.references import choose
from features.serving_sql import serving_sql
from tests.unit.features.conftest import at

MIXED = FeatureView(
    "mixed",
    ("tenant_id", "entity_id"),
    "feature_end",
    (
        Feature("a", "double precision"),
        Feature("n", "bigint"),
        Feature("b", "double precision"),
        Feature("pixels", "double precision[]"),
        Feature("note", "jsonb"),
    ),
    ttl=timedelta(minutes=1),
    offline=Offline("mixed", "SELECT 1"),
)
ENTITY = {"tenant_id": "t", "entity_id": "e"}


def test_the_statement_does_not_grow_with_the_features() -> None:
    """U48: 50 entities x 200 features were 169 ms elsewhere; here 200 features of one type are one column of each view."""
    views = {
        name: FeatureView(name, ("entity_id",), "at", tuple(Feature(f"{name}_{i}", "double precision") for i in range(50)))
        for name in ("v0", "v1", "v2", "v3")
    }
    few, _ = statement(choose([f"{name}:{name}_0" for name in views], views), [{"entity_id": "e"}])
    all_, _ = statement(choose([*views], views), [{"entity_id": "e"}])
    assert few == all_
    assert all_.count("SELECT") == 1 + len(views), "the views' own, and for each how far it is"


def test_values_come_back_under_their_names_in_the_order_asked() -> None:
    chosen = choose(["mixed:note", "mixed:b", "mixed:n", "mixed:a", "mixed:pixels"], {"mixed": MIXED})
    cells = {"values_double_precision": [1.0, None], "values_bigint": [7], "pixels": [0.5], "note": {"k": 1}}
    record = [0, at(50), "1:4,0:9", at(40), *(cells[pack.column] for pack in packs(MIXED))]
    answer = decode(chosen, [ENTITY], [record], at(60))
    (row,) = answer.rows
    assert list(row.values.items()) == [
        ("mixed__note", {"k": 1}), ("mixed__b", None), ("mixed__n", 7), ("mixed__a", 1.0), ("mixed__pixels", [0.5]),
    ]  # fmt: skip
    assert (row.views["mixed"].status, row.views["mixed"].age_seconds) == ("present", 20.0)
    assert (answer.views["mixed"].lag_seconds, answer.views["mixed"].position) == (10.0, {0: 9, 1: 4})


def test_only_what_is_asked_is_read() -> None:
    text, parameters = statement(choose(["mixed:n"], {"mixed": MIXED}), [ENTITY])
    assert "values_bigint" in text
    assert "values_double_precision" not in text
    assert "pixels" not in text
    assert parameters == ["t", "e"]


def test_rows_that_come_in_another_order_find_their_entities() -> None:
    chosen = choose(["mixed:n"], {"mixed": MIXED})
    entities = [{"tenant_id": "t", "entity_id": name} for name in "abc"]
    records = [[number, at(5), "0:1", at(number), [number]] for number in (2, 0, 1)]
    answer = decode(chosen, entities, records, at(6))
    assert [(row.entity["entity_id"], row.values["mixed__n"]) for row in answer.rows] == [("a", 0), ("b", 1), ("c", 2)]


def test_values_are_never_spliced_into_the_statement() -> None:
    evil = "'; DROP TABLE latest_mixed; --"
    text, parameters = statement(choose(["mixed:n"], {"mixed": MIXED}), [{"tenant_id": evil, "entity_id": evil}])
    assert evil not in text
    assert parameters == [evil, evil]
    with pytest.raises(InvalidInputError, match="no entity"):
        statement(choose(["mixed:n"], {"mixed": MIXED}), [])


def test_what_serves_a_view_is_its_last_rows_and_its_stream_once() -> None:
    """U44: one kind of view; what serves it is generated, the same for each."""
    other = FeatureView("other", ("entity_id",), "at", (Feature("x", "bigint"),), offline=Offline("mixed", "SELECT 1"))
    sql = serving_sql([MIXED, other])
    assert [line for line in sql.splitlines() if line.startswith("CREATE")] == [
        "CREATE MATERIALIZED VIEW positions_mixed AS", "CREATE MATERIALIZED VIEW latest_mixed AS", "CREATE MATERIALIZED VIEW latest_other AS",
    ]  # fmt: skip
    assert 'ORDER BY "feature_end" DESC, "a" DESC NULLS LAST' in sql
    assert '"note" DESC' not in sql, "JSON has no order"
    assert serving_sql([]) == ""
