"""Time travel returns what SELECT returned then, bit for bit: after commits, merges, compaction, expiry and orphan removal.

At several moments the rows of a view are asked of the stream database, and of the lake through Python and GraphQL. Then the
table goes on living and is maintained. Asked again as of those moments, the lake must give the same Arrow bytes.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow

from api.app import build_app
from core.clock import SystemClock
from core.errors import NotFoundError
from core.settings import Settings
from iceberg.catalog import open_catalog
from iceberg.compaction import compact
from iceberg.expiry import expire_snapshots
from iceberg.history import read_as_of
from iceberg.merge import merge
from iceberg.orphans import remove_orphans
from iceberg.tables import PREDICTIONS
from iceberg.usage import measure_table
from tests.e2e.deployment import Deployment

pytestmark = pytest.mark.timeout(280)

LAKE = PREDICTIONS.identifier
COLUMNS = [column.name for column in PREDICTIONS.columns if column.name != "sink_epoch"]
KEY = "prediction_id"
ROWS = 40
SQL = """CREATE TABLE NAME_t (prediction_id VARCHAR PRIMARY KEY, pipeline VARCHAR, tenant_id VARCHAR, endpoint VARCHAR,
    entity_id VARCHAR, feature_start TIMESTAMPTZ, feature_end TIMESTAMPTZ, features DOUBLE PRECISION[], route_epoch BIGINT,
    label VARCHAR, score DOUBLE PRECISION, members JSONB, error JSONB) APPEND ONLY ON CONFLICT DO NOTHING;
CREATE MATERIALIZED VIEW NAME_m AS SELECT * FROM NAME_t;
CREATE SINK NAME_lake FROM NAME_m WITH (
    connector = 'iceberg', type = 'append-only', force_append_only = 'true', warehouse.path = '${WAREHOUSE}',
    catalog.type = '${CATALOG_TYPE}', catalog.uri = '${CATALOG_URI}', database.name = 'lake', table.name = 'predictions',
    create_table_if_not_exists = 'true'
);
"""
QUERY = """query ($at: DateTime, $after: Cursor) { predictions(first: 25, after: $after, asOf: $at) {
  edges { node { id tenant label score features featureEnd routeEpoch error } } pageInfo { hasNextPage endCursor } } }"""


@dataclass(frozen=True)
class Moment:
    """What was seen at a time."""

    at: datetime
    snapshot_id: int
    selected: bytes
    graphql: str


def inserted(step: int) -> str:
    """Rows with values that are easily lost: NULLs, empty and odd floats, unicode, instants with microseconds."""
    rows = []
    for n in range(step * ROWS, (step + 1) * ROWS):
        label, score = ("NULL", "NULL") if n % 7 == 0 else (f"'wörn {n % 3}'", repr(1 / (n + 3)))
        error = """'{"code": "no_model"}'""" if n % 7 == 0 else "NULL"
        rows.append(
            f"('p{n:05}', 'plant', '{'acme' if n % 2 else 'globex'}', 'plant.health', 'pump-{n % 5}', "
            f"'2026-01-31 08:00:{n % 60:02}.{n:06}+00', '2026-01-31 08:01:{n % 60:02}.{n:06}+00', "
            f"ARRAY[{n / 3!r}, -0.0, 1e-300]::DOUBLE PRECISION[], {n}, {label}, {score}, '[]', {error})"
        )
    return f"INSERT INTO NAME_t VALUES {', '.join(rows)}"


def ordered(rows: pa.Table) -> bytes:
    """The rows as Arrow writes them, in the order of the stable key."""
    whole = rows.select(COLUMNS).sort_by(KEY).combine_chunks().replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def of_lake(catalog: Catalog, **when: object) -> bytes:
    return ordered(read_as_of(catalog, LAKE, **when))  # type: ignore[arg-type]


def selected(deployment: Deployment, schema: pa.Schema) -> bytes:
    """What SELECT returns, in the lake's types; JSON stays the text that the database sent."""
    statement = f"SELECT {', '.join(COLUMNS)} FROM {deployment.name}_m".replace("members", "members::varchar")
    statement = statement.replace(" error", " error::varchar")
    with psycopg.connect(deployment.url, autocommit=True) as connection:
        rows = connection.execute(statement.encode()).fetchall()
    return ordered(pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], schema=schema))


