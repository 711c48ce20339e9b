"""Writes docs/reference/tables.md from the definitions of the tables: `python -m iceberg.table_reference`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from iceberg.tables import DEFINITIONS, PROPERTIES, TENANT_BUCKETS, TableDefinition

_HEAD = """# Tables of the lake

Made from [`iceberg/tables.py`](../../iceberg/tables.py) by `python -m iceberg.table_reference`; a test keeps both equal. Columns that
stream sinks write may be NULL, because a stream database's columns may; those that only headrace writes are required where marked.
Tables of pipelines (`lake.features_<name>`) have their view's columns and `sink_epoch`.

By SQL in the stream database: `predictions` (over all pipelines), and `drift_events`, `training_jobs`, `model_registry` of pipeline
[`operations`](../../pipelines/operations/10_lake_tables.sql), which `headrace dev` or `headrace tables mirror` keeps equal to the lake.

Every table: {properties}. Facts are partitioned by day and by {buckets} buckets of the tenant, and sorted by tenant and time.
"""


def render() -> str:
    """The page as Markdown."""
    properties = ", ".join(f"`{name}` = {value}" for name, value in PROPERTIES.items())
    parts = [_HEAD.format(properties=properties, buckets=TENANT_BUCKETS)]
    parts += ["\n".join(_table(definition)) + "\n" for definition in DEFINITIONS]
    return "\n".join(parts)


def _table(definition: TableDefinition) -> Iterator[str]:
    yield f"## {definition.identifier}"
    yield ""
    yield definition.doc
    if definition.day_of or definition.bucket_of:
        split = [f"day of `{definition.day_of}`"] if definition.day_of else []
        split += [f"bucket of `{definition.bucket_of}`"] if definition.bucket_of else []
        yield f"Partitioned by {' and '.join(split)}."
    yield ""
    yield "| id | column | type | required | meaning |"
    yield "|---|---|---|---|---|"
    for field in definition.schema().fields:
        yield f"| {field.field_id} | `{field.name}` | {field.field_type} | {'yes' if field.required else ''} | {field.doc} |"


if __name__ == "__main__":
    Path("docs/reference/tables.md").write_text(render(), encoding="utf-8")
