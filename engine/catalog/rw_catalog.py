"""The relations of `rw_catalog`: RisingWave's, and our own (`headrace_*`) about what the engine does right now."""

from __future__ import annotations

from collections.abc import Iterator

from engine.catalog.catalog import SYSTEM_SCHEMAS
from engine.catalog.objects import (
    CatalogObject,
    Connection,
    Function,
    Index,
    Input,
    MaterializedView,
    Relation,
    Sink,
    Subscription,
)
from engine.catalog.pg_catalog import columns_of, descriptions, schema_oid
from engine.catalog.relations import DATABASE_ID, OWNER_ID, Declared, Row, Rows, View, nothing
from engine.sql.types import SCALARS, UNKNOWN, list_of

_RELATIONS = ("table", "source", "materialized view", "view", "index", "sink", "subscription")


def _place(found: CatalogObject) -> Row:
    return (found.id, found.name, schema_oid(found.schema), OWNER_ID, found.sql, None)


def _relations(view: View) -> Iterator[Row]:
    for found in view.objects(*_RELATIONS):
        yield (found.id, found.name, found.kind, schema_oid(found.schema), found.schema, OWNER_ID, found.sql, None)


def _plain(kind: str) -> Rows:
    return lambda view: (_place(found) for found in view.objects(kind))


def _tables(view: View) -> Iterator[Row]:
    for found in view.objects("table"):
        assert isinstance(found, Input)
        yield (*_place(found), found.append_only, found.on_conflict, found.schema)


def _sources(view: View) -> Iterator[Row]:
    for found in view.objects("source"):
        assert isinstance(found, Input)
        shape = found.format
        yield (*_place(found), found.options.get("connector"), shape.format if shape else None, shape.encode if shape else None, True, found.schema)  # fmt: skip


def _materialized_views(view: View) -> Iterator[Row]:
    for found in view.objects("materialized view"):
        assert isinstance(found, MaterializedView)
        yield (*_place(found), found.append_only, found.emit_on_window_close, found.schema)


def _sinks(view: View) -> Iterator[Row]:
    for found in view.objects("sink"):
        assert isinstance(found, Sink)
        kind = found.options.get("type") or (found.format.format.lower() if found.format else None)
        yield (*_place(found), "table" if found.into else found.options.get("connector"), kind, found.schema)


def _subscriptions(view: View) -> Iterator[Row]:
    for found in view.objects("subscription"):
        assert isinstance(found, Subscription)
        yield (*_place(found), found.relation, found.retention_seconds, found.schema)


def _indexes(view: View) -> Iterator[Row]:
    for found in view.objects("index"):
        assert isinstance(found, Index)
        yield (*_place(found), found.relation)


def _columns(view: View) -> Iterator[Row]:
    for found in view.objects(*_RELATIONS):
        columns = found.columns if isinstance(found, Relation) else columns_of(found, view)
        key = {found.columns[p].name for p in found.key} if isinstance(found, Relation) else set()
        for number, column in enumerate(columns, start=1):
            if not column.name.startswith("_dropped_"):
                yield (found.id, column.name, number, column.hidden, column.name in key, column.type.sql, column.type.oid, column.generated is not None, not column.not_null)  # fmt: skip


def _functions(view: View) -> Iterator[Row]:
    for found in view.objects("function"):
        assert isinstance(found, Function)
        names = [name or "" for name, _ in found.arguments]
        types = [type_.sql for _, type_ in found.arguments]
        yield (found.id, found.name, schema_oid(found.schema), OWNER_ID, found.form, names, types, found.returns.sql, found.language, found.server)  # fmt: skip


def _connections(view: View) -> Iterator[Row]:
    for found in view.objects("connection"):
        assert isinstance(found, Connection)
        yield (found.id, found.name, schema_oid(found.schema), OWNER_ID, found.options["type"], None, None)


def _parallelism(view: View) -> Iterator[Row]:
    for found in view.objects("table", "materialized view", "sink", "index"):
        yield (found.id, found.name, found.kind, "ADAPTIVE")


def _system_tables(view: View) -> Iterator[Row]:
    for found in sorted(view.catalog.objects.values(), key=lambda o: o.id):
        if found.kind == "system":
            yield (found.id, found.name, schema_oid(found.schema), OWNER_ID, None, None, found.schema)


def _relation_info(view: View) -> Iterator[Row]:
    for found in view.objects(*_RELATIONS):
        yield (found.schema, found.name, OWNER_ID, found.sql, found.kind.upper(), found.id)


def _types(_view: View) -> Iterator[Row]:
    for scalar in (t for t in SCALARS if t != UNKNOWN):
        yield (scalar.oid, scalar.sql, scalar.oid, 0, list_of(scalar).oid)


def _users(view: View) -> Iterator[Row]:
    for user in view.catalog.users.values():
        yield (user.id, user.name, user.superuser, user.create_db, user.create_user, user.login)


