"""Session variables: the ones that RisingWave and PostgreSQL clients set, with their defaults.

Source: RisingWave documentation, "Runtime parameters". Names under `headrace.` are our own; they say what SQL cannot, and are
set by `headrace pipeline apply` only where `version()` tells that it talks to us.
"""

from __future__ import annotations

import re

from engine.functions.datetimes import zone_of
from engine.functions.native import ValueFault
from engine.sql.errors import InvalidParameter, UndefinedObject
from engine.sql.intervals import parse_interval

REPORTED = {
    "server_version": "13.14.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
    "application_name": "",
}
"""Announced to the client at start-up and when they change; keys as PostgreSQL spells them."""

_JOBS = ("table", "sink", "index", "source", "materialized_view", "backfill")
_DEFAULTS = {
    **{name.lower(): value for name, value in REPORTED.items()},
    "rw_implicit_flush": "false", "create_compaction_group_for_mv": "false", "query_mode": "auto", "extra_float_digits": "1",
    "search_path": '"$user", public', "visibility_mode": "default", "transaction_isolation": "read committed", "query_epoch": "0",
    "streaming_parallelism": "default", "streaming_parallelism_strategy": "default", "streaming_max_parallelism": "256",
    **{f"streaming_parallelism_for_{job}": "default" for job in _JOBS},
    **{f"streaming_parallelism_strategy_for_{job}": "default" for job in _JOBS},
    "rw_streaming_enable_delta_join": "false", "rw_streaming_enable_bushy_join": "true", "rw_enable_two_phase_agg": "true",
    "rw_force_two_phase_agg": "false", "rw_force_split_distinct_agg": "false", "rw_enable_share_plan": "true",
    "rw_enable_join_ordering": "true", "rw_batch_enable_sort_agg": "true", "rw_batch_enable_lookup_join": "true",
    "batch_enable_distributed_dml": "false", "batch_expr_strict_mode": "true", "batch_parallelism": "default",
    "batch_hnsw_ef_search": "40", "max_split_range_gap": "8", "enable_multi_table_filter_pushdown": "true",
    "enable_index_selection": "true", "enable_mv_selection": "false", "enable_locality_backfill": "false", "enable_serverless_backfill": "false", "streaming_parallelism_for_backfill": "default",
    "streaming_use_arrangement_backfill": "true", "streaming_use_snapshot_backfill": "false", "streaming_use_shared_source": "true",
    "streaming_allow_jsonb_in_stream_key": "false", "streaming_enable_materialized_expressions": "true",
    "streaming_enable_unaligned_join": "false", "streaming_separate_consecutive_join": "false", "streaming_separate_sink": "false",
    "streaming_force_filter_inside_join": "false", "streaming_join_encoding": "default", "streaming_asof_join_use_cache": "false",
    "streaming_unsafe_allow_unmaterialized_impure_expr": "false", "streaming_unsafe_allow_upsert_sink_pk_mismatch": "false",
    "rw_streaming_over_window_cache_policy": "full", "streaming_now_progress_ratio": "default",
    "streaming_sync_log_store_pause_duration_ms": "64", "streaming_sync_log_store_buffer_size": "2048",
    "streaming_rate_limit": "-1", "backfill_rate_limit": "default", "source_rate_limit": "default", "sink_rate_limit": "default",
    "dml_rate_limit": "default", "sink_decouple": "default", "background_ddl": "false", "dml_wait_persistence": "false",
    "upsert_dml": "false", "disable_purify_definition": "false", "slow_ddl_notification_period_secs": "30",
    "cdc_source_wait_streaming_start_timeout": "30", "license_key": "",
    "synchronize_seqscans": "false", "statement_timeout": "0", "lock_timeout": "0", "client_min_messages": "notice",
    "bytea_output": "hex", "row_security": "true", "idle_in_transaction_session_timeout": "60000",
    "default_transaction_read_only": "off", "default_transaction_isolation": "read committed", "server_version_num": "130014",
    "headrace.max_future_skew": "", "headrace.required_columns": "",
}  # fmt: skip
_ALIASES = {
    "interval_style": "intervalstyle",
    "time zone": "timezone",
    "transaction isolation level": "transaction_isolation",
    "streaming_enable_arrangement_backfill": "streaming_use_arrangement_backfill",
}
_DURATIONS = {"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
_UNITS_MS = {"": 1.0, "us": 0.001, "ms": 1.0, "s": 1_000.0, "min": 60_000.0, "h": 3_600_000.0, "d": 86_400_000.0}
_BOOLEANS = {"rw_implicit_flush", "background_ddl", "batch_expr_strict_mode"}


class Variables:
    """The variables of one session."""

    def __init__(self, options: dict[str, str] | None = None) -> None:
        self._values = dict(_DEFAULTS)
        for name, value in (options or {}).items():
            if name.lower() in self._values:
                self._values[name.lower()] = value

    def get(self, name: str) -> str:
        """The value of a variable.

        Raises:
            UndefinedObject: there is none of that name.
        """
        key = self._key(name)
        return self._values[key]

    def set(self, name: str, value: str | None) -> dict[str, str]:
        """Change a variable (None: back to its default; `all`: each); returns what the client must be told."""
        if name == "all" and value is None:
            told: dict[str, str] = {}
            for each in list(self._values):
                told |= self.set(each, None)
            return told
        key = self._key(name)
        new = _DEFAULTS[key] if value is None else value
        if key in _BOOLEANS:
            new = "true" if _is_true(name, new) else "false"
        if key in _DURATIONS:
            _duration_ms(name, new)
        if key == "timezone":
            new = _zone_name(new.strip("'\""))
        self._values[key] = new
        reported = next((spelled for spelled in REPORTED if spelled.lower() == key), None)
        return {reported: new} if reported is not None else {}

    def all(self) -> list[tuple[str, str]]:
        return sorted(self._values.items())

    @property
    def search_path(self) -> tuple[str, ...]:
        """Schemas in which unqualified names are looked up; `"$user"` is never one here."""
        parts = (part.strip().strip('"') for part in self._values["search_path"].split(","))
        return tuple(part for part in parts if part and part != "$user")

    @property
    def implicit_flush(self) -> bool:
        return self._values["rw_implicit_flush"] == "true"

    @property
    def statement_timeout_seconds(self) -> float | None:
        """The limit of `statement_timeout`; None where it is 0."""
        return self._milliseconds("statement_timeout")

    @property
    def idle_in_transaction_seconds(self) -> float | None:
        """How long a block may stay open without a statement; None for ever.

        A block holds nothing here, so the default is only shown; what a client sets counts.
        """
        key = "idle_in_transaction_session_timeout"
        return None if self._values[key] == _DEFAULTS[key] else self._milliseconds(key)

    def _milliseconds(self, key: str) -> float | None:
        return _duration_ms(key, self._values[key]) / 1000 or None

    @property
    def source_settings(self) -> dict[str, str]:
        """Our own settings of a source that is created now."""
        settings: dict[str, str] = {}
        skew = self._values["headrace.max_future_skew"]
        if skew:
            settings["max_future_skew_us"] = str(parse_interval(skew).fixed_us)
        if self._values["headrace.required_columns"]:
            settings["required_columns"] = self._values["headrace.required_columns"]
        return settings

    def _key(self, name: str) -> str:
        key = _ALIASES.get(name.lower(), name.lower())
        # RisingWave has dropped the prefix from its names, and takes both.
        known = next((k for k in (key, f"rw_{key}", key.removeprefix("rw_")) if k in self._values), None)
        if known is None:
            raise UndefinedObject(f"unrecognized configuration parameter `{name}`", fix="`SHOW ALL` lists the known ones.")
        return known


def _zone_name(name: str) -> str:
    """The time zone as it is spelled in its database; offsets stay as they are."""
    if name.upper() in ("UTC", "GMT", "ETC/UTC", "0", "+00:00"):
        return "UTC"
    try:
        zone = zone_of(name)
    except ValueFault as fault:
        raise InvalidParameter(f"invalid value for parameter `timezone`: `{name}`", fix="For example 'Asia/Tokyo'.") from fault
    return getattr(zone, "key", name)


def _is_true(name: str, value: str) -> bool:
    text = value.strip().lower()
    if text in ("true", "on", "yes", "1", "t"):
        return True
    if text in ("false", "off", "no", "0", "f"):
        return False
    raise InvalidParameter(f"parameter `{name}` requires a Boolean value, not `{value}`")


def _duration_ms(name: str, value: str) -> float:
    """`250`, `250ms`, `1 min`: without a unit milliseconds, as in PostgreSQL."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value)
    if found is None or found[2] not in _UNITS_MS:
        raise InvalidParameter(
            f"invalid value for parameter `{name}`: `{value}`", fix="Write milliseconds, or a unit: `500`, `10s`, `1min`."
        )
    return float(found[1]) * _UNITS_MS[found[2]]
