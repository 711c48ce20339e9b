"""Where rows come in: tables that clients write to, and relations with a connector.

A **table** collects its clients' changes in a buffer until the next barrier; conflicts on its key are decided there, by what
is stored and by the order of arrival. A **connector's** raw records are decoded, judged (readable? late? from the future?),
and the ones that cannot be used go to the quarantine with their bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.errors import HeadraceError
from engine.catalog.catalog import QUARANTINE_ID
from engine.catalog.objects import Input
from engine.connectors.base import SourceReader
from engine.connectors.json_decode_fast import DOUBTFUL
from engine.connectors.registry import build_decode_sql, build_source, build_typed_sql, gives_columns
from engine.operators.base import Delta, column_list, no_change
from engine.runtime.epoch import Epoch
from engine.runtime.source_time import IDLE_MS, TOLD, SourceTime
from engine.runtime.source_time import load as load_time
from engine.runtime.table_changes import apply_changes
from engine.sql.expressions import Expr, render, render_lenient
from engine.sql.types import SqlType

_NAMES = {
    "partition": "k_partition",
    "offset": "k_offset",
    "timestamp": "k_timestamp",
    "value": "k_value",
    "key": "k_key",
    "headers": "k_headers",
}
# How an INCLUDE column is made of the raw record. Source: RisingWave documentation, "INCLUDE clause" (partition and offset are text).
_INCLUDE_SQL = {
    "partition": "CAST(k_partition AS VARCHAR)",
    "offset": "CAST(k_offset AS VARCHAR)",
    "timestamp": "k_timestamp",
    "key": "k_key",
    "header": "k_headers",
    "payload": "TRY(CAST(decode(k_value) AS JSON))",
}

_FED_ROWS = 2**40  # more rows than an epoch can hold: keeps the order of several sinks apart

_BEHIND = "late for the source:"


class TableInput:
    """The buffer of a table that clients write to. `add` may be called from any thread.

    Args:
        relation: of the catalog; replaced when a column is added or dropped.
        row_ids: reserves ids for rows that a sink feeds into a table without a primary key.
        watermark: the watermark expression over physical columns, or None. As in RisingWave, rows that were written together
            are judged by the watermark of before they came.
    """

    def __init__(self, relation: Input, row_ids: Callable[[int], range], watermark: Expr | None = None) -> None:
        self.relation = relation
        self._row_ids = row_ids
        self._watermark = watermark
        self._lock = threading.Lock()
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._taken: list[pa.Table] = []
        self._moment: datetime | None = None
        self._next_moment: datetime | None = None
        self.rows_read = 0

    def load(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Go on from the watermark of the last committed epoch."""
        if self._watermark is not None:
            stored = "SELECT moment FROM hr.positions WHERE relation = ?"
            rows = connection.execute(stored, [self.relation.id]).fetchall()
            self._moment = rows[0][0] if rows else None

    def add(self, changes: pa.Table) -> None:
        """Buffer rows with columns c0 .., `d` (+1 or -1) in the order they were made."""
        with self._lock:
            self._waiting.append(changes)
            self._rows += changes.num_rows

    @property
    def pending(self) -> int:
        return self._rows + sum(int(t.num_rows) for t in self._taken)

    @property
    def watermark(self) -> datetime | None:
        return self._moment

    def step(self, epoch: Epoch) -> None:
        """Take what waits, and what sinks feed into the table in this epoch, and compute the table's changelog."""
        with self._lock:
            self._taken += self._waiting
            self._waiting, self._rows = [], 0
        fed = epoch.take_fed(self.relation.id)
        if not self._taken and not fed:
            return
        names = column_list(len(self.relation.columns))
        parts = [self._written(epoch)] if self._taken else []
        parts += [self._fed(epoch, select, number) for number, select in enumerate(fed, start=1)]
        changes = (
            parts[0] if len(parts) == 1 else f"({' UNION ALL '.join(f'SELECT {names}, d, ord, batch FROM {p}' for p in parts)})"
        )
        if self._watermark is None:
            inserts = not fed and all(pc.min(table["d"]).as_py() > 0 for table in self._taken)
            apply_changes(epoch, self.relation, changes, names, inserts=inserts)
            return
        judged = self._judge(epoch, changes)
        apply_changes(epoch, self.relation, f"(SELECT {names}, d, ord FROM {judged} WHERE NOT is_late)", names)
        delta = epoch.relation_delta(self.relation.id)
        moment = self._next_moment or self._moment
        watermarks = {self.relation.watermarked[0]: moment} if moment is not None else {}
        epoch.set_relation_delta(self.relation.id, Delta(delta.source, delta.empty, watermarks))

    def _written(self, epoch: Epoch) -> str:
        """What clients wrote, in their order."""
        changes = pa.concat_tables(self._taken, promote_options="permissive").combine_chunks()
        changes = changes.append_column("ord", pa.array(range(changes.num_rows), pa.int64()))
        batches = np.repeat(np.arange(len(self._taken)), [table.num_rows for table in self._taken])
        return epoch.register(changes.append_column("batch", pa.array(batches, pa.int64())))

    def _fed(self, epoch: Epoch, select: str, number: int) -> str:
        """What a sink gives: after all that clients wrote, retractions first."""
        stored, count = epoch.temp(f"SELECT *, row_number() OVER (ORDER BY d) AS number FROM ({select}) AS f")
        first = self._row_ids(count).start
        items = [
            f"{first - 1} + number AS c{i}" if column.name == "_row_id" and column.hidden else f"c{i}"
            for i, column in enumerate(self.relation.columns)
        ]
        order = f"{number} * {_FED_ROWS} + number"
        return f"(SELECT {', '.join(items)}, d, {order} AS ord, {len(self._taken) + number} AS batch FROM {stored})"

    def _judge(self, epoch: Epoch, changes: str) -> str:
        """Which rows are late; moves the watermark past all of them."""
        assert self._watermark is not None
        relation = self.relation
        position = relation.watermarked[0]
        column, time = relation.columns[position].name, f"c{position}"
        typed = ", ".join(f"CAST(c{i} AS {c.type.duckdb}) AS c{i}" for i, c in enumerate(relation.columns))
        stored = f"TIMESTAMP '{self._moment.isoformat(sep=' ')}'" if self._moment is not None else "CAST(NULL AS TIMESTAMP)"
        over = "OVER (ORDER BY batch RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        judged, _ = epoch.temp(
            f"SELECT *, coalesce(d > 0 AND before IS NOT NULL AND ({time} IS NULL OR {time} < before), false) AS is_late FROM ("
            f"SELECT *, greatest({stored}, max(mark) {over}) AS before FROM (SELECT *, CASE WHEN d > 0 THEN {render(self._watermark)} END AS mark"
            f" FROM (SELECT {typed}, d, ord, batch FROM {changes}) AS t) AS m) AS w"
        )
        ((mark, late),) = epoch.fetch_rows(f"SELECT max(mark), count(*) FILTER (WHERE is_late) FROM {judged}")
        if late:
            visible = ", ".join(f'"{c.name}" := c{i}' for i, c in enumerate(relation.columns) if not c.hidden)
            epoch.execute(
                f"INSERT INTO hr.r{QUARANTINE_ID} SELECT {_quote(relation.stream)}, NULL, NULL, 'late: {column} ' || coalesce(CAST({time}"
                f" AS VARCHAR), 'NULL') || ' is before the watermark ' || CAST(before AS VARCHAR), make_timestamp({epoch.now_ms * 1000}),"
                f" encode(CAST(to_json(struct_pack({visible})) AS VARCHAR)), {_quote(relation.database)} FROM {judged} WHERE is_late"
            )
        if mark is not None and (self._moment is None or mark > self._moment):
            self._next_moment = mark
            store_positions(epoch.execute, relation.id, {0: 0}, {0: mark})
            if relation.watermark is not None and relation.watermark.with_ttl:
                epoch.defer(f"DELETE FROM {relation.physical} WHERE {time} < TIMESTAMP '{mark.isoformat(sep=' ')}'")
        return judged

    def committed(self) -> None:
        self.rows_read += sum(int(t.num_rows) for t in self._taken)
        self._taken = []
        self._moment, self._next_moment = self._next_moment or self._moment, None

    def rolled_back(self) -> None:
        """Keep what was taken; the next epoch tries again."""
        self._next_moment = None


