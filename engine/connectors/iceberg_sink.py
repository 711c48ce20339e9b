"""`connector = 'iceberg'`: rows, appended or merged by key, and the sink's epoch go into a table in one commit (`iceberg.sink`)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import pyarrow as pa

from core.errors import ConfigError, InvalidInputError
from engine.connectors.arrow_types import nested_type, rebuild
from engine.connectors.operations import EPOCH, keep_insertions
from engine.connectors.options import must_get_option, parse_bool, parse_choice, parse_int, refuse_unknown_options
from engine.connectors.sink_keys import last_of_each_key, read_key
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.numeric_arrow import numeric_decimals
from engine.sql.types import SqlType
from iceberg.catalog import ensure_namespace, open_catalog
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import create_table_for_arrow

# RisingWave's names for what PyIceberg calls otherwise.
_CATALOG_PROPERTIES = {
    "s3.endpoint": "s3.endpoint", "s3.region": "s3.region", "s3.access.key": "s3.access-key-id",
    "s3.secret.key": "s3.secret-access-key", "s3.path.style.access": "s3.force-virtual-addressing",
    "catalog.credential": "credential", "catalog.token": "token", "catalog.oauth2_server_uri": "oauth2-server-uri",
    "catalog.scope": "scope",
}  # fmt: skip
_OPTIONS = (
    "connector", "type", "force_append_only", "primary_key", "warehouse.path", "catalog.type", "catalog.uri", "catalog.name",
    "database.name", "table.name", "create_table_if_not_exists", "commit_checkpoint_interval", "is_exactly_once",
    *_CATALOG_PROPERTIES,
)  # fmt: skip
_WHAT = "the iceberg sink"
# Iceberg has no 16-bit integer, no interval, and keeps instants with the zone UTC.
_SCALARS = {
    "bool": pa.bool_(), "int2": pa.int32(), "int4": pa.int32(), "int8": pa.int64(), "serial": pa.int64(), "float4": pa.float32(),
    "float8": pa.float64(), "varchar": pa.string(), "unknown": pa.string(), "bytea": pa.binary(), "date": pa.date32(),
    "time": pa.time64("us"), "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"), "jsonb": pa.string(),
    "numeric": pa.decimal128(38, 18),
}  # fmt: skip


class IcebergSink:
    """A `SinkWriter` on one Iceberg table; several sinks may share a table.

    Args:
        sink_id: the sink's lasting identity; its epoch is the table property `headrace.sink.<uuid>.epoch`.
        options: the WITH options of the sink.
        fields: name and type of the visible columns, in order.
        key: the key of the query, for `type = 'upsert'` without `primary_key`.

    Raises:
        SqlError: an option is unknown, missing or malformed, or a column has a type that Iceberg does not know.
    """

    def __init__(
        self,
        sink_id: uuid.UUID,
        options: Mapping[str, str],
        fields: Sequence[tuple[str, SqlType]],
        key: Sequence[str] = (),
    ) -> None:
        refuse_unknown_options(options, _OPTIONS, what=_WHAT)
        upsert = parse_choice(options, "type", ("append-only", "upsert"), default="append-only") == "upsert"
        self._key = read_key(options.get("primary_key"), key, fields, required=True, what="type = 'upsert'") if upsert else ()
        self._force_append_only = parse_bool(options, "force_append_only", default=False)
        self._create = parse_bool(options, "create_table_if_not_exists", default=False)
        parse_int(options, "commit_checkpoint_interval", default=1, minimum=1)  # each delivery is a commit; see `Delivery`
        self._catalog_type = must_get_option(options, "catalog.type", what=_WHAT)
        if self._catalog_type not in ("jdbc", "rest"):
            raise UnsupportedQuery(
                f"catalog.type `{self._catalog_type}` is not supported here", fix="Use jdbc (SQLite) or rest."
            )
        self._catalog_uri = must_get_option(options, "catalog.uri", what=_WHAT)
        self._warehouse = must_get_option(options, "warehouse.path", what=_WHAT)
        self._catalog_name = options.get("catalog.name", "headrace")
        self._namespace = must_get_option(options, "database.name", what=_WHAT)
        self._identifier = f"{self._namespace}.{must_get_option(options, 'table.name', what=_WHAT)}"
        self._properties = {ours: options[name] for name, ours in _CATALOG_PROPERTIES.items() if name in options}
        if "s3.path.style.access" in options:
            path_style = parse_bool(options, "s3.path.style.access", default=False)
            self._properties["s3.force-virtual-addressing"] = str(not path_style).lower()
        self._sink_id = sink_id
        self._fields = tuple(fields)
        self._schema = pa.schema([(name, _lake_type(name, type_)) for name, type_ in fields])
        self._table: ExactlyOnceTable | None = None

    def open(self) -> int:
        """See `SinkWriter.open`.

        Two writers in one sink's name cannot both commit an epoch: each commit checks the property it changes.

        Raises:
            NotFoundError: there is no such table, and it is not to be created.
            UnavailableError: the catalog does not answer.
        """
        try:
            catalog = open_catalog(
                self._catalog_type, self._catalog_uri, self._warehouse, self._catalog_name, properties=self._properties
            )
        except ConfigError as error:
            raise InvalidParameter(error.what, where=error.where, fix=error.fix) from error
        if self._create:
            ensure_namespace(catalog, self._namespace)
            create_table_for_arrow(catalog, self._identifier, self._schema)
        self._table = ExactlyOnceTable(catalog, self._identifier, self._sink_id)
        return self._table.last_epoch()

    def deliver(self, epoch: int, rows: pa.Table) -> None:
        """See `SinkWriter.deliver`.

        Raises:
            InvalidInputError: a row of an append-only sink is deleted or updated, a key is NULL in part, or the rows do not fit the table.
            UnavailableError: the catalog or the storage does not answer.
        """
        assert self._table is not None, "open comes first"
        if self._key:
            written, deleted = last_of_each_key(rows, self._key)
            self._table.merge(
                epoch,
                key=self._key,
                upserts=self._to_lake(written),
                deletes=self._to_lake(deleted),
                epochs=written.column(EPOCH) if EPOCH in written.column_names else None,
            )
            return
        inserted = keep_insertions(rows, forced=self._force_append_only, where=f"sink into {self._identifier}")
        self._table.append(epoch, self._to_lake(inserted), inserted.column(EPOCH) if EPOCH in inserted.column_names else None)

    def close(self) -> None:
        self._table = None

    def _to_lake(self, rows: pa.Table) -> pa.Table:
        columns = []
        for (name, type_), field in zip(self._fields, self._schema, strict=True):
            chunks = [rebuild(chunk, type_, field.type, _to_lake) for chunk in rows.column(name).chunks]
            columns.append(pa.chunked_array(chunks, field.type))
        return pa.table(columns, schema=self._schema)


def _lake_type(name: str, type_: SqlType) -> pa.DataType:
    def scalar(inner: SqlType) -> pa.DataType:
        if inner.name not in _SCALARS:
            raise UnsupportedQuery(
                f"column `{name}` of type {type_.sql} cannot be stored in Iceberg",
                fix=f"Cast it in the sink's query, e.g. {name}::varchar.",
            )
        return _SCALARS[inner.name]

    return nested_type(type_, scalar)


def _to_lake(array: pa.Array, type_: SqlType) -> pa.Array:
    """Physical scalars as the lake's; a naive `timestamptz` is UTC and gets its zone."""
    try:
        if type_.name == "numeric":
            return pa.array(numeric_decimals(array), _SCALARS["numeric"])
        return array.cast(_SCALARS[type_.name])
    except pa.ArrowInvalid as error:
        raise InvalidInputError(f"a value of type {type_.sql} does not fit: {error}", where="iceberg sink") from error
