"""A job keeps something up to date: a materialized view's rows, a sink's outbox, a subscription's log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import replace

from engine.catalog.objects import CatalogObject, MaterializedView, Sink, Subscription
from engine.operators.base import Delta, Operator, apply_to_state, column_list, no_change, store, stored_input
from engine.operators.leaf import RelationLeaf
from engine.operators.temporal_join import TemporalJoin
from engine.plan.stream import operators
from engine.runtime.epoch import Epoch
from engine.sql.expressions import render_lenient

_LONG_AGO = dt.datetime(1, 1, 1)  # noqa: DTZ001  instants inside the engine are naive UTC
OP_INSERT, OP_DELETE, OP_UPDATE_DELETE, OP_UPDATE_INSERT = 1, 2, 3, 4


class Job:
    """One object's operators.

    Args:
        object: a materialized view, sink or subscription.
        root: its plan, state named.
    """

    def __init__(self, object: CatalogObject, root: Operator) -> None:  # noqa: A002  the catalog's own word
        self.object = object
        self.root = root
        self.runs = self.statements = 0
        self.seconds = 0.0
        self._timed = [o for o in operators(root) if o.next_wake is not None]
        self.leaves = [o for o in operators(root) if isinstance(o, RelationLeaf)]
        self.reads = {leaf.relation for leaf in self.leaves}
        self.looks_up = {o.looks_up for o in operators(root) if isinstance(o, TemporalJoin)}

    def due(self) -> int | None:
        """Unix milliseconds at which it must run even without input; None if it need not."""
        return min((o.next_wake for o in self._timed if o.next_wake is not None), default=None)

    def ddl(self) -> list[str]:
        """CREATE TABLE statements of all that the job stores."""
        statements = [table.ddl for operator in operators(self.root) for table in operator.state()]
        visible = ", ".join(f"c{i} {t.duckdb}" for i, t in enumerate(self.root.types[: self.root.visible]))
        if isinstance(self.object, MaterializedView):
            everything = ", ".join(f"c{i} {t.duckdb}" for i, t in enumerate(self.root.types))
            statements.append(f"CREATE TABLE {self.object.physical} ({everything})")
        elif isinstance(self.object, Sink) and not self.object.into:
            statements.append(f"CREATE TABLE {self.object.outbox} (epoch BIGINT, seq BIGINT, op TINYINT, {visible})")
        elif isinstance(self.object, Subscription):
            statements.append(f"CREATE TABLE {self.object.log} (epoch BIGINT, seq BIGINT, op TINYINT, ts BIGINT, {visible})")
        return statements

    def drop_ddl(self) -> list[str]:
        tables = [table.name for operator in operators(self.root) for table in operator.state()]
        if isinstance(self.object, MaterializedView):
            tables.append(self.object.physical)
        elif isinstance(self.object, Sink) and not self.object.into:
            tables.append(self.object.outbox)
        elif isinstance(self.object, Subscription):
            tables.append(self.object.log)
        return [f"DROP TABLE {name}" for name in tables]

    def initialize(self, epoch: Epoch) -> None:
        """Emit what the operators have before any input (the row of a global aggregate, constants)."""
        self._finish(epoch, _initialize(self.root, epoch, {}))

    def rehearse(self, epoch: Epoch) -> None:
        """Run every statement once on no rows, so that what DuckDB would refuse is refused now and not in an epoch."""
        for leaf in self.leaves:
            relation = leaf.physical_types
            nothing = ", ".join(f"CAST(NULL AS {t.duckdb}) AS c{i}" for i, t in enumerate(relation))
            marks = dict.fromkeys(leaf.physical_watermarked, _LONG_AGO)
            epoch.set_relation_delta(
                leaf.relation, Delta(f"(SELECT {nothing}, CAST(1 AS TINYINT) AS d WHERE false)", watermarks=marks)
            )
        self.run(epoch)
        epoch.run_deferred()
        epoch.forget_deltas()

    def backfill(self, epoch: Epoch, stored: Collection[int]) -> None:
        """Feed what is stored in the relations below (those in `stored`), as insertions.

        A source's records are read again later, so until then nothing is known of its time. A subscription tells changes, and
        there was none since it was created.
        """
        if isinstance(self.object, Subscription):
            return
        if isinstance(self.object, Sink) and self.object.options.get("snapshot", "true").lower() == "false":
            return
        for leaf in {leaf.relation: leaf for leaf in self.leaves}.values():
            delta = no_change()
            if leaf.relation in stored:
                rows = store(epoch, f"SELECT *, CAST(1 AS TINYINT) AS d FROM {leaf.physical}")
                delta = Delta(rows.source, rows.empty, epoch.known.get(leaf.relation, {}))
            epoch.set_relation_delta(leaf.relation, delta)
        self.run(epoch)

    def run(self, epoch: Epoch) -> None:
        """Bring the object up to date with this epoch."""
        self._finish(epoch, _step(self.root, epoch, {}))

    def _finish(self, epoch: Epoch, delta: Delta) -> None:
        if isinstance(self.object, MaterializedView):
            self._store_view(epoch, self.object, delta)
            return
        source = delta.source if self.root.append_only else stored_input(epoch, delta, self.root, exact=True)
        if delta.empty or source is None:
            return
        if isinstance(self.object, Sink) and self.object.into:
            self._feed_table(epoch, self.object, source)
        else:
            self._store_changes(epoch, source)

    def _store_view(self, epoch: Epoch, view: MaterializedView, delta: Delta) -> None:
        width = len(self.root.types)
        if delta.empty:
            epoch.set_relation_delta(view.id, no_change(delta.watermarks))
            return
        source = stored_input(epoch, delta, self.root, exact=True)
        if source is None:
            epoch.set_relation_delta(view.id, no_change(delta.watermarks))
            return
        delta = replace(delta, source=source, picked=delta.picked and source == delta.source, exact=True)
        epoch.set_relation_delta(view.id, delta)
        grows = self.root.append_only or delta.grows
        apply_to_state(epoch, view.physical, delta.source, width, self.root.key, grows, defer=True)

    def _feed_table(self, epoch: Epoch, sink: Sink, source: str) -> None:
        """Give the rows to the table that the sink goes into."""
        values = ", ".join(f"{render_lenient(e) if e is not None else 'NULL'} AS c{i}" for i, e in enumerate(sink.feed))
        where = " WHERE d > 0" if sink.inserts_only else ""
        epoch.feed(sink.into, f"SELECT {values}, d FROM {source} AS t{where}")

    def _store_changes(self, epoch: Epoch, source: str) -> None:
        """Append the changelog, an update's two halves side by side, in the order of the stream key."""
        key = ", ".join(columns_at(self.root.key)) or "1"
        if self.root.append_only:
            op = str(OP_INSERT)
        else:
            paired = f"count(*) OVER (PARTITION BY {key}) = 2"
            op = (
                f"CASE WHEN {paired} THEN CASE WHEN d < 0 THEN {OP_UPDATE_DELETE} ELSE {OP_UPDATE_INSERT} END"
                f" ELSE CASE WHEN d < 0 THEN {OP_DELETE} ELSE {OP_INSERT} END END"
            )
        visible = column_list(self.root.visible)
        seq = f"row_number() OVER (ORDER BY {key}, d)"
        if isinstance(self.object, Sink):
            target, extra = self.object.outbox, ""
        else:
            assert isinstance(self.object, Subscription)
            target, extra = self.object.log, f"{epoch.now_ms}, "
        epoch.execute(f"INSERT INTO {target} SELECT {epoch.number}, {seq}, {op}, {extra}{visible} FROM {source} AS t")


