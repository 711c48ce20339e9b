"""The tables of the lake and of the registry, each column with its meaning.

Columns that stream sinks write are optional, because a stream database's columns are nullable; those that only our own code
writes are required. Facts are partitioned by day and by bucketed tenant, and sorted by tenant and time within a file.
Structured values travel as JSON text: their shape belongs to the model or the event, not to the table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import TableAlreadyExistsError
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from pyiceberg.types import (
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from core.errors import InvalidInputError

# Each commit writes one file per day and bucket that it touches, so buckets cost small files; 8 keep a scan for one tenant
# out of seven eighths of the data.
TENANT_BUCKETS = 8

# The first of these that a table has, with a time type, is the day that its rows belong to.
TIME_COLUMNS = ("feature_end", "event_time", "window_end", "feature_start", "labelled_at", "created_at", "at")

PROPERTIES: Mapping[str, str] = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.target-file-size-bytes": str(128 * 1024 * 1024),
    # Each commit leaves a metadata file that nobody needs any more: snapshots, not old metadata, are the history.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}


@dataclass(frozen=True)
class Column:
    """A column of a table: its Iceberg type, whether each row must have a value, and what it means."""

    name: str
    type: IcebergType
    doc: str
    required: bool = False


@dataclass(frozen=True)
class TableDefinition:
    """A table with its columns, the column whose day partitions it, and the column whose bucket does."""

    identifier: str
    doc: str
    columns: tuple[Column, ...]
    day_of: str | None = None
    bucket_of: str | None = None

    def schema(self) -> Schema:
        fields = [
            NestedField(
                field_id=i,
                name=column.name,
                field_type=_with_element_id(column.type, i),
                required=column.required,
                doc=column.doc,
            )
            for i, column in enumerate(self.columns, start=1)
        ]
        return Schema(*fields)


_text, _long, _int, _double, _instant = StringType(), LongType(), IntegerType(), DoubleType(), TimestamptzType()
_doubles = ListType(element_id=0, element_type=DoubleType(), element_required=False)


PREDICTIONS = TableDefinition(
    "lake.predictions",
    "Every prediction that was made, one row each.",
    (
        Column("prediction_id", _text, "Deterministic id: the same input and route give the same id."),
        Column("pipeline", _text, "The pipeline that made it."),
        Column("tenant_id", _text, "Who asked."),
        Column("endpoint", _text, "The routed endpoint, e.g. plant.health."),
        Column("entity_id", _text, "What the prediction is about."),
        Column("feature_start", _instant, "Begin of the feature window, event time, inclusive."),
        Column("feature_end", _instant, "End of the feature window, event time, exclusive."),
        Column("features", _doubles, "The feature values, in the order of the model's signature."),
        Column("route_epoch", _long, "The epoch of the route that chose the members."),
        Column("label", _text, "The predicted label; NULL with an error."),
        Column("score", _double, "The score of the label; NULL with an error."),
        Column("members", _text, "JSON array: model, version, weight, value of each member that answered."),
        Column("error", _text, "JSON object with the typed error; NULL when the prediction succeeded."),
        Column("sink_epoch", _long, "The epoch of the stream database whose commit brought the row."),
    ),
    day_of="feature_end",
    bucket_of="tenant_id",
)

FEEDBACK = TableDefinition(
    "lake.feedback",
    "Labels as they came: any order, any delay, repeated; the last by labelled_at counts.",
    (
        Column("tenant_id", _text, "Whose prediction it is."),
        Column("prediction_id", _text, "The prediction that is labelled."),
        Column("label", _text, "The true label."),
        Column("labelled_at", _instant, "When the label was given, event time."),
        Column("source", _text, "Who gave it: sensor, person, rule ..."),
        Column("kafka_offset", _text, "Offset in topic feedback; breaks ties of labelled_at."),
        Column("sink_epoch", _long, "The epoch of the stream database whose commit brought the row."),
    ),
    day_of="labelled_at",
    bucket_of="tenant_id",
)

ENRICHMENTS = TableDefinition(
    "lake.enrichments",
    "What agents found out about anomalies; later revisions stand beside earlier ones.",
    (
        Column("enrichment_id", _text, "Id of this revision."),
        Column("prediction_id", _text, "The prediction that is explained."),
        Column("tenant_id", _text, "Whose prediction it is."),
        Column("revision", _int, "1, 2, ... for one prediction."),
        Column("created_at", _instant, "When the agents finished."),
        Column("summary", _text, "The finding in words."),
        Column("findings", _text, "JSON array: claim, citation, confidence."),
        Column("severity", _text, "Severity proposed by the agents."),
        Column("model", _text, "The language model, or the name of the template reasoner."),
        Column("sink_epoch", _long, "The epoch of the stream database whose commit brought the row."),
    ),
    day_of="created_at",
    bucket_of="tenant_id",
)

AUDIT = TableDefinition(
    "lake.audit",
    "Who did or read what, and whether it was allowed.",
    (
        Column("audit_id", _text, "Id of the entry.", required=True),
        Column("at", _instant, "When it happened.", required=True),
        Column("tenant_id", _text, "The tenant of the caller.", required=True),
        Column("actor", _text, "The caller: user, key or process.", required=True),
        Column("action", _text, "What was done, e.g. predictions.read.", required=True),
        Column("resource", _text, "What it was done to."),
        Column("allowed", _text, "`yes`, or the reason of the refusal.", required=True),
        Column("detail", _text, "JSON object with arguments; never secrets."),
        Column("trace_id", _text, "Trace of the call."),
    ),
    day_of="at",
    bucket_of="tenant_id",
)

DRIFT_EVENTS = TableDefinition(
    "lake.drift_events",
    "Results of drift checks that found drift.",
    (
        Column("drift_id", _text, "Id of the event."),
        Column("at", _instant, "When it was found."),
        Column("tenant_id", _text, "Whose data; NULL when over all tenants."),
        Column("model", _text, "The model concerned."),
        Column("version", _int, "Its version."),
        Column("kind", _text, "DATA, CONCEPT or PREDICTION."),
        Column("feature", _text, "The feature that drifted; NULL for all together."),
        Column("method", _text, "The statistical test."),
        Column("statistic", _double, "Its statistic."),
        Column("p_value", _double, "Its p-value; small means drift."),
        Column("score", _double, "Drift on the scale 0 to 1; great means drift."),
        Column("reference_window", _text, "JSON object: begin, end, snapshot, rows of the reference window."),
        Column("current_window", _text, "JSON object: begin, end, snapshot, rows of the current window."),
        Column("sink_epoch", _long, "The epoch of the stream database whose commit brought the row."),
    ),
    day_of="at",
    bucket_of="tenant_id",
)

TRAINING_JOBS = TableDefinition(
    "lake.training_jobs",
    "Trainings, one row per change of state.",
    (
        Column("job_id", _text, "Id of the job.", required=True),
        Column("at", _instant, "When this state began.", required=True),
        Column("model", _text, "The model that is trained.", required=True),
        Column("state", _text, "queued, running, succeeded, failed.", required=True),
        Column("trigger", _text, "drift, schedule, volume, performance, manual.", required=True),
        Column("reason", _text, "The evidence for the trigger."),
        Column("version", _int, "The version that came out of it."),
        Column("duration_seconds", _double, "How long it ran."),
        Column("metrics", _text, "JSON object of metrics."),
        Column("error", _text, "Why it failed."),
    ),
    day_of="at",
)

ROUTE_HISTORY = TableDefinition(
    "lake.route_history",
    "Every route that was ever active, as `predict` got it; until the next one of the same endpoint.",
    (
        Column("tenant_id", _text, "Whose endpoint it is."),
        Column("endpoint", _text, "The routed endpoint, e.g. plant.health."),
        Column("route_epoch", _long, "The route's epoch; predictions name it."),
        Column("route", _text, "JSON object: strategy, and members with model, version, role, weight, fraction."),
        Column("served_from", _instant, "When the stream database made it active."),
        Column("sink_epoch", _long, "The epoch of the stream database whose commit brought the row."),
    ),
)

ROUTE_CHANGES = TableDefinition(
    "lake.route_changes",
    "Who changed a route, and why; rows that were written into `routes` by hand have none here.",
    (
        Column("tenant_id", _text, "Whose endpoint it is."),
        Column("endpoint", _text, "The routed endpoint."),
        Column("epoch", _long, "The epoch that the change made."),
        Column("strategy", _text, "How the members answer together from then on."),
        Column("members", _text, "JSON array: the members, those that were retired with weight 0."),
        Column("changed_by", _text, "Who, e.g. cli, registry, rerank."),
        Column("reason", _text, "Why, in words."),
        Column("change_id", _text, "Id of the change."),
        Column("evidence", _text, "JSON object: what an automatic change rests on; a promotion's id and the route before it."),
        Column("changed_at", _instant, "When the stream database took it."),
        Column("sink_epoch", _long, "The epoch of the stream database whose commit brought the row."),
    ),
)

MODELS = TableDefinition(
    "registry.models",
    "Names of models, one row each.",
    (
        Column("name", _text, "The model's name.", required=True),
        Column("created_at", _instant, "When its first version was registered.", required=True),
        Column("description", _text, "What it is for."),
        Column("owner", _text, "Who answers for it."),
    ),
)

MODEL_VERSIONS = TableDefinition(
    "registry.model_versions",
    "Sealed model versions; a row is never changed.",
    (
        Column("name", _text, "The model's name.", required=True),
        Column("version", _int, "1, 2, ... without gaps.", required=True),
        Column("registration_id", _text, "Id of the call that registered it.", required=True),
        Column("created_at", _instant, "When it was registered.", required=True),
        Column("kind", _text, "What the model is, e.g. gradient_boosting.", required=True),
        Column("artifact", _text, "Path of the ONNX file below the registry's root.", required=True),
        Column("artifact_sha256", _text, "SHA-256 of the artifact, hexadecimal.", required=True),
        Column("artifact_bytes", _long, "Size of the artifact.", required=True),
        Column("signature", _text, "JSON object: inputs and outputs with name, dtype, shape; feature names.", required=True),
        Column("signature_hash", _text, "SHA-256 of the signature, hexadecimal.", required=True),
        Column("metrics", _text, "JSON object: metric to number.", required=True),
        Column("tags", _text, "JSON object: tag to text.", required=True),
        Column("training_data", _text, "JSON object: table, snapshot, filter, rows, hash.", required=True),
        Column("code_hash", _text, "Hash of the code that trained it.", required=True),
        Column("training_seconds", _double, "How long the training took.", required=True),
    ),
)

ALIASES = TableDefinition(
    "registry.aliases",
    "Names for versions (champion, challenger, v1.0 ...), one row per change; the greatest sequence counts.",
    (
        Column("name", _text, "The model's name.", required=True),
        Column("alias", _text, "The alias.", required=True),
        Column("tenant_id", _text, "For one tenant only; empty for all.", required=True),
        Column("version", _int, "The version it means; NULL when the alias was taken away."),
        Column("sequence", _long, "1, 2, ... over all rows.", required=True),
        Column("set_at", _instant, "When it was set.", required=True),
        Column("actor", _text, "Who set it.", required=True),
    ),
)

PROMOTIONS = TableDefinition(
    "registry.promotions",
    "Changes of stage with all their checks, granted or refused; the greatest sequence of a version that was granted counts.",
    (
        Column("sequence", _long, "1, 2, ... over all rows.", required=True),
        Column("promotion_id", _text, "Id of the decision; the row of a version that it replaced has the same.", required=True),
        Column("at", _instant, "When it was decided.", required=True),
        Column("kind", _text, "promote, rollback, replaced, withdrawn, delete.", required=True),
        Column("name", _text, "The model's name.", required=True),
        Column("version", _int, "Its version.", required=True),
        Column("from_stage", _text, "none, staging, production, archived, or one of the policy's own.", required=True),
        Column("to_stage", _text, "The wanted stage; `deleted` when the version and its artifact are gone.", required=True),
        Column("granted", _text, "`yes` or `no`.", required=True),
        Column("checks", _text, "JSON array: check, inputs, result, reason.", required=True),
        Column("policy_sha256", _text, "SHA-256 of the policy that was asked, hexadecimal; NULL where none was."),
        Column("detail", _text, "JSON object: what was replaced, aliases, and the routes that were found and are wanted."),
        Column("reason", _text, "Why, in words."),
        Column("actor", _text, "Who asked for it.", required=True),
    ),
)

HOLDS = TableDefinition(
    "lake.holds",
    "Legal holds, one row when placed and one when released; what is held is neither expired, dropped nor erased.",
    (
        Column("hold_id", _text, "Id of the hold; both its rows have it.", required=True),
        Column("at", _instant, "When it was placed or released.", required=True),
        Column("action", _text, "`placed` or `released`.", required=True),
        Column("scope", _text, "What is held: `table`, `tenant` or `subject`.", required=True),
        Column("target", _text, "Which one: a table's name, a tenant's id or a subject's id.", required=True),
        Column("reason", _text, "Why, e.g. the reference of the case.", required=True),
        Column("actor", _text, "Who did it.", required=True),
    ),
)

FEATURE_VIEWS = TableDefinition(
    "registry.feature_views",
    "Versions of feature views; a row is never changed.",
    (
        Column("name", _text, "The feature view's name.", required=True),
        Column("version", _int, "1, 2, ... without gaps.", required=True),
        Column("applied_at", _instant, "When it was applied.", required=True),
        Column("fingerprint", _text, "Hash of the declaration.", required=True),
        Column("declaration", _text, "JSON object, see features.declaration.", required=True),
        Column("pipeline", _text, "The pipeline whose folder declares it."),
        Column("sql_hash", _text, "Hash of the SQL of the view in the stream database."),
        Column("epoch", _long, "The stream database's epoch when it was applied."),
    ),
)

DELIVERIES = TableDefinition(
    "registry.deliveries",
    "What became of each decision outside of the registry: one row for each step that ended.",
    (
        Column("promotion_id", _text, "The decision.", required=True),
        Column("step", _text, "stream, warm, alias, route:TENANT/ENDPOINT, webhook:URL.", required=True),
        Column("at", _instant, "When it ended.", required=True),
        Column("state", _text, "done, skipped or failed; a step without a row is still to be done.", required=True),
        Column("detail", _text, "JSON object: what was answered."),
    ),
)

DEFINITIONS: tuple[TableDefinition, ...] = (
    PREDICTIONS,
    FEEDBACK,
    ENRICHMENTS,
    AUDIT,
    DRIFT_EVENTS,
    TRAINING_JOBS,
    ROUTE_HISTORY,
    ROUTE_CHANGES,
    HOLDS,
    MODELS,
    MODEL_VERSIONS,
    ALIASES,
    PROMOTIONS,
    FEATURE_VIEWS,
    DELIVERIES,
)


def ensure_tables(catalog: Catalog, definitions: Sequence[TableDefinition] = DEFINITIONS) -> None:
    """Create those tables that are missing; may be run by several processes at once."""
    for definition in definitions:
        schema = definition.schema()
        _ensure(
            catalog,
            definition.identifier,
            schema,
            partition_spec(schema, definition.day_of, definition.bucket_of),
            sort_order(schema, [column for column in (definition.bucket_of, definition.day_of) if column]),
            {**PROPERTIES, "comment": definition.doc},
        )


def create_table_for_arrow(catalog: Catalog, identifier: str, arrow_schema: pa.Schema) -> Table:
    """Create a table with the columns of an Arrow schema unless it exists, and load it.

    A table of `DEFINITIONS` is created as it is defined there, whoever comes first. For others, a time column named as in `TIME_COLUMNS` gives the day of the partition, `tenant_id` its bucket. All columns are
    optional. Columns `sink_epoch` and `sink_time` are added where they are missing: the epoch of the stream database that made a
    row, and when it was written here, which is when the lake knew it.

    Raises:
        InvalidInputError: a column has a type that Iceberg does not know.
    """
    definition = next((known for known in DEFINITIONS if known.identifier == identifier), None)
    if definition is not None:
        ensure_tables(catalog, (definition,))
        return catalog.load_table(identifier)
    names = arrow_schema.names
    if "sink_epoch" not in names:
        arrow_schema = arrow_schema.append(pa.field("sink_epoch", pa.int64()))
    if "sink_time" not in names:
        arrow_schema = arrow_schema.append(pa.field("sink_time", pa.timestamp("us", "UTC")))
    arrow_schema = pa.schema([pa.field(field.name, _lake_type(field, identifier), nullable=True) for field in arrow_schema])
    try:
        schema = assign_fresh_schema_ids(catalog._convert_schema_if_needed(arrow_schema))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"schema cannot be stored: {error}", where=identifier, fix="Cast the column in the query."
        ) from error
    times = {field.name for field in schema.fields if isinstance(field.field_type, TimestampType | TimestamptzType)}
    day_of = next((column for column in TIME_COLUMNS if column in times), None)
    bucket_of = "tenant_id" if "tenant_id" in names else None
    order = [column for column in ("tenant_id", "entity_id") if column in names] + ([day_of] if day_of else [])
    return _ensure(
        catalog, identifier, schema, partition_spec(schema, day_of, bucket_of), sort_order(schema, order), PROPERTIES
    )


def partition_spec(schema: Schema, day_of: str | None, bucket_of: str | None) -> PartitionSpec:
    """Partition by the day of one column and the bucket of another, either of which may be absent."""
    fields = []
    if day_of is not None:
        source = schema.find_field(day_of).field_id
        fields.append(PartitionField(source, PARTITION_FIELD_ID_START, DayTransform(), f"{day_of}_day"))
    if bucket_of is not None:
        source = schema.find_field(bucket_of).field_id
        fields.append(
            PartitionField(source, PARTITION_FIELD_ID_START + 1, BucketTransform(TENANT_BUCKETS), f"{bucket_of}_bucket")
        )
    return PartitionSpec(*fields)


def sort_order(schema: Schema, columns: Sequence[str]) -> SortOrder:
    """Sort ascending by columns."""
    fields = [
        SortField(schema.find_field(column).field_id, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_LAST)
        for column in columns
    ]
    return SortOrder(*fields) if fields else SortOrder(order_id=0)


def _ensure(
    catalog: Catalog, identifier: str, schema: Schema, spec: PartitionSpec, order: SortOrder, properties: Mapping[str, str]
) -> Table:
    if not catalog.table_exists(identifier):
        with contextlib.suppress(TableAlreadyExistsError):  # somebody else was faster; both want the same
            catalog.create_table(identifier, schema, partition_spec=spec, sort_order=order, properties=dict(properties))
    return catalog.load_table(identifier)


def _with_element_id(kind: IcebergType, column: int) -> IcebergType:
    """Give a list's element an id of its own, out of the way of the columns' ids."""
    if isinstance(kind, ListType):
        return ListType(element_id=1000 + column, element_type=kind.element_type, element_required=kind.element_required)
    return kind


def _lake_type(field: pa.Field, identifier: str) -> pa.DataType:
    """The type in which a column of the stream database is stored."""
    kind = field.type
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC") if kind.tz else pa.timestamp("us")
    if pa.types.is_null(kind):
        raise InvalidInputError(
            f"column `{field.name}` has no type", where=identifier, fix="Cast it in the query, e.g. `NULL::VARCHAR`."
        )
    return kind
