"""`headrace tables evolve` on a running platform: the sink goes on without a pause, and what would break is named before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from pyiceberg.catalog import Catalog

from iceberg.catalog import open_catalog
from tests.e2e.deployment import Deployment

pytestmark = pytest.mark.timeout(280)

SQL = """CREATE TABLE NAME_t (k VARCHAR, level INT, payload BYTEA, note VARCHAR) APPEND ONLY;
CREATE MATERIALIZED VIEW NAME_m AS SELECT k, level, payload, note FROM NAME_t;
CREATE SINK NAME_lake FROM NAME_m WITH (
    connector = 'iceberg', type = 'append-only', force_append_only = 'true', warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}', catalog.uri = '${CATALOG_URI}', database.name = 'lake', table.name = 'NAME',
    create_table_if_not_exists = 'true'
);
"""


def evolve(deployment: Deployment, *arguments: str, code: int = 0) -> dict[str, object]:
    environ = {
        "PATH": os.environ["PATH"],
        "HEADRACE_DATABASE_URL": deployment.url,
        "HEADRACE_CATALOG_URI": deployment.values["CATALOG_URI"],
        "HEADRACE_WAREHOUSE": deployment.values["WAREHOUSE"],
    }
    command = [sys.executable, "-m", "headrace", "tables", "evolve", f"lake.{deployment.name}", *arguments, "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def rows(catalog: Catalog, name: str, count: int) -> list[dict[str, object]]:
    """The table's rows, when there are so many."""
    deadline = time.monotonic() + 60
    while True:
        if catalog.table_exists(f"lake.{name}"):
            found: list[dict[str, object]] = catalog.load_table(f"lake.{name}").scan().to_arrow().sort_by("k").to_pylist()
            if len(found) >= count:
                return found
        assert time.monotonic() < deadline, f"the sink did not deliver {count} rows"
        time.sleep(0.1)


def test_a_running_sink_follows_every_change_of_its_table(bare_deployment: Deployment) -> None:
    deployment, name = bare_deployment, bare_deployment.name
    deployment.write("10_t.sql", SQL)
    deployment.apply()
    catalog = open_catalog("jdbc", deployment.values["CATALOG_URI"], deployment.values["WAREHOUSE"])

    def insert(k: str) -> None:
        deployment.query(f"INSERT INTO NAME_t VALUES ('{k}', 1, '\\x00ff', 'n')")

    insert("a")
    rows(catalog, name, 1)
    told = evolve(deployment, "--drop", "note", "--dry-run")
    effects = told["effects"]
    assert isinstance(effects, list)
    assert {(e["kind"], e["name"], e["outcome"]) for e in effects} == {
        ("sink", f"{name}_lake", "loses"),
        ("materialized view", f"{name}_m", "loses"),
    }
    assert not told["applied"]
    evolve(deployment, "--add", "extra:bytea", "--rename", "level=height", "--widen", "sink_epoch:long")
    insert("b")
    assert [row["height"] for row in rows(catalog, name, 2)] == [1, 1]
    evolve(deployment, "--widen", "height:long", "--drop", "note")
    insert("c")
    found = rows(catalog, name, 3)
    assert [(row["k"], row["height"], row["payload"], row["extra"]) for row in found] == [
        (k, 1, b"\x00\xff", None) for k in "abc"
    ]
    assert "note" not in found[0]


def test_a_change_that_breaks_something_is_refused_unless_forced(bare_deployment: Deployment) -> None:
    deployment, name = bare_deployment, bare_deployment.name
    deployment.write("10_t.sql", SQL)
    deployment.apply()
    deployment.query("INSERT INTO NAME_t VALUES ('a', 1, NULL, 'n')")
    catalog = open_catalog("jdbc", deployment.values["CATALOG_URI"], deployment.values["WAREHOUSE"])
    rows(catalog, name, 1)
    views = deployment.folder / "features.yaml"
    views.write_text(
        f"feature_views:\n  - name: {name}\n    view: {name}\n    entity: [k]\n    timestamp: at\n"
        "    features:\n      - {name: level, type: integer}\n"
    )
    change = ("--rename", "level=height", "--pipelines", str(deployment.folder))
    told = evolve(deployment, *change, code=1)
    assert (told["refused"], told["applied"], told["breaks"]) == (True, False, 1)
    told = evolve(deployment, *change, "--force")
    assert told["applied"]
    assert [row["height"] for row in rows(catalog, name, 1)] == [1]
