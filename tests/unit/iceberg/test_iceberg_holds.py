"""Legal holds: placed, listed, released, and what they stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from pyiceberg.catalog import Catalog

from core.errors import InvalidInputError, NotFoundError
from iceberg.holds import HeldError, active_holds, hold, list_holds, refuse_if_held, refuse_if_subject_held, release
from iceberg.tables import MODEL_VERSIONS, ensure_tables


def test_a_hold_is_in_force_until_it_is_released_and_remembered_after(catalog: Catalog, table: str) -> None:
    placed = hold(catalog, "table", table, reason="case 1", actor="ann")
    assert [each.hold_id for each in active_holds(catalog)] == [placed.hold_id]
    lifted = release(catalog, placed.hold_id, reason="closed", actor="bob")
    assert (lifted.reason, lifted.actor, lifted.release_reason, lifted.released_by) == ("case 1", "ann", "closed", "bob")
    assert active_holds(catalog) == []
    assert [each.active for each in list_holds(catalog)] == [False]


def test_the_same_hold_is_placed_and_released_once(catalog: Catalog, table: str) -> None:
    first = hold(catalog, "table", table, reason="case 1")
    assert hold(catalog, "table", table, reason="case 2") == first
    once = release(catalog, first.hold_id, reason="closed")
    assert release(catalog, first.hold_id, reason="closed again") == once
    assert hold(catalog, "table", table, reason="case 2").hold_id != first.hold_id, "a released hold does not hold again"


def test_a_table_hold_stops_its_table_only(catalog: Catalog, table: str) -> None:
    ensure_tables(catalog, (MODEL_VERSIONS,))
    hold(catalog, "table", table, reason="case 1")
    with pytest.raises(HeldError, match="case 1"):
        refuse_if_held(catalog, "expiring", table)
    refuse_if_held(catalog, "expiring", MODEL_VERSIONS.identifier)


@pytest.mark.parametrize("scope", ["tenant", "subject"])
def test_a_hold_on_somebody_stops_the_tables_that_may_hold_rows_of_them(catalog: Catalog, table: str, scope: str) -> None:
    ensure_tables(catalog, (MODEL_VERSIONS,))
    hold(catalog, scope, "x", reason="case 1")  # type: ignore[arg-type]
    with pytest.raises(HeldError, match=f"on {scope} `x`"):
        refuse_if_held(catalog, "expiring", table)
    refuse_if_held(catalog, "expiring", MODEL_VERSIONS.identifier)


def test_erasing_is_refused_for_the_held_subject_its_tenant_and_a_held_table(catalog: Catalog, table: str) -> None:
    for scope, target in (("subject", "s"), ("tenant", "t"), ("table", table)):
        placed = hold(catalog, scope, target, reason="case 1")  # type: ignore[arg-type]
        with pytest.raises(HeldError):
            refuse_if_subject_held(catalog, "erasing", "s", tenant_id="t", tables=[table])
        with pytest.raises(HeldError):
            refuse_if_subject_held(catalog, "erasing", "s", tenant_id=None, tables=[table])
        release(catalog, placed.hold_id, reason="closed")
    refuse_if_subject_held(catalog, "erasing", "s", tenant_id="t", tables=[table])
    hold(catalog, "subject", "other", reason="case 2")
    refuse_if_subject_held(catalog, "erasing", "s", tenant_id="t", tables=[table])


def test_malformed_and_unknown_holds_are_refused(catalog: Catalog, table: str) -> None:
    with pytest.raises(InvalidInputError):
        hold(catalog, "row", "x", reason="case 1")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        hold(catalog, "table", table, reason=" ")
    with pytest.raises(NotFoundError):
        hold(catalog, "table", "lake.nothing", reason="case 1")
    with pytest.raises(NotFoundError):
        release(catalog, "none", reason="closed")
    hold(catalog, "table", table, reason="case 1")
    with pytest.raises(NotFoundError):
        release(catalog, "none", reason="closed")


def test_of_two_who_place_the_same_hold_at_once_one_does(open_lake: Callable[[], Catalog], table: str) -> None:
    def place() -> None:
        own = open_lake()
        hold(own, "table", table, reason="case 1")
        own.close()

    threads = [threading.Thread(target=place) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(list_holds(open_lake())) == 1
