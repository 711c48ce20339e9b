"""The deployer against a running stream database: what it creates, what it leaves alone, what it refuses."""

from __future__ import annotations

import psycopg
import pytest

from core.errors import ConflictError, InvalidInputError, UnavailableError
from pipelines.folder import Endpoint, Route
from tests.e2e.deployment import Deployment

pytestmark = pytest.mark.timeout(200)

TABLE = "CREATE TABLE NAME_t (x INT PRIMARY KEY);\n"
VIEW = "CREATE MATERIALIZED VIEW NAME_v AS SELECT x + 1 AS y FROM NAME_t;\n"


def test_applying_twice_changes_nothing(deployment: Deployment) -> None:
    deployment.write("10_t.sql", TABLE + VIEW)
    first, second = deployment.apply(), deployment.apply()
    assert first.created == [f"{deployment.name}_t", f"{deployment.name}_v"]
    assert (second.created, second.rebuilt) == ([], [])
    assert {f"{deployment.name}_t", "routes", "predictions"} <= set(second.unchanged)


def test_a_change_that_loses_rows_is_refused_before_anything_is_touched(deployment: Deployment) -> None:
    deployment.write("10_t.sql", TABLE + VIEW)
    deployment.apply()
    deployment.write("10_t.sql", "\n" + TABLE.replace("INT PRIMARY KEY", "BIGINT PRIMARY KEY") + VIEW)
    deployment.write("20_more.sql", "CREATE TABLE NAME_more (x INT);")
    with pytest.raises(
        ConflictError, match=rf"table `{deployment.name}_t` cannot be changed: .*--allow-data-loss.*10_t.sql:2:1"
    ):
        deployment.apply()
    with pytest.raises(psycopg.Error):
        deployment.query("SELECT * FROM NAME_more")


def test_what_the_database_refuses_names_file_line_and_column(deployment: Deployment) -> None:
    deployment.write("10_t.sql", TABLE)
    deployment.write("20_v.sql", "-- a view\nCREATE MATERIALIZED VIEW NAME_v AS\nSELECT x,\n       oops\nFROM NAME_t;")
    with pytest.raises(InvalidInputError, match=r"oops.*20_v.sql:4:8"):
        deployment.apply()
    deployment.write("20_v.sql", "CREATE MATERIALIZED VIEW NAME_v AS\nSELECT x FROM NAME_t;")
    assert deployment.apply().created == [f"{deployment.name}_v"], "what failed can be mended and applied again"


def test_an_object_that_somebody_else_made_is_not_taken_over(deployment: Deployment) -> None:
    deployment.query("CREATE TABLE NAME_t (x INT)")
    deployment.write("10_t.sql", TABLE)
    with pytest.raises(ConflictError, match=r"not made by `headrace pipeline apply`"):
        deployment.apply()


def test_a_run_that_was_cut_off_is_completed_by_the_next(deployment: Deployment) -> None:
    deployment.write("10_t.sql", TABLE + VIEW)
    deployment.apply()
    deployment.query("DROP MATERIALIZED VIEW NAME_v")
    deployment.query("UPDATE deployed_objects SET state = 'applying' WHERE pipeline = 'NAME'")
    deployment.query("FLUSH")
    assert deployment.apply().created == [f"{deployment.name}_t", f"{deployment.name}_v"]
    assert deployment.query("SELECT * FROM NAME_v") == []


def test_routes_that_were_changed_at_run_time_stay(deployment: Deployment) -> None:
    deployment.write("10_t.sql", TABLE)
    name = deployment.name
    given = {
        "endpoints": [Endpoint(tenant_id=name, endpoint="e")],
        "routes": [Route(tenant_id=name, endpoint="e", model="m", version=1, weight=0.5)],
    }
    assert deployment.apply(**given).routes == 1
    deployment.query("UPDATE routes SET weight = 0.9 WHERE tenant_id = 'NAME'")
    deployment.query("FLUSH")
    assert deployment.apply(**given).routes == 0
    assert deployment.query("SELECT weight FROM routes WHERE tenant_id = 'NAME'") == [(0.9,)]


def test_a_new_pipeline_joins_the_views_over_all(deployment: Deployment) -> None:
    deployment.write(
        "10_p.sql",
        """CREATE TABLE NAME_raw (
            prediction_id VARCHAR, tenant_id VARCHAR, endpoint VARCHAR, entity_id VARCHAR, feature_start TIMESTAMPTZ,
            feature_end TIMESTAMPTZ, features DOUBLE PRECISION[], route_epoch BIGINT, label VARCHAR, score DOUBLE PRECISION,
            members JSONB, error JSONB);
        CREATE MATERIALIZED VIEW predictions_NAME AS SELECT * FROM NAME_raw;""",
    )
    assert "predictions" in deployment.apply().rebuilt
    deployment.query("INSERT INTO NAME_raw (prediction_id, tenant_id) VALUES ('p1', 't')")
    deployment.query("FLUSH")
    assert deployment.query("SELECT prediction_id, pipeline FROM predictions WHERE pipeline = 'NAME'") == [
        ("p1", deployment.name)
    ]
    assert "predictions" in deployment.apply().unchanged


def test_a_database_that_is_away_is_said_to_be_away(deployment: Deployment) -> None:
    deployment.write("10_t.sql", TABLE)
    deployment.url = "postgresql://root@127.0.0.1:1/dev"
    with pytest.raises(UnavailableError, match="does not answer"):
        deployment.apply()
