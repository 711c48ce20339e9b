"""Feast, run in a virtual environment of its own: point-in-time joins and online reads of what `benchmarks/feature_store.py` wrote.

feast_store.py history FOLDER          joins FOLDER/labels.parquet to FOLDER/history.parquet with the file (Dask) offline store
feast_store.py online FOLDER sqlite|redis [HOST:PORT]
"""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

ROUNDS = 3


def store(folder: Path, online: dict[str, object]) -> FeatureStore:
    registry = folder / f"registry-{online['type']}.db"
    registry.unlink(missing_ok=True)
    config = RepoConfig(
        project="bench",
        registry=str(registry),
        provider="local",
        offline_store={"type": "file"},
        online_store=online,
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def view(name: str, file: Path, features: list[str], entity: Entity) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(days=365),
        schema=[Field(name=each, dtype=Float64) for each in features],
        source=FileSource(path=str(file), timestamp_field="feature_end"),
    )


def history(folder: Path) -> dict[str, object]:
    entity = Entity(name="entity_id", join_keys=["entity_id"], value_type=ValueType.STRING)
    columns = [name for name in pd.read_parquet(folder / "history.parquet").columns if name.startswith("x")]
    feast = store(folder, {"type": "sqlite", "path": str(folder / "unused.db")})
    feast.apply([entity, view("wide", folder / "history.parquet", columns, entity)])
    seconds = []
    for _ in range(ROUNDS):
        labels = pd.read_parquet(folder / "labels.parquet").rename(columns={"event_time": "event_timestamp"})
        began = time.perf_counter()
        found = feast.get_historical_features(
            labels[["entity_id", "event_timestamp", "n"]], [f"wide:{c}" for c in columns]
        ).to_df()
        seconds.append(time.perf_counter() - began)
    found.sort_values("n")[["n", *columns]].to_parquet(folder / "feast.parquet", index=False)
    return {"seconds": seconds, "rows": len(found)}


def online(folder: Path, kind: str, address: str) -> dict[str, object]:
    entity = Entity(name="entity_id", join_keys=["entity_id"], value_type=ValueType.STRING)
    chosen: dict[str, object] = {"type": "sqlite", "path": str(folder / "online.db")}
    if kind == "redis":
        chosen = {"type": "redis", "connection_string": address}
    feast = store(folder, chosen)
    frames = {file.stem: pd.read_parquet(file) for file in sorted(folder.glob("wide*.parquet"))}
    columns = {name: [c for c in frame.columns if c.startswith("x")] for name, frame in frames.items()}
    feast.apply([entity, *(view(name, folder / f"{name}.parquet", columns[name], entity) for name in frames)])
    for name, frame in frames.items():
        feast.write_to_online_store(name, frame)
    references = [f"{name}:{column}" for name in frames for column in columns[name]]
    plan = json.loads((folder / "plan.json").read_text())
    milliseconds = []
    for number, entities in enumerate(plan["reads"]):
        rows = [{"entity_id": each} for each in entities]
        began = time.perf_counter()
        found = feast.get_online_features(references, rows).to_dict()
        milliseconds.append((time.perf_counter() - began) * 1000)
        if number == 0:
            first = {column: found[column] for names in columns.values() for column in names}
    (folder / f"feast-{kind}.json").write_text(json.dumps(first))
    return {"milliseconds": milliseconds[plan["warm_up"] :]}


if __name__ == "__main__":
    random.seed(0)
    where = Path(sys.argv[2])
    result = (
        history(where) if sys.argv[1] == "history" else online(where, sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else "")
    )
    print("RESULT " + json.dumps(result))
