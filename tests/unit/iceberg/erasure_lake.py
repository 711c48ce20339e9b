"""A lake with two tenants and subjects whose names are parts of each other's, written in many commits."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog

from iceberg.catalog import open_catalog
from iceberg.erasure.eraser import Eraser
from iceberg.erasure.selection import Subject
from iceberg.loading import must_load, table_names
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow, ensure_tables

# Longer than the 16 characters that a bound keeps, and shared by all up to there: the hardest case.
WHO = Subject("acme", "machine-in-hall-7")
NAMES = ("machine-in-hall-7", "machine-in-hall-77", "machine-in-hall-8", "x-machine-in-hall-7")
START = datetime(2026, 3, 1, tzinfo=UTC)
FEATURES = pa.schema(
    [
        ("tenant_id", pa.string()),
        ("entity_id", pa.string()),
        ("feature_start", pa.timestamp("us", "UTC")),
        ("feature_end", pa.timestamp("us", "UTC")),
        ("level_avg", pa.float64()),
    ]
)


def prediction_id(tenant: str, name: str, moment: datetime) -> str:
    return hashlib.md5(f"{tenant}/pump/{name}/{moment}".encode(), usedforsecurity=False).hexdigest()


def fill(catalog: Catalog, *, commits: int = 4, first: int = 0) -> None:
    """Some epochs of predictions, features, feedback, enrichments and audit."""
    ensure_tables(catalog)
    create_table_for_arrow(catalog, "lake.features_pump", FEATURES)
    sinks = {
        name: ExactlyOnceTable(catalog, f"lake.{name}", uuid.uuid5(uuid.NAMESPACE_URL, name))
        for name in ("predictions", "features_pump", "feedback", "enrichments", "audit")
    }
    for epoch in range(first + 1, first + commits + 1):
        moment = START + timedelta(minutes=epoch)
        who = [(tenant, name) for tenant in ("acme", "globex") for name in NAMES]
        ids = [prediction_id(tenant, name, moment) for tenant, name in who]
        tenants, names = [tenant for tenant, _ in who], [name for _, name in who]
        n = len(who)
        sinks["features_pump"].append(
            epoch,
            pa.table([tenants, names, [moment] * n, [moment] * n, [float(i) for i in range(n)]], schema=FEATURES),
        )
        sinks["predictions"].append(
            epoch,
            pa.table(
                {
                    "prediction_id": ids,
                    "tenant_id": tenants,
                    "entity_id": names,
                    "pipeline": ["pump"] * n,
                    "feature_end": pa.array([moment] * n, pa.timestamp("us", "UTC")),
                    "score": [i / n for i in range(n)],
                }
            ),
        )
        sinks["feedback"].append(
            epoch,
            pa.table(
                {
                    "tenant_id": tenants,
                    "prediction_id": ids,
                    "label": ["sick"] * n,
                    "labelled_at": pa.array([moment] * n, pa.timestamp("us", "UTC")),
                }
            ),
        )
        # Of one machine, whose finding names another one: that row stays, the name in it goes.
        sinks["enrichments"].append(
            epoch,
            pa.table(
                {
                    "enrichment_id": [f"e{epoch}-{i}" for i in range(n)],
                    "prediction_id": ids,
                    "tenant_id": tenants,
                    "created_at": pa.array([moment] * n, pa.timestamp("us", "UTC")),
                    "findings": [json.dumps([{"claim": "fed by", "entity": NAMES[0]}]) for _ in who],
                    "summary": [f"after {NAMES[0]}, before {NAMES[1]}." for _ in who],
                }
            ),
        )
        sinks["audit"].append(
            epoch,
            pa.table(
                {
                    "audit_id": [f"a{epoch}"],
                    "at": pa.array([moment], pa.timestamp("us", "UTC")),
                    "tenant_id": ["acme"],
                    "actor": ["operator"],
                    "action": ["predictions.read"],
                    "allowed": ["yes"],
                    "resource": [f"prediction/{ids[0]}"],
                    "detail": [json.dumps({"entity": NAMES[0]})],
                }
            ),
        )


def open_lake(folder: Path) -> Catalog:
    return open_catalog("jdbc", f"jdbc:sqlite:{folder / 'catalog.db'}", str(folder / "warehouse"))


def eraser(folder: Path, catalog: Catalog | None = None, **more: object) -> Eraser:
    """An eraser that lets nobody's files wait."""
    catalog = catalog or open_lake(folder)
    arguments = {"in_flight": timedelta(0), **more}
    return Eraser(catalog, str(folder / "warehouse"), folder / "erasures", **arguments)  # type: ignore[arg-type]


def contents(catalog: Catalog) -> dict[str, list[dict[str, object]]]:
    """Every row of every table, in a certain order."""
    result = {}
    for name in table_names(catalog):
        rows = must_load(catalog, name).scan().to_arrow().to_pylist()
        result[name] = sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))
    return result


def without_who(rows: dict[str, list[dict[str, object]]]) -> dict[str, list[dict[str, object]]]:
    """What erasing must leave, worked out by other means; pseudonyms are written as `?`."""
    ours = {
        row["prediction_id"]
        for row in rows["lake.predictions"]
        if (row["tenant_id"], row["entity_id"]) == (WHO.tenant, WHO.name)
    }
    left: dict[str, list[dict[str, object]]] = {}
    for table, each in rows.items():
        kept = []
        for row in each:
            if row.get("tenant_id") == WHO.tenant and row.get("entity_id") == WHO.name:
                continue
            if row.get("prediction_id") in ours:
                continue
            row = dict(row)
            if table == "lake.enrichments" and row["tenant_id"] == WHO.tenant:
                row["findings"] = json.dumps([{"claim": "fed by", "entity": "?"}])
                row["summary"] = f"after ?, before {NAMES[1]}."
            if table == "lake.audit":
                row["resource"], row["detail"] = "prediction/?", json.dumps({"entity": "?"})
            kept.append(row)
        left[table] = sorted(kept, key=lambda row: json.dumps(row, default=str, sort_keys=True))
    return left