def _depend(view: View) -> Iterator[Row]:
    for found in view.objects():
        for below in found.depends_on:
            yield (found.id, below)


def _schemas(view: View) -> Iterator[Row]:
    for schema in (*sorted(view.catalog.databases[view.database]), *SYSTEM_SCHEMAS):
        yield (schema_oid(schema), schema, OWNER_ID)


def _databases(view: View) -> Iterator[Row]:
    for number, name in enumerate(sorted(view.catalog.databases), start=1):
        yield (number, name, OWNER_ID)


_OF_A_CLUSTER = {
    "rw_actors": "actor_id int4, fragment_id int4, worker_id int4, state text",
    "rw_actor_infos": "actor_id int4, fragment_id int4, worker_id int4",
    "rw_actor_id_to_ddl": "actor_id int4, fragment_id int4, job_id int4, schema_id int4, ddl_type text, name text",
    "rw_fragments": "fragment_id int4, table_id int4, distribution_type text, state_table_ids int4[], upstream_fragment_ids int4[], flags text[], parallelism int4, max_parallelism int4, node jsonb",
    "rw_fragment_id_to_ddl": "fragment_id int4, job_id int4, schema_id int4, ddl_type text, name text",
    "rw_fragment_parallelism": "id int4, name text, relation_type text, fragment_id int4, distribution_type text, state_table_ids int4[], upstream_fragment_ids int4[], flags text[], parallelism int4",
    "rw_table_fragments": "table_id int4, status text, parallelism text, max_parallelism int4",
    "rw_streaming_jobs": "job_id int4, status text, name text, relation_type text, parallelism text, max_parallelism int4, resource_group text, database_id int4, schema_id int4",
    "rw_rate_limit": "fragment_id int4, fragment_type text[], node_name text, table_id int4, rate_limit int4, id int4, name text, relation_type text",
    "rw_event_logs": "unique_id text, timestamp time, event_type text, info jsonb",
    "rw_meta_snapshot": "meta_snapshot_id int8, hummock_version_id int8, remarks text, state_table_info jsonb, rw_version text",
    "rw_recovery_info": "database_id int4, in_flight_barrier_nums int8, last_committed_epoch int8",
    "rw_cdc_progress": "job_id int4, split_total_count int8, split_backfilled_count int8, split_completed_count int8",
    "rw_user_secrets": "user_id int4, secret_id int4",
    "rw_resource_groups": "name text, streaming_workers int4, parallelism int4, databases int8, streaming_jobs int8",
    "rw_backfill_info": "job_id int4, fragment_id int4, backfill_state_table_id int4, backfill_target_relation_id int4, backfill_type text, backfill_epoch int8",
    "rw_fragment_backfill_progress": "job_id int4, fragment_id int4, backfill_state_table_id int4, current_row_count int8, min_epoch int8",
    "rw_iceberg_files": "source_id int4, schema_name text, source_name text, content int4, file_path text, file_format text, record_count int8, file_size_in_bytes int8",
    "rw_iceberg_snapshots": "source_id int4, schema_name text, source_name text, sequence_number int8, snapshot_id int8, timestamp_ms time, manifest_list text, summary jsonb",
    "rw_hummock_branched_objects": "object_id int8, sst_id int8, compaction_group_id int8",
    "rw_hummock_checkpoint_version": "version_id int8, max_committed_epoch int8, compaction_group jsonb",
    "rw_hummock_compact_task_assignment": "compaction_group_id int8, task_id int8, select_level int4, target_level int4, task_type int4, task_status int4",
    "rw_hummock_compact_task_progress": "compaction_group_id int8, task_id int8, num_ssts_sealed int4, num_ssts_uploaded int4, num_progress_key int8, num_pending_read_io int8, num_pending_write_io int8",
    "rw_hummock_compaction_group_configs": "id int8, parent_id int8, member_tables jsonb, compaction_config jsonb, active_write_limit jsonb",
    "rw_hummock_current_version": "version_id int8, max_committed_epoch int8, compaction_group jsonb",
    "rw_hummock_meta_configs": "config_name text, config_value text",
    "rw_hummock_pinned_snapshots": "worker_node_id int4, min_pinned_snapshot_id int8",
    "rw_hummock_pinned_versions": "worker_node_id int4, min_pinned_version_id int8",
    "rw_hummock_sstables": "sstable_id int8, object_id int8, compaction_group_id int8, level_id int4, key_range_left text, key_range_right text, file_size int8, stale_key_count int8, total_key_count int8",
    "rw_hummock_version_deltas": "id int8, prev_id int8, max_committed_epoch int8, trivial_move bool, gc_object_ids jsonb, group_deltas jsonb",
}  # fmt: skip
_COMMON = "id int4, name text, schema_id int4, owner int4, definition text, acl text"
RW_CATALOG: tuple[Declared, ...] = (
    Declared("rw_catalog", "rw_relations", "id int4, name text, relation_type text, schema_id int4, schema_name text, owner int4, definition text, acl text", _relations),
    Declared("rw_catalog", "rw_tables", f"{_COMMON}, append_only bool, on_conflict text, schema_name text", _tables),
    Declared("rw_catalog", "rw_sources", f"{_COMMON}, connector text, format text, row_encode text, append_only bool, schema_name text", _sources),
    Declared("rw_catalog", "rw_materialized_views", f"{_COMMON}, append_only bool, emit_on_window_close bool, schema_name text", _materialized_views),
    Declared("rw_catalog", "rw_views", _COMMON, _plain("view")),
    Declared("rw_catalog", "rw_sinks", f"{_COMMON}, connector text, sink_type text, schema_name text", _sinks),
    Declared("rw_catalog", "rw_subscriptions", f"{_COMMON}, relation_id int4, retention_seconds float8, schema_name text", _subscriptions),
    Declared("rw_catalog", "rw_indexes", f"{_COMMON}, primary_table_id int4", _indexes),
    Declared("rw_catalog", "rw_columns", "relation_id int4, name text, position int4, is_hidden bool, is_primary_key bool, data_type text, type_oid int4, is_generated bool, is_nullable bool", _columns),
    Declared("rw_catalog", "rw_functions", "id int4, name text, schema_id int4, owner int4, type text, arg_names text[], arg_types text[], return_type text, language text, link text", _functions),
    Declared("rw_catalog", "rw_secrets", "id int4, name text, schema_id int4, owner int4, acl text", lambda view: ((o.id, o.name, schema_oid(o.schema), OWNER_ID, None) for o in view.objects("secret"))),
    Declared("rw_catalog", "rw_connections", "id int4, name text, schema_id int4, owner int4, type text, provider text, acl text", _connections),
    Declared("rw_catalog", "rw_streaming_parallelism", "id int4, name text, relation_type text, parallelism text", _parallelism),
    Declared("rw_catalog", "rw_depend", "objid int4, refobjid int4", _depend),
    Declared("rw_catalog", "rw_schemas", "id int4, name text, owner int4", _schemas),
    Declared("rw_catalog", "rw_databases", "id int4, name text, owner int4", _databases),
    Declared("rw_catalog", "rw_users", "id int4, name text, is_super bool, create_db bool, create_user bool, can_login bool", _users),
    Declared("rw_catalog", "rw_description", "objoid int4, classoid int4, objsubid int4, description text", descriptions),
    Declared("rw_catalog", "rw_worker_nodes", "id int4, host text, port text, type text, state text", lambda _view: ((DATABASE_ID, "127.0.0.1", None, "WORKER_TYPE_ALL", "RUNNING"),)),
    Declared("rw_catalog", "rw_system_tables", "id int4, name text, schema_id int4, owner int4, definition text, acl text, schema_name text", _system_tables),
    Declared("rw_catalog", "rw_relation_info", "schemaname text, relationname text, relationowner int4, definition text, relationtype text, relationid int4", _relation_info),
    Declared("rw_catalog", "rw_types", "id int4, name text, input_oid int4, typelem int4, typarray int4", _types),
    # A cluster's: its actors, fragments and storage have no like here.
    *(Declared("rw_catalog", name, columns, nothing) for name, columns in _OF_A_CLUSTER.items()),
    # What only the running engine knows; see docs/reference and `engine.front.live`.
    Declared("rw_catalog", "rw_ddl_progress", "ddl_id int8, ddl_statement text, progress text, initialized_at time"),
    Declared("rw_catalog", "rw_internal_tables", "id int4, name text, schema_id int4, owner int4, definition text, acl text, schema_name text, job_id int4"),
    Declared("rw_catalog", "rw_table_stats", "id int4, total_key_count int8, total_key_size int8, total_value_size int8"),
    Declared("rw_catalog", "headrace_objects", "id int4, name text, schema_name text, kind text, rows int8, state_rows int8, state_tables int4, size_bytes int8"),
    Declared("rw_catalog", "headrace_state_tables", "object_id int4, object_name text, name text, operator text, rows int8"),
    Declared("rw_catalog", "headrace_jobs", "id int4, name text, kind text, runs int8, statements int8, seconds float8, mean_ms float8"),
    Declared("rw_catalog", "headrace_barriers", "epoch int8, epochs_run int8, mean_ms float8, last_ms float8, p50_ms float8, p99_ms float8, problem text"),
    Declared("rw_catalog", "headrace_sources", "id int4, name text, partition int4, position int8, lag int8, rows_read int8, watermark time"),
    Declared("rw_catalog", "headrace_sinks", "id int4, name text, connector text, delivered_epoch int8, backlog_rows int8, backlog_epochs int8, problem text"),
    Declared("rw_catalog", "headrace_subscriptions", "id int4, name text, relation text, log_rows int8, oldest_ms int8, retention_seconds float8"),
)  # fmt: skip
