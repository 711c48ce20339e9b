"""The proof that features are the same online and offline, then and now.

Offline values are computed from the raw events in the lake by the declaration's own SQL, never from the materialized features.

```
  now    every row of the view, read over the wire together with the position of its source
           =  offline.sql over the events up to that position
         each entity's last row, as `get` serves it, likewise
  then   at moments of the past, marked by the database's epochs: every row as the view's history in the lake has it
           =  offline.sql over the events known by that epoch
```

A difference is located: view, entity, time, feature, both values, and when. If a feature differs nearly everywhere its definition is
suspected, else single values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
from pyiceberg.catalog import Catalog

from core.errors import HeadraceError, InvalidInputError, NotFoundError, UnavailableError
from features import lake
from features.declaration import FeatureView, Offline
from features.lake import quote
from features.online import positions
from features.packing import Pack, packs
from features.point_in_time import OPERATION
from iceberg.subjects import TENANT

TOLERANCE = 1e-9
"""Relative, and absolute below 1: sums of doubles in another order."""

_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_DEFINITION_SHARE = 0.5

type_connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Mismatch:
    """One value that differs.

    Attributes:
        feature: empty when the whole row is missing on one side.
        at: `now`, `now, latest`, or the epoch of the past.
        kind: `value`, `missing online`, `missing offline`.
    """

    view: str
    entity: Mapping[str, str]
    timestamp: datetime | None
    feature: str
    online: Any  # Any: whatever types features have
    offline: Any
    at: str
    kind: str


@dataclass(frozen=True)
class Suspect:
    """Where to look: `likely` is `definition` when most values of a feature differ, else `value`."""

    view: str
    feature: str
    differing: int
    compared: int
    likely: str


@dataclass(frozen=True)
class Erased:
    """A subject whose raw events are gone from the lake by an erasure, so that nothing about it can be computed anew.

    Attributes:
        tenant: whose it was; None for every tenant's subject of that name.
    """

    tenant: str | None
    name: str


@dataclass
class ViewReport:
    """What was compared of one view; `skipped` says why it was not, `erased` how many rows are about erased subjects."""

    compared: int = 0
    mismatches: int = 0
    rows: int = 0
    events: int = 0
    moments: int = 0
    erased: int = 0
    skipped: str | None = None


@dataclass
class Report:
    """Values that were compared, and those that differ; the first of these in full."""

    compared: int = 0
    mismatches: int = 0
    views: dict[str, ViewReport] = field(default_factory=dict)
    found: list[Mismatch] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)


def verify(
    connection: type_connection,
    catalog: Catalog,
    views: Sequence[FeatureView],
    *,
    moments: int = 20,
    limit: int = 100,
    since_epochs: Mapping[str, int] | None = None,
    erased: Sequence[Erased] = (),
) -> Report:
    """Compare.

    Args:
        connection: to the stream database.
        moments: of the past, spread evenly over the epochs that the lake has.
        limit: how many differences are told in full.
        since_epochs: by view, the epoch of its last version: rows of before were computed by another one.
        erased: subjects that are left out, and counted.

    Raises:
        NotFoundError: a view is not deployed, or its events are not in the lake.
        UnavailableError: the events that the view has seen do not arrive in the lake.
    """
    report = Report()
    for view in views:
        told = report.views[view.name] = ViewReport()
        if view.offline is None:
            told.skipped = "it declares no offline computation"
            continue
        check = _Check(connection, catalog, view, view.offline, limit, erased)
        try:
            check.run(moments, (since_epochs or {}).get(view.name, 0))
        except NotFoundError as error:
            told.skipped = str(error)
            continue
        told.compared, told.mismatches, told.rows = check.compared, check.mismatches, check.rows
        told.events, told.moments, told.erased = check.events, check.moments, check.erased
        report.compared += check.compared
        report.mismatches += check.mismatches
        report.found += check.found[: max(0, limit - len(report.found))]
        for name, differing in check.differing.items():
            compared = check.compared_of.get(name, 0)
            likely = "definition" if differing > _DEFINITION_SHARE * compared else "value"
            report.suspects.append(Suspect(view.name, name, differing, compared, likely))
    return report


def compare_past(
    catalog: Catalog, view: FeatureView, *, moments: int = 20, since_epoch: int = 0, limit: int = 100
) -> tuple[ViewReport, list[Mismatch]]:
    """What the lake alone tells of one view: its history beside the events that were known, at past epochs.

    Raises:
        InvalidInputError: the view declares no offline computation.
    """
    if view.offline is None:
        raise InvalidInputError("the view declares no offline computation", where=f"feature view {view.name}")
    check = _Check(None, catalog, view, view.offline, limit)
    check.run_past(moments, since_epoch)
    return ViewReport(check.compared, check.mismatches, moments=check.moments), check.found


class _Check:
    """One view; without a connection only its past can be looked at."""

    def __init__(
        self,
        connection: type_connection | None,
        catalog: Catalog,
        view: FeatureView,
        offline: Offline,
        limit: int,
        erased: Sequence[Erased] = (),
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._view = view
        self._offline = offline
        self._limit = limit
        self._duck = lake.connect()
        self._names = [each.name for each in view.features]
        self._columns = [*view.entity, view.timestamp, *self._names]
        self._erased = erased
        self.compared = self.mismatches = self.rows = self.events = self.moments = self.erased = 0
        self.found: list[Mismatch] = []
        self.differing: dict[str, int] = {}
        self.compared_of: dict[str, int] = {}

    def run(self, moments: int, since_epoch: int) -> None:
        with self._duck:
            self._compare_now(self._view.relation, latest=False)
            self._compare_now(self._view.latest, latest=True)
            self._compare_then(moments, since_epoch)

    def run_past(self, moments: int, since_epoch: int) -> None:
        with self._duck:
            self._await_events({})
            self._compare_then(moments, since_epoch)

    # -- now

    def _compare_now(self, relation: str, *, latest: bool) -> None:
        position, online = self._read_online(relation, packs(self._view) if latest else None)
        self._await_events(position)
        cut = " OR ".join(
            f"(kafka_partition = '{partition}' AND kafka_offset::BIGINT <= {offset})" for partition, offset in position.items()
        )
        self._use_events(cut or "FALSE")
        self._duck.execute(f"CREATE OR REPLACE TEMP TABLE offline_rows AS {self._offline_sql(latest)}")
        self._duck.register("online_given", online)
        self._duck.execute("CREATE OR REPLACE TEMP TABLE online_rows AS SELECT * FROM online_given")
        self._compare("now, latest" if latest else "now")
        if not latest:
            self.rows = online.num_rows
            self.events = self._count("SELECT count(*) FROM events")

    def _read_online(self, relation: str, packed: Sequence[Pack] | None) -> tuple[dict[int, int], pa.Table]:
        """Rows and position in one statement, so that they are of one epoch."""
        name = quote(positions(self._offline.events))
        keys = [*self._view.entity, self._view.timestamp]
        columns = ", ".join(
            f"f.{quote(c)}" for c in (self._columns if packed is None else [*keys, *(p.column for p in packed)])
        )
        sql = (
            f"SELECT p.position, {columns} FROM (SELECT string_agg(kafka_partition || ':' || kafka_offset::varchar, ',') AS position FROM {name}) AS p"
            f" LEFT JOIN {quote(relation)} AS f ON true"
        )
        assert self._connection is not None, "now is asked of the stream database"
        try:
            with self._connection.cursor(binary=True) as cursor:
                fetched = cursor.execute(sql.encode()).fetchall()
        except psycopg.errors.UndefinedTable as error:
            raise NotFoundError(
                f"feature view `{self._view.name}` is not deployed: {error.diag.message_primary}",
                fix="headrace features apply PIPELINE",
            ) from error
        position = {}
        if fetched and fetched[0][0]:
            position = {int(p): int(o) for p, o in (pair.split(":") for pair in fetched[0][0].split(","))}
        stamp = 1 + len(self._view.entity)
        rows = [record[1:] for record in fetched if record[stamp] is not None]
        if packed is not None:
            rows = [self._unpacked(row, packed) for row in rows]
        schema = self._schema()
        arrays = [pa.array([row[i] for row in rows], kind.type) for i, kind in enumerate(schema)]
        return position, pa.Table.from_arrays(arrays, schema=schema)

    def _unpacked(self, row: Sequence[Any], packed: Sequence[Pack]) -> tuple[Any, ...]:
        keys = len(self._view.entity) + 1
        held = {
            name: value
            for pack, cell in zip(packed, row[keys:], strict=True)
            for name, value in zip(pack.features, pack.unpack(cell), strict=True)
        }
        return (*row[:keys], *(held[name] for name in self._names))

    def _schema(self) -> pa.Schema:
        kinds = {
            "boolean": pa.bool_(), "smallint": pa.int64(), "integer": pa.int64(), "bigint": pa.int64(), "real": pa.float64(),
            "double precision": pa.float64(), "numeric": pa.decimal128(38, 18), "varchar": pa.string(), "date": pa.date32(),
            "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"), "jsonb": pa.string(),
        }  # fmt: skip
        fields = [pa.field(key, pa.string()) for key in self._view.entity]
        fields.append(pa.field(self._view.timestamp, pa.timestamp("us", "UTC")))
        for each in self._view.features:
            element = kinds[each.type.removesuffix("[]")]
            fields.append(pa.field(each.name, pa.list_(element) if each.type.endswith("[]") else element))
        return pa.schema(fields)

    def _await_events(self, position: Mapping[int, int]) -> None:
        """Register the events when the lake has all that the view has seen: its sink follows a second behind."""
        assert self._view.events_table is not None
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            pinned = lake.pin(self._catalog, self._view.events_table)
            lake.register(self._duck, "events_stored", self._catalog, pinned, lake.columns(self._catalog, pinned))
            there = self._duck.execute(
                "SELECT kafka_partition::BIGINT, max(kafka_offset::BIGINT) FROM events_stored GROUP BY ALL"
            ).fetchall()
            last = {int(p): int(o) for p, o in there}
            behind = {p: o for p, o in position.items() if last.get(p, -1) < o}
            if not behind:
                return
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the lake does not have the events up to {behind}, only to {last}",
                    where=self._view.events_table,
                    fix="See SELECT * FROM rw_catalog.headrace_sinks: does the sink deliver?",
                )
            time.sleep(_POLL_SECONDS)

    # -- then

    def _compare_then(self, moments: int, since_epoch: int) -> None:
        view = self._view
        pinned = lake.pin(self._catalog, view.history_table)
        there = lake.columns(self._catalog, pinned)
        changelog = OPERATION in there
        wanted = [*self._columns, "sink_epoch", *([OPERATION] if changelog else [])]
        lake.register(self._duck, "history_stored", self._catalog, pinned, wanted)
        self._duck.execute("CREATE OR REPLACE TEMP TABLE history AS SELECT * FROM history_stored")
        keys = ", ".join(map(quote, (*view.entity, view.timestamp)))
        # What an earlier version made, or a view read again when it was created, was no answer of this version's then.
        self._duck.execute(
            f"CREATE OR REPLACE TEMP TABLE earlier AS SELECT DISTINCT {keys} FROM history WHERE sink_epoch <= {since_epoch}"
        )
        epochs = self._duck.execute(
            "SELECT DISTINCT sink_epoch FROM (SELECT sink_epoch FROM history UNION ALL SELECT sink_epoch FROM events_stored)"
            f" WHERE sink_epoch > {since_epoch} ORDER BY ALL"
        ).fetchall()
        chosen = _spread([int(epoch) for (epoch,) in epochs], moments)
        for epoch in chosen:
            self._use_events(f"sink_epoch <= {epoch}")
            for side, sql in (("offline", self._offline_sql(latest=False)), ("online", self._history_sql(epoch, changelog))):
                self._duck.execute(f"CREATE OR REPLACE TEMP TABLE {side}_rows AS FROM ({sql}) ANTI JOIN earlier USING ({keys})")
            self._compare(f"epoch {epoch}")
        self.moments = len(chosen)

    def _history_sql(self, epoch: int, changelog: bool) -> str:
        """What the view held at the end of an epoch."""
        view = self._view
        keys = ", ".join(map(quote, view.entity))
        stamp = quote(view.timestamp)
        rows = f"SELECT * FROM history WHERE sink_epoch <= {epoch}"
        if changelog:
            added = f"{OPERATION} IN (1, 3)"
            rows = (
                f"SELECT * FROM ({rows} QUALIFY row_number() OVER (PARTITION BY {keys}, {stamp} ORDER BY sink_epoch DESC, {added} DESC) = 1)"
                f" WHERE {added}"
            )
        return f"SELECT {self._listed()} FROM ({rows})"

    # -- both

    def _use_events(self, condition: str) -> None:
        """Make the relation `events` that the declaration's SQL reads: times without zone, in UTC."""
        described = self._duck.execute("DESCRIBE events_stored").fetchall()
        plain = [quote(name) for name, kind, *_ in described if kind == "TIMESTAMP WITH TIME ZONE"]
        replaced = ", ".join(f"{name} AT TIME ZONE 'UTC' AS {name}" for name in plain)
        self._duck.execute(
            f"CREATE OR REPLACE TEMP TABLE events AS SELECT * {f'REPLACE ({replaced})' if replaced else ''} FROM events_stored WHERE {condition}"
        )

    def _offline_sql(self, latest: bool) -> str:
        stamp = quote(self._view.timestamp)
        rows = f"SELECT * FROM ({self._offline.sql.strip().rstrip(';')})"
        if self._offline.emit == "window_close":
            rows += f" WHERE {stamp} <= {self._watermark()}"
        columns = ", ".join(
            f"{quote(name)} AT TIME ZONE 'UTC' AS {quote(name)}" if name == self._view.timestamp else quote(name)
            for name in self._columns
        )
        sql = f"SELECT {columns} FROM ({rows})"
        try:
            described = {name: kind for name, kind, *_ in self._duck.execute(f"DESCRIBE {rows}").fetchall()}
        except duckdb.Error as error:
            raise InvalidInputError(
                f"the offline SQL of `{self._view.name}` cannot be run: {str(error).splitlines()[0]}",
                where=f"feature view {self._view.name}",
                fix="It reads the relation `events`, see docs/how-to/declare-features.md.",
            ) from error
        missing = [name for name in self._columns if name not in described]
        if missing:
            raise InvalidInputError(
                f"the offline SQL of `{self._view.name}` gives no `{missing[0]}`", where=f"feature view {self._view.name}"
            )
        if described[self._view.timestamp] == "TIMESTAMP WITH TIME ZONE":
            sql = f"SELECT {self._listed()} FROM ({rows})"
        return f"SELECT * FROM ({sql}) {self._last()}" if latest else sql

    def _watermark(self) -> str:
        """How far time has come: the slowest partition's newest event, less the delay."""
        assert self._offline.watermark is not None
        delay = round(self._offline.watermark / timedelta(microseconds=1))
        newest = f"SELECT kafka_partition, max({quote(self._offline.event_time)}) AS newest FROM events GROUP BY ALL"
        return f"(SELECT min(newest) - to_microseconds({delay}) FROM ({newest}))"

    def _last(self) -> str:
        """Keep each entity's last row, by the rule for ties."""
        keys = ", ".join(map(quote, self._view.entity))
        order = ", ".join([f"{quote(self._view.timestamp)} DESC", *(f"{quote(n)} DESC NULLS LAST" for n in self._view.ties)])
        return f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"

    def _listed(self) -> str:
        return ", ".join(map(quote, self._columns))

    def _compare(self, at: str) -> None:
        """Compare `online_rows` with `offline_rows`; rows of one entity and time are numbered by their values."""
        self._leave_out_erased(first=at == "now")
        keys = [quote(name) for name in (*self._view.entity, self._view.timestamp)]
        order = ", ".join(f"{quote(n)} DESC NULLS LAST" for n in self._view.ties) or "1"
        numbered = "SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {order}) AS _n FROM {rows}"
        sides = {
            side: numbered.format(keys=", ".join(keys), order=order, rows=f"{side}_rows") for side in ("online", "offline")
        }
        equal = " AND ".join(f"a.{key} = b.{key}" for key in [*keys, "_n"])
        values = ", ".join(f"a.{quote(n)} AS {quote('on_' + n)}, b.{quote(n)} AS {quote('off_' + n)}" for n in self._names)
        self._duck.execute(
            f"CREATE OR REPLACE TEMP TABLE pairs AS SELECT {', '.join(f'coalesce(a.{key}, b.{key}) AS {key}' for key in keys)},"
            f" a._n IS NOT NULL AS _online, b._n IS NOT NULL AS _offline,"
            f" {values}"
            f" FROM ({sides['online']}) AS a FULL JOIN ({sides['offline']}) AS b ON {equal}"
        )
        total = self._count("SELECT count(*) FROM pairs")
        both = "_online AND _offline"
        self.compared += total * len(self._names)
        differs = {name: _differs(quote("on_" + name), quote("off_" + name), self._type(name)) for name in self._names}
        conditions = ["NOT _offline", "NOT _online", *(f"{both} AND ({differing})" for differing in differs.values())]
        counts = self._duck.execute(
            f"SELECT {', '.join(f'count(*) FILTER (WHERE {condition})' for condition in conditions)} FROM pairs"
        ).fetchall()[0]
        for number, name in enumerate(self._names):
            self.compared_of[name] = self.compared_of.get(name, 0) + total
            wrong = int(counts[0]) + int(counts[1]) + int(counts[2 + number])
            if wrong:
                self.mismatches += wrong
                self.differing[name] = self.differing.get(name, 0) + wrong
        if counts[0] or counts[1]:
            self._tell("NOT _offline OR NOT _online", "", at)
        for number, (name, differing) in enumerate(differs.items()):
            if counts[2 + number]:
                self._tell(f"{both} AND ({differing})", name, at)

    def _leave_out_erased(self, *, first: bool) -> None:
        about = [name for name in self._view.entity if name != TENANT]
        for subject in self._erased:
            condition = " OR ".join(f"{quote(name)} = $name" for name in about) or "FALSE"
            values = {"name": subject.name} if about else {}
            if subject.tenant is not None and TENANT in self._view.entity:
                condition = f"({condition}) AND {TENANT} = $tenant"
                values["tenant"] = subject.tenant
            for side in ("online", "offline"):
                ((gone,),) = self._duck.execute(f"DELETE FROM {side}_rows WHERE {condition}", values).fetchall()
                if first and side == "online":
                    self.erased += int(gone)

    def _tell(self, condition: str, feature: str, at: str) -> None:
        room = self._limit - len(self.found)
        if room <= 0:
            return
        view = self._view
        keys = ", ".join(map(quote, (*view.entity, view.timestamp)))
        rows = (
            self._duck.sql(f"SELECT * FROM pairs WHERE {condition} ORDER BY {keys} LIMIT {room}").to_arrow_table().to_pylist()
        )
        for row in rows:
            kind = "value" if feature else "missing online" if row["_offline"] else "missing offline"
            entity = {key: row[key] for key in view.entity}
            online, offline = (row["on_" + feature], row["off_" + feature]) if feature else (None, None)
            self.found.append(Mismatch(view.name, entity, row[view.timestamp], feature, online, offline, at, kind))

    def _type(self, name: str) -> str:
        feature = self._view.feature(name)
        assert feature is not None
        return feature.type

    def _count(self, sql: str) -> int:
        ((count,),) = self._duck.execute(sql).fetchall()
        return int(count)


