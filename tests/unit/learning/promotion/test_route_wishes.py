"""Which routes a decision changes, and into what."""

from __future__ import annotations

from iceberg.stages import StageChange
from learning.promotion.routes import as_before, replaced_versions, substituted, wanted_changes
from pipelines.routing import RouteMember, RouteState


def state(*members: RouteMember, strategy: str = "ensemble_mean", tenant: str = "acme", epoch: int = 3) -> RouteState:
    return RouteState(tenant, "pump.health", epoch, strategy, members)


ONE, OTHER = RouteMember("pump", 1, weight=0.7), RouteMember("valve", 1, weight=0.3)


def test_the_new_version_takes_the_weight_and_role_of_the_old_one() -> None:
    assert set(substituted((ONE, OTHER), "pump", 1, 2)) == {RouteMember("pump", 2, weight=0.7), OTHER}


def test_where_both_serve_the_weights_add_up() -> None:
    found = substituted((ONE, RouteMember("pump", 2, weight=0.2), OTHER), "pump", 1, 2)
    assert {each.name: round(each.weight, 6) for each in found} == {"pump@2": 0.9, "valve@1": 0.3}


def test_a_canary_that_replaces_its_champion_becomes_the_champion() -> None:
    canary = RouteMember("pump", 2, "challenger", 1.0, 0.1)
    (found,) = substituted((RouteMember("pump", 1), canary), "pump", 1, 2)
    assert (found.name, found.role, found.fraction) == ("pump@2", "champion", None)


def test_a_shadow_that_replaces_its_champion_serves() -> None:
    shadow = RouteMember("pump", 2, "shadow", 0.0, 1.0)
    (found,) = substituted((RouteMember("pump", 1), shadow), "pump", 1, 2)
    assert (found.role, found.weight) == ("champion", 1.0)


def test_only_routes_with_the_replaced_version_change() -> None:
    untouched = state(OTHER, tenant="globex")
    (found,) = wanted_changes("pump", 2, [1], {}, [state(ONE, OTHER), untouched])
    assert found.current.place == "acme/pump.health"
    assert wanted_changes("pump", 2, [1], {}, [state(RouteMember("pump", 2), OTHER)]) == [], "as it is wanted"


def test_an_endpoint_is_served_alone_where_that_is_asked_for() -> None:
    wishes = {"serve": [["acme", "pump.health"]]}
    (found,) = wanted_changes("pump", 2, [], wishes, [state(OTHER, RouteMember("pump", 9, "shadow", 0.0, 1.0))])
    assert [each.name for each in found.members] == ["pump@2", "pump@9"]


def test_a_rollback_restores_weights_and_strategy_from_before() -> None:
    before = as_before(state(ONE, OTHER, strategy="choice"))
    now = state(RouteMember("pump", 2, weight=1.0), epoch=4)
    (found,) = wanted_changes("pump", 1, [2], {"restore": [before]}, [now])
    assert found.strategy == "choice"
    assert set(found.members) == {ONE, OTHER}


def test_a_route_that_was_changed_by_hand_since_is_not_restored() -> None:
    before = as_before(state(ONE, OTHER))
    by_hand = state(RouteMember("valve", 4), epoch=5)
    assert wanted_changes("pump", 1, [2], {"restore": [before]}, [by_hand]) == []
    mixed = state(RouteMember("pump", 2), RouteMember("valve", 4), epoch=5)
    (found,) = wanted_changes("pump", 1, [2], {"restore": [before]}, [mixed])
    assert set(found.members) == {RouteMember("pump", 1), RouteMember("valve", 4)}, "only who is withdrawn is replaced"


def test_going_back_further_restores_no_route_that_has_another_version() -> None:
    before = as_before(state(RouteMember("pump", 3)))
    (found,) = wanted_changes("pump", 1, [2], {"restore": [before]}, [state(RouteMember("pump", 2), epoch=4)])
    assert found.members == (RouteMember("pump", 1),)


def decision(sequence: int, version: int, *replaced: int, kind: str = "promote") -> StageChange:
    detail = {"replaced": list(replaced)}
    return StageChange(
        "pump", version, "staging", "production", True, kind, "t", f"d{sequence}", sequence=sequence, detail=detail
    )


def test_what_a_version_never_came_to_replace_is_replaced_by_its_successor() -> None:
    history = [decision(1, 1), decision(2, 2, 1), decision(3, 3, 2)]
    assert replaced_versions(history[2], history, {"d1", "d2"}) == {2}
    assert replaced_versions(history[2], history, {"d1"}) == {2, 1}, "2 was refused by the servers, so routes still have 1"
    (found,) = wanted_changes("pump", 3, {2, 1}, {}, [state(ONE, OTHER)])
    assert set(found.members) == {RouteMember("pump", 3, weight=0.7), OTHER}


def test_a_rollback_to_a_version_that_never_came_to_serve_lets_it_serve() -> None:
    history = [decision(1, 1), decision(2, 2, 1), decision(3, 3, 2), decision(4, 2, 3, kind="rollback")]
    assert replaced_versions(history[3], history, {"d1"}) == {3, 1}


def test_who_left_the_stage_by_itself_is_not_replaced() -> None:
    history = [decision(1, 1, 0), decision(3, 2)]  # 1 was archived in between, so 2 replaced nobody
    assert replaced_versions(history[1], history, ()) == set()
