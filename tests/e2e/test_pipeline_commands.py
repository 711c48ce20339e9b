"""`headrace pipeline plan`, `diff`, `apply`, `explain` and `lineage` as processes: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.e2e.deployment import Deployment

pytestmark = pytest.mark.timeout(280)

FILE = """CREATE TABLE NAME_t (x INT PRIMARY KEY, g INT);
CREATE VIEW NAME_v AS SELECT x, g FROM NAME_t;
CREATE MATERIALIZED VIEW NAME_m AS SELECT g, sum(x) AS total FROM NAME_v GROUP BY g;
"""


def headrace(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "HEADRACE_DATABASE_URL": deployment.url,
        "HEADRACE_KAFKA": deployment.values["KAFKA_BOOTSTRAP"],
        "HEADRACE_UDF_URL": deployment.values["UDF_URL"],
        "HEADRACE_DATA_DIR": deployment.values["WAREHOUSE"].removesuffix("/warehouse"),
    }
    command = [sys.executable, "-m", "headrace", "pipeline", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_a_change_is_planned_shown_and_applied_from_the_command_line(bare_deployment: Deployment) -> None:
    deployment, name, folder = bare_deployment, bare_deployment.name, str(bare_deployment.folder)
    deployment.write("10_t.sql", FILE)
    assert headrace(deployment, "apply", folder).returncode == 0
    assert headrace(deployment, "diff", folder, "--exit-code").returncode == 0
    deployment.write("10_t.sql", FILE.replace("sum(x) AS total", "max(x) AS total, count(*) AS n"))
    planned = headrace(deployment, "plan", folder)
    assert planned.returncode == 0, planned.stderr
    assert f"materialized view {name}_m: replace (swap), its query changed" in planned.stdout
    assert "column n added (int8)" in planned.stdout
    assert f"reads again (rows): {name}_t 0" in planned.stdout
    document = json.loads(headrace(deployment, "plan", folder, "--json").stdout)
    (changed,) = (each for each in document["objects"] if each["action"] == "replace")
    assert (changed["name"], changed["cost"]["reads"]) == (f"{name}_m", {f"{name}_t": 0})
    different = headrace(deployment, "diff", folder, "--exit-code")
    assert different.returncode == 1
    assert "# column total: SUM(x) -> MAX(x)" in different.stdout
    applied = json.loads(headrace(deployment, "apply", folder, "--json").stdout)
    assert applied["rebuilt"] == [f"{name}_m"]
    deployment.write("10_t.sql", FILE.replace("g INT)", "g BIGINT)"))
    refused = headrace(deployment, "plan", folder)
    assert refused.returncode == 1
    assert f"! table {name}_t: refuse" in refused.stdout
    conflict = headrace(deployment, "apply", folder)
    assert conflict.returncode == 4
    assert "--allow-data-loss" in conflict.stderr


def test_lineage_goes_both_ways_and_down_to_columns(bare_deployment: Deployment) -> None:
    deployment, name = bare_deployment, bare_deployment.name
    deployment.write("10_t.sql", FILE + "CREATE SUBSCRIPTION NAME_s FROM NAME_m WITH (retention = '1 day');")
    deployment.apply()
    found = json.loads(headrace(deployment, "lineage", f"{name}_v", "--json").stdout)
    assert found["upstream"]["next"] == [{"name": f"{name}_t", "kind": "TABLE", "next": []}]
    (above,) = found["downstream"]["next"]
    assert (above["name"], [each["name"] for each in above["next"]]) == (f"{name}_m", [f"{name}_s"])
    found = json.loads(headrace(deployment, "lineage", f"{name}_m", "--json").stdout)
    assert found["columns"] == {"g": [f"{name}_v.g"], "total": [f"{name}_v.x"]}
    shown = headrace(deployment, "lineage", f"{name}_m").stdout
    assert f"  {name}_m (materialized view)\n    {name}_v (view)\n      {name}_t (table)" in shown
    absent = headrace(deployment, "lineage", "nowhere")
    assert (absent.returncode, "no object `nowhere`" in absent.stderr) == (4, True)


def test_explain_takes_names_and_files(bare_deployment: Deployment) -> None:
    deployment, name = bare_deployment, bare_deployment.name
    deployment.write("10_t.sql", FILE)
    deployment.apply()
    by_name = headrace(deployment, "explain", f"{name}_m")
    assert by_name.returncode == 0, by_name.stderr
    assert "Aggregate" in by_name.stdout
    deployment.write("20_new.sql", "CREATE MATERIALIZED VIEW NAME_new AS SELECT DISTINCT g FROM NAME_m;")
    by_file = headrace(deployment, "explain", str(deployment.folder / "20_new.sql"), "--json")
    assert list(json.loads(by_file.stdout)) == [f"{name}_new"]