# -- below: called by the above


def _differs(online: str, offline: str, kind: str) -> str:
    """SQL that is true where two values are not the same."""
    if kind in ("double precision", "real", "numeric"):
        a, b = f"{online}::DOUBLE", f"{offline}::DOUBLE"
        # DuckDB holds NaN for greater than every number, so it must not meet the tolerance.
        far = f"NOT (isfinite({a}) AND isfinite({b})) OR abs({a} - {b}) > {TOLERANCE} * greatest(abs({a}), abs({b}), 1.0)"
        return f"({online} IS NULL) <> ({offline} IS NULL) OR ({a} <> {b} AND ({far}))"
    return f"{online} IS DISTINCT FROM {offline}"


def _spread(epochs: Sequence[int], moments: int) -> list[int]:
    """So many of them, evenly, the last one among them."""
    if len(epochs) <= moments:
        return list(epochs)
    step = len(epochs) / moments
    return sorted({epochs[min(len(epochs) - 1, round((i + 1) * step) - 1)] for i in range(moments)})


def must_match(report: Report, tell: Callable[[str], None] = lambda _: None) -> None:
    """Raise unless something was compared and everything is equal.

    Raises:
        HeadraceError: it is not.
    """
    for name, view in report.views.items():
        if view.skipped:
            tell(f"{name} skipped: {view.skipped}")
    if report.compared == 0:
        raise HeadraceError("nothing was compared", fix="Is anything deployed, and were there events? headrace features lag")
    if report.mismatches:
        first = report.found[0]
        raise HeadraceError(
            f"{report.mismatches} of {report.compared} values differ, first `{first.view}:{first.feature}` of {dict(first.entity)} at "
            f"{first.timestamp}: online {first.online}, offline {first.offline} ({first.at})"
        )
