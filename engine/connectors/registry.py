"""Which connectors there are, by the name that stands in `connector = '...'`, and which encodings."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from engine.connectors.base import SinkWriter, SourceReader
from engine.connectors.blackhole_sink import BlackholeSink
from engine.connectors.datagen_source import build_datagen_source
from engine.connectors.iceberg_sink import IcebergSink
from engine.connectors.json_decode import build_json_decode_sql
from engine.connectors.json_decode_fast import build_fast_json_decode_sql
from engine.connectors.kafka_sink import KafkaSink
from engine.connectors.kafka_source import KafkaSource
from engine.connectors.nexmark_source import build_nexmark_source
from engine.connectors.options import must_get_option, refuse_unknown_options
from engine.connectors.raw_decode import build_bytes_decode_sql, build_csv_decode_sql, csv_delimiter
from engine.sql.errors import InvalidParameter, UnsupportedQuery
from engine.sql.statements import Format
from engine.sql.types import SqlType

Fields = Sequence[tuple[str, SqlType]]
_T = TypeVar("_T")

SOURCES: Mapping[str, Callable[[Mapping[str, str]], SourceReader]] = {
    "kafka": KafkaSource,
}

# Sources whose reader gives the declared columns, typed, in place of key, value and headers.
TYPED_SOURCES: Mapping[str, Callable[[Mapping[str, str], Fields], SourceReader]] = {
    "datagen": build_datagen_source,
    "nexmark": build_nexmark_source,
}


SINKS: Mapping[str, Callable[[uuid.UUID, Mapping[str, str], Fields, Sequence[str], Format | None], SinkWriter]] = {
    "blackhole": lambda _id, options, _fields, _key, _shape: BlackholeSink(options),
    "iceberg": lambda sink_id, options, fields, key, _shape: IcebergSink(sink_id, options, fields, key),
    "kafka": lambda sink_id, options, fields, key, shape: KafkaSink(sink_id, options, fields, key, shape),
}

# Options about the job, not the connector: rates and decoupling are for the actors of a cluster, `snapshot` and a rate of 0
# are read by the runtime.
_JOB_OPTIONS = ("backfill_rate_limit", "sink_rate_limit", "source_rate_limit", "dml_rate_limit", "sink_decouple", "snapshot")

# The options of each encoding of FORMAT PLAIN that sources know.
_ENCODING_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "JSON": ("timestamptz.handling.mode",),
    "BYTES": (),
    "CSV": ("delimiter", "without_header"),
}


def build_source(options: Mapping[str, str], shape: Format | None = None, fields: Fields = ()) -> SourceReader:
    """The reader that the WITH options of a source describe; it does nothing before `start`.

    Args:
        fields: the declared columns, for readers that make typed columns.
        shape: FORMAT and ENCODE, which are checked here and used by `build_decode_sql`.

    Raises:
        SqlError: the connector, an option or its value is unknown, missing or not supported.
    """
    if not (gives_columns(options) and shape is not None and shape.format.upper() == shape.encode.upper() == "NATIVE"):
        _read_encoding(shape)
    options = {name: value for name, value in options.items() if name not in _JOB_OPTIONS}
    if gives_columns(options):
        return _pick(TYPED_SOURCES, options, "source")(options, fields)
    return _pick(SOURCES, options, "source", also=TYPED_SOURCES)(options)


def gives_columns(options: Mapping[str, str]) -> bool:
    """Whether the source's reader gives typed columns (`TYPED_SOURCES`), which need no decoding."""
    return options.get("connector", "").lower() in TYPED_SOURCES


def build_typed_sql(relation: str, fields: Fields, *, keep: Mapping[str, str], reason: str = "reason") -> str:
    """What `build_decode_sql` is for raw records, for rows of a reader that gives typed columns: all of them are good."""
    raw = {
        "partition": "partition",
        "offset": '"offset"',
        "timestamp": '"timestamp"',
        "value": "CAST(NULL AS BLOB)",
        "key": "CAST(NULL AS BLOB)",
    }
    kept = [f"{raw.get(name, 'NULL')} AS {alias}" for name, alias in keep.items()]
    columns = [f'CAST("{name}" AS {type_.duckdb}) AS "{name}"' for name, type_ in fields]
    return f"SELECT {', '.join([*kept, *columns])}, CAST(NULL AS VARCHAR) AS {reason} FROM {relation}"


def build_sink(
    sink_id: uuid.UUID, options: Mapping[str, str], shape: Format | None, fields: Fields, primary_key: Sequence[str] = ()
) -> SinkWriter:
    """The writer that the WITH options of a sink describe; it does nothing before `open`.

    Args:
        sink_id: the sink's lasting identity.
        shape: FORMAT and ENCODE, if given.
        fields: the visible columns, in order.
        primary_key: the query's key, where option `primary_key` names none.

    Raises:
        SqlError: the connector, an option or its value is unknown, missing or not supported.
    """
    options = {name: value for name, value in options.items() if name not in _JOB_OPTIONS}
    return _pick(SINKS, options, "sink")(sink_id, options, fields, primary_key, shape)


def build_decode_sql(
    relation: str,
    fields: Fields,
    shape: Format | None = None,
    *,
    required: Sequence[str] = (),
    keep: Mapping[str, str] | None = None,
    reason: str = "reason",
    fast: bool = False,
) -> str:
    """SQL that turns raw records into typed columns and a reason, whatever the encoding (see `json_decode`).

    Args:
        required: keys that must be there and not null; JSON only.
        fast: a statement that costs less, and may give reason `DOUBTFUL` (see `json_decode_fast`); JSON only.

    Raises:
        SqlError: the format or encoding is not supported, or an option of it is unknown or wrong.
    """
    encode, options = _read_encoding(shape)
    if encode == "BYTES":
        return build_bytes_decode_sql(relation, fields, keep=keep, reason=reason)
    if encode == "CSV":
        return build_csv_decode_sql(relation, fields, delimiter=csv_delimiter(options), keep=keep, reason=reason)
    mode = options.get("timestamptz.handling.mode", "guess_number_unit")
    build = build_fast_json_decode_sql if fast else build_json_decode_sql
    return build(relation, fields, required=required, keep=keep, reason=reason, timestamptz_mode=mode)


def _read_encoding(shape: Format | None) -> tuple[str, Mapping[str, str]]:
    """ENCODE of FORMAT PLAIN in capitals, and its options, which are known ones."""
    shape = shape or Format("PLAIN", "JSON")
    encode = shape.encode.upper()
    if shape.format.upper() != "PLAIN" or encode not in _ENCODING_OPTIONS:
        raise UnsupportedQuery(
            f"FORMAT {shape.format} ENCODE {shape.encode} is not supported by sources",
            fix=f"Use FORMAT PLAIN ENCODE {' or '.join(_ENCODING_OPTIONS)}.",
        )
    refuse_unknown_options(shape.options, _ENCODING_OPTIONS[encode], what=f"FORMAT PLAIN ENCODE {encode}")
    return encode, shape.options


def _pick(connectors: Mapping[str, _T], options: Mapping[str, str], kind: str, also: Iterable[str] = ()) -> _T:
    name = must_get_option(options, "connector", what=f"a {kind}").lower()
    if name not in connectors:
        raise InvalidParameter(
            f"there is no {kind} connector `{name}`", fix=f"Use one of {', '.join(sorted({*connectors, *also}))}."
        )
    return connectors[name]