class ConnectorInput:
    """A source, or a table with a connector. Belongs to the barrier loop's thread.

    Args:
        relation: of the catalog.
        reader: not started yet.
        watermark: the watermark expression over physical columns, or None.
        until: read again only the records before these positions, for a view that is created later; then nothing is
            stored beside the view (verdicts depend on offsets alone, or were noted, so they are the same as the first time).
    """

    def __init__(
        self, relation: Input, reader: SourceReader, watermark: Expr | None, until: Mapping[int, int] | None = None
    ) -> None:
        self.relation = relation
        self.reader = reader
        self._watermark = watermark
        self._stored = relation.kind == "table"
        self._pending: pa.Table | None = None
        self._time = SourceTime()
        self._next_time: SourceTime | None = None
        self._seen_ms: dict[int, int] = {}
        self.positions: dict[int, int] = {}
        self._next_positions: dict[int, int] = {}
        self.rows_read = 0
        self._started = False
        self._until = until

    def start(self, connection: duckdb.DuckDBPyConnection, wake: Callable[[], None]) -> None:
        """Begin where the last committed epoch ended."""
        if self._until is None:
            self._load(connection)
        self.reader.start(dict(self.positions), wake)
        self._started = True

    def _load(self, connection: duckdb.DuckDBPyConnection) -> None:
        stored = "SELECT partition, position, moment FROM hr.positions WHERE relation = ?"
        rows = connection.execute(stored, [self.relation.id]).fetchall()
        self.positions = {int(p): int(o) for p, o, _ in rows if p != TOLD}
        self._time = load_time((p, moment) for p, _, moment in rows)

    @property
    def started(self) -> bool:
        return self._started

    def again(self) -> ConnectorInput:
        """A second reader of the same records, from the start up to where this one is."""
        reader = build_source(self.relation.options, self.relation.format, source_fields(self.relation))
        return ConnectorInput(self.relation, reader, self._watermark, until=dict(self.positions))

    @property
    def watermark(self) -> datetime | None:
        """How far time has come in all of it."""
        return self._time.told

    def poll(self, max_rows: int) -> int:
        """Take the next records, up to `max_rows` with those that wait already; returns how many wait."""
        waiting = self._pending.num_rows if self._pending is not None else 0
        if not self._started or self.paused or waiting >= max_rows or (waiting and self._until is not None):
            return waiting
        try:
            taken = self.reader.take(max_rows - waiting)
        except HeadraceError:
            if not waiting:
                raise
            return waiting  # what is here already goes first; the reader fails again at the next call
        if taken is not None and self._until is not None:
            taken = self._before(taken, self._until)
        if taken is not None:
            self._pending = taken if self._pending is None else pa.concat_tables([self._pending, taken])
        return self._pending.num_rows if self._pending is not None else 0

    @property
    def paused(self) -> bool:
        """A rate limit of 0 stops reading; other limits are for the actors of a cluster."""
        return self._until is None and self.relation.options.get("source_rate_limit") == "0"

    @property
    def caught_up(self) -> bool:
        """Whether a second reading has reached its end."""
        starts = self.reader.starts()
        return all(max(self.positions.get(p, 0), starts.get(p, 0)) >= end for p, end in (self._until or {}).items())

    def _before(self, rows: pa.Table, until: Mapping[int, int]) -> pa.Table | None:
        ends = rows.group_by("partition").aggregate([("offset", "max")]).to_pylist()
        keep = pa.array(
            [o < until.get(p, 0) for p, o in zip(rows["partition"].to_pylist(), rows["offset"].to_pylist(), strict=True)],
            pa.bool_(),
        )
        kept = rows.filter(keep)
        if kept.num_rows:
            return kept
        self.positions.update({row["partition"]: row["offset_max"] + 1 for row in ends})
        return None

    def step(self, epoch: Epoch) -> None:
        """Decode and judge the waiting records, and set the relation's changelog."""
        if self._pending is None:
            return
        relation = self.relation
        raw = epoch.register(self._pending)
        if self._is_plain:
            self._step_plain(epoch, raw, self._pending)
            return
        judged, facts = self._judge(epoch, raw, fast=True)
        if any(row["doubtful"] for row in facts):
            # The short statement cannot answer for some row; the whole one can.
            judged, facts = self._judge(epoch, raw, fast=False)
        bad = sum(row["bad"] for row in facts)
        if bad and self._until is None:
            self._quarantine(epoch, judged)
        self._advance(epoch, facts)
        names = column_list(len(relation.columns))
        if self._stored:
            ord_ = "row_number() OVER (ORDER BY k_partition, k_offset)"
            good = f"(SELECT {names}, CAST(1 AS TINYINT) AS d, {ord_} AS ord FROM {judged} WHERE reason IS NULL)"
            apply_changes(epoch, relation, good, names)
            delta = epoch.relation_delta(relation.id)
        elif bad:
            name, count = epoch.temp(f"SELECT {names}, d FROM {judged} WHERE reason IS NULL")
            delta = Delta(name, count == 0)
        else:
            delta = Delta(judged)
        watermarks = self._watermarks()
        result = Delta(delta.source, watermarks=watermarks) if not delta.empty else no_change(watermarks)
        epoch.set_relation_delta(relation.id, result)

    @property
    def _is_plain(self) -> bool:
        """Whether no row can be bad: typed columns without a verdict on any."""
        columns = self.relation.columns
        judged = any(c.generated is not None or (c.not_null and not c.hidden) for c in columns)
        return gives_columns(self.relation.options) and self._watermark is None and not self._stored and not judged

    def _step_plain(self, epoch: Epoch, raw: str, pending: pa.Table) -> None:
        """The changelog is the Arrow table itself: columns that nobody reads are never touched."""
        last = pending.group_by("partition").aggregate([("offset", "max")]).to_pylist()
        self._advance(epoch, [{"p": row["partition"], "last": row["offset_max"], "mark": None} for row in last])
        names = column_list(len(self.relation.columns))
        source = f"(SELECT {names}, d FROM ({self._decode_sql(raw, fast=True)}) AS r)"
        epoch.set_relation_delta(self.relation.id, Delta(source, picked=True, grows=True))

    def _judge(self, epoch: Epoch, raw: str, *, fast: bool) -> tuple[str, list[dict[str, Any]]]:
        """Decode and judge in one statement; returns the table and what is known of it by partition."""
        decoded = self._judge_sql(f"({self._decode_sql(raw, fast=fast)})")
        # The bytes are kept of rows that go to the quarantine only: they are most of what would be written.
        bytes_of_bad = "CASE WHEN reason IS NOT NULL THEN k_value END AS k_value"
        judged, _ = epoch.temp(f"SELECT * REPLACE ({bytes_of_bad}) FROM ({decoded}) AS j")
        facts = epoch.fetch(
            f"SELECT k_partition AS p, max(mark) AS mark, count(reason) AS bad, count(*) FILTER (WHERE reason = '{DOUBTFUL}') AS doubtful,"
            f" max(k_offset) AS last FROM {judged} GROUP BY k_partition"
        )
        return judged, facts.to_pylist()

    def _quarantine(self, epoch: Epoch, judged: str) -> None:
        epoch.execute(
            f"INSERT INTO hr.r{QUARANTINE_ID} SELECT {_quote(self.relation.stream)}, k_partition, k_offset, reason,"
            f" make_timestamp({epoch.now_ms * 1000}), k_value, {_quote(self.relation.database)} FROM {judged} WHERE reason IS NOT NULL"
        )
        if self._time.told is not None:
            # Late by the other partitions' time, which a second reading cannot find out.
            epoch.execute(
                f"INSERT INTO hr.late SELECT {self.relation.id}, k_partition, k_offset FROM {judged} WHERE starts_with(reason, '{_BEHIND}')"
            )

    def _watermarks(self) -> Mapping[int, datetime]:
        told = (self._next_time or self._time).told
        return {self.relation.watermarked[0]: told} if told is not None else {}

    def _decode_sql(self, raw: str, *, fast: bool) -> str:
        relation = self.relation
        included = {position: kind for kind, position in relation.include}
        required = [part.strip() for part in relation.settings.get("required_columns", "").split(",") if part.strip()]
        fields = source_fields(relation)
        names = {name for name, _ in fields}
        if gives_columns(relation.options):
            inner = build_typed_sql(raw, fields, keep=_NAMES)
        else:
            inner = build_decode_sql(
                raw, fields, relation.format, required=[r for r in required if r in names], keep=_NAMES, fast=fast
            )
        items: list[str] = []
        for i, column in enumerate(relation.columns):
            if column.hidden:
                hidden = {"_row_partition": "k_partition", "_row_offset": "k_offset"}
                items.append(hidden.get(column.name, f"CAST(NULL AS {column.type.duckdb})"))
            elif i in included:
                items.append(_INCLUDE_SQL[included[i]])
            else:
                items.append(f'"{column.name}"')
        for i, column in enumerate(relation.columns):
            if column.generated is not None and not column.hidden:
                items[i] = render_lenient(column.generated, items.__getitem__)
        reason = "reason"
        for i, column in enumerate(relation.columns):
            if column.not_null and not column.hidden:
                reason = f"coalesce({reason}, CASE WHEN {items[i]} IS NULL THEN 'null value in column {column.name}' END)"
        columns = ", ".join(f"{item} AS c{i}" for i, item in enumerate(items))
        return f"SELECT {columns}, k_partition, k_offset, CAST(1 AS TINYINT) AS d, k_timestamp, k_value, {reason} AS reason FROM ({inner}) AS x"

    def _judge_sql(self, decoded: str) -> str:
        """Verdicts row by row in offset order: the watermark before a row is the greatest of all earlier rows of its partition."""
        columns = column_list(len(self.relation.columns))
        if self._watermark is None:
            return f"SELECT {columns}, d, k_partition, k_offset, k_value, CAST(NULL AS TIMESTAMP) AS mark, reason FROM {decoded} AS e"
        position = self.relation.watermarked[0]
        time = f"c{position}"
        name = self.relation.columns[position].name
        moments = " ".join(f"WHEN {p} THEN TIMESTAMP '{m.isoformat(sep=' ')}'" for p, m in self._time.moments.items())
        told = f"TIMESTAMP '{self._time.told.isoformat(sep=' ')}'" if self._time.told is not None else "CAST(NULL AS TIMESTAMP)"
        behind = f"{time} < {told}"
        if self._until is not None:
            noted = f'SELECT partition, "offset" FROM hr.late WHERE relation = {self.relation.id}'
            behind = f"(k_partition, k_offset) IN ({noted})"
        stored = f"CASE k_partition {moments} END" if moments else "CAST(NULL AS TIMESTAMP)"
        skew = self.relation.settings.get("max_future_skew_us")
        early = f"coalesce(reason IS NULL AND {time} > k_timestamp + to_microseconds({int(skew)}), false)" if skew else "false"
        # Clamped to what a Python datetime holds: one row from the year 20000 must not stop the engine.
        moment = render_lenient(self._watermark)
        clamped = f"least(greatest({moment}, TIMESTAMP '0001-01-01'), TIMESTAMP '9999-12-31')"
        mark = f"CASE WHEN reason IS NULL AND NOT is_early AND {moment} IS NOT NULL THEN {clamped} END"
        over = "OVER (PARTITION BY k_partition ORDER BY k_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        return (
            f"SELECT {columns}, d, k_partition, k_offset, k_value, mark, CASE WHEN reason IS NOT NULL THEN reason"
            f" WHEN is_early THEN 'too early: {name} ' || CAST({time} AS VARCHAR) || ' is after its arrival at ' || CAST(k_timestamp AS VARCHAR)"
            f" WHEN before IS NOT NULL AND {time} IS NULL THEN 'late: {name} is NULL'"
            f" WHEN {time} < before THEN 'late: {name} ' || CAST({time} AS VARCHAR) || ' is before the watermark ' || CAST(before AS VARCHAR)"
            f" WHEN {behind} THEN '{_BEHIND} ' || CAST({time} AS VARCHAR) || ' is before what all partitions have reached'"
            f" END AS reason FROM (SELECT *, greatest({stored}, max(mark) {over}) AS before FROM ("
            f"SELECT *, {mark} AS mark FROM (SELECT *, {early} AS is_early FROM {decoded} AS r) AS e) AS m) AS w"
        )

    def _advance(self, epoch: Epoch, facts: Sequence[Mapping[str, Any]]) -> None:
        """Move positions and watermarks past what was judged."""
        ends = {row["p"]: row["last"] + 1 for row in facts}
        self._next_positions = {**self.positions, **ends}
        self._next_time = self._time.advanced({row["p"]: row["mark"] for row in facts}, self._awaited(epoch, ends))
        if self._until is None:
            places = {**ends, TOLD: 0} if self._next_time.told != self._time.told else ends
            store_positions(epoch.execute, self.relation.id, places, self._next_time.stored(), known=self.positions)

    def _awaited(self, epoch: Epoch, read: Collection[int]) -> list[int]:
        """Partitions whose time counts: all but those that have had nothing to read for a while."""
        if self._until is not None:
            return list(self._until)
        lag = self.reader.lag()
        self._seen_ms.update(dict.fromkeys(read, epoch.now_ms))
        known = sorted({*self.positions, *lag, *read})
        return [p for p in known if lag.get(p, 0) > 0 or epoch.now_ms - self._seen_ms.setdefault(p, epoch.now_ms) < IDLE_MS]

    def note_starts(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Store where the reader began, before it has given a row; otherwise `latest` would mean later after a restart."""
        if self._until is None and self._started:
            new = {p: o for p, o in self.reader.starts().items() if p not in self.positions}
            if new:
                store_positions(connection.execute, self.relation.id, new, {})
                self.positions.update(new)

    def committed(self) -> None:
        """The epoch is durable: what it read is done with."""
        if self._pending is not None:
            self.rows_read += self._pending.num_rows
            self._pending = None
        if self._next_positions:
            self.positions = self._next_positions
        self._time = self._next_time or self._time
        self._next_positions, self._next_time = {}, None

    def rolled_back(self) -> None:
        """Keep the records; forget what the failed epoch derived from them."""
        self._next_positions, self._next_time = {}, None

    def close(self) -> None:
        self.reader.close()


def source_fields(relation: Input) -> list[tuple[str, SqlType]]:
    """The columns that the source itself gives: none that is hidden, generated or of INCLUDE."""
    included = {position for _, position in relation.include}
    declared = [c for i, c in enumerate(relation.columns) if not c.hidden and i not in included and c.generated is None]
    return [(c.name, c.type) for c in declared]


def store_positions(
    execute: Callable[[str], object],
    relation: int,
    positions: Mapping[int, int],
    moments: Mapping[int, datetime],
    known: Collection[int] = (),
) -> None:
    """Replace what is stored of these partitions: the next offset, and the watermark.

    Args:
        known: partitions that have a row; an update in place costs a quarter of a replacement.
    """
    texts = {p: f"TIMESTAMP '{moments[p].isoformat(sep=' ')}'" if p in moments else "NULL" for p in positions}
    if all(p in known for p in positions):
        ends = " ".join(f"WHEN {p} THEN {position}" for p, position in positions.items())
        marks = " ".join(f"WHEN {p} THEN CAST({text} AS TIMESTAMP)" for p, text in texts.items())
        execute(
            f"UPDATE hr.positions SET position = CASE partition {ends} END, moment = CASE partition {marks} END"
            f" WHERE relation = {relation} AND partition IN ({', '.join(map(str, positions))})"
        )
        return
    rows = [f"({relation}, {p}, {position}, {texts[p]})" for p, position in positions.items()]
    execute(f"INSERT OR REPLACE INTO hr.positions VALUES {', '.join(rows)}")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