def through_graphql(settings: Settings, at: datetime) -> str:
    """All pages of one tenant, as JSON."""

    async def ask() -> str:
        app, nodes, after = build_app(settings, clock=SystemClock()), [], None
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            while True:
                variables = {"at": at.isoformat(), "after": after}
                answer = await client.post(
                    "/graphql", json={"query": QUERY, "variables": variables}, headers={"Authorization": "Bearer key-of-acme"}
                )
                page = answer.json()["data"]["predictions"]
                nodes += [edge["node"] for edge in page["edges"]]
                after = page["pageInfo"]["endCursor"]
                if not page["pageInfo"]["hasNextPage"]:
                    return json.dumps(nodes, sort_keys=True)

    return asyncio.run(ask())


def delivered(catalog: Catalog, count: int) -> int:
    """Wait until so many rows are in the lake; gives the snapshot."""
    deadline = time.monotonic() + 60
    while True:
        if catalog.table_exists(LAKE):
            snapshot = catalog.load_table(LAKE).current_snapshot()
            summary = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
            if snapshot is not None and int(summary.get("total-records", 0)) >= count:
                return snapshot.snapshot_id
        assert time.monotonic() < deadline, f"the sink did not deliver {count} rows"
        time.sleep(0.05)


def test_the_past_reads_as_it_was_selected_then(bare_deployment: Deployment, bare_platform: dict[str, str]) -> None:
    deployment = bare_deployment
    deployment.write("10_t.sql", SQL)
    deployment.apply()
    catalog = open_catalog("jdbc", deployment.values["CATALOG_URI"], deployment.values["WAREHOUSE"])
    settings = Settings.model_validate(
        {
            "data_dir": Path(bare_platform["data_dir"]),
            "database_url": bare_platform["database"],
            "kafka": bare_platform["kafka"],
            "api_keys": {"acme": "key-of-acme"},
        }
    )
    schema = schema_to_pyarrow(PREDICTIONS.schema(), include_field_ids=False)
    schema = pa.schema([schema.field(name) for name in COLUMNS])

    moments = []
    for step in range(4):
        deployment.query(inserted(step))
        snapshot_id = delivered(catalog, (step + 1) * ROWS)
        at = datetime.now(UTC)
        rows = selected(deployment, schema)
        assert of_lake(catalog, as_of=at) == rows, "the lake has what the database has"
        moments.append(Moment(at, snapshot_id, rows, through_graphql(settings, at)))
    assert len({moment.selected for moment in moments}) == 4
    assert [len(json.loads(moment.graphql)) for moment in moments] == [20, 40, 60, 80]

    # The table lives on: rows are corrected, taken away and added; then everything is maintained.
    now = read_as_of(catalog, LAKE)
    corrected = now.filter(pa.compute.field("tenant_id") == "acme").slice(0, 30)
    label = corrected.schema.get_field_index("label")
    corrected = corrected.set_column(
        label, corrected.schema.field(label), pa.array(["corrected"] * 30, corrected.schema.field(label).type)
    )
    merge(catalog, LAKE, key=[KEY], upserts=corrected, deletes=now.slice(140, 10).select([KEY]))
    catalog.load_table(LAKE).delete("entity_id = 'pump-3'")
    left = read_as_of(catalog, LAKE).num_rows
    deployment.query(inserted(4))
    deadline = time.monotonic() + 60
    while read_as_of(catalog, LAKE).num_rows < left + ROWS:
        assert time.monotonic() < deadline, "the sink did not go on"
    assert compact(catalog, LAKE).commits >= 1
    before = measure_table(catalog, LAKE)
    expired = expire_snapshots(catalog, LAKE, older_than=moments[1].at, keep_last=1)
    assert moments[0].snapshot_id in expired.snapshots
    removed = remove_orphans(catalog, LAKE, older_than=timedelta(0))
    assert measure_table(catalog, LAKE).snapshots < before.snapshots
    assert removed.failed == ()

    again = open_catalog("jdbc", deployment.values["CATALOG_URI"], deployment.values["WAREHOUSE"])
    for moment in moments[1:]:
        assert of_lake(again, as_of=moment.at) == moment.selected
        assert of_lake(again, snapshot_id=moment.snapshot_id) == moment.selected
        assert through_graphql(settings, moment.at) == moment.graphql
    assert of_lake(again) != moments[-1].selected, "what is now is something else"
    with pytest.raises(NotFoundError, match="before the history that is kept"):
        read_as_of(again, LAKE, as_of=moments[0].at)