def fed_tables(jobs: Mapping[int, Job]) -> dict[int, list[int]]:
    """Tables that sinks go into, with the sinks."""
    fed: dict[int, list[int]] = {}
    for number in sorted(jobs):
        found = jobs[number].object
        if isinstance(found, Sink) and found.into:
            fed.setdefault(found.into, []).append(number)
    return fed


def columns_at(positions: tuple[int, ...]) -> list[str]:
    return [f"c{p}" for p in positions]


Done = dict[int, Delta]
"""What operators gave in this epoch, by identity: one that two consumers share runs once."""


def _step(operator: Operator, epoch: Epoch, done: Done) -> Delta:
    if id(operator) not in done:
        done[id(operator)] = operator.step(epoch, [_step(source, epoch, done) for source in operator.inputs])
    return done[id(operator)]


def _initialize(operator: Operator, epoch: Epoch, done: Done) -> Delta:
    if id(operator) not in done:
        done[id(operator)] = _initialize_one(operator, epoch, done)
    return done[id(operator)]


def _initialize_one(operator: Operator, epoch: Epoch, done: Done) -> Delta:
    """Initial output of the whole tree: what the inputs emit at first goes through, and what the operator itself has is added."""
    deltas = [_initialize(source, epoch, done) for source in operator.inputs]
    own = operator.initialize(epoch)
    if all(delta.empty for delta in deltas):
        return own
    through = operator.step(epoch, deltas)
    if own.empty:
        return through
    if through.empty:
        return own
    width = len(operator.types)
    names = column_list(width)
    return store(
        epoch,
        f"SELECT {names}, CAST(sum(d) AS TINYINT) AS d FROM (SELECT {names}, d FROM {own.source} UNION ALL SELECT {names}, d FROM {through.source})"
        f" AS x GROUP BY {names} HAVING sum(d) <> 0",
    )
