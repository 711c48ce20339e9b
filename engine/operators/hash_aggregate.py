"""Aggregate that is brought up to date by adding and subtracting: count, exact sum and avg, min and max.

State per group: the number of rows, and for each call its partial values. One statement folds the epoch's rows into one row a
group beside the group's old state; the output picks from it the old row, retracted, and the new one, where they differ. What
was touched is counted, so that the state is written by the cheapest statement, and an output without rows, or without
retractions, is known as such to whoever reads it.

A maximum is merged like a sum unless a value as large as it was retracted; only groups where that happened are computed from
their rows (`ExtremeRows`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.functions.aggregates import maintenance_of
from engine.operators.base import (
    Delta,
    EpochContext,
    Operator,
    StateTable,
    columns,
    no_change,
    same_key,
    store,
    stored_input,
)
from engine.operators.extreme_rows import ExtremeRows
from engine.operators.group_watermarks import carried_watermarks, forget_groups
from engine.sql.expressions import AggregateCall, Expr, render_lenient
from engine.sql.types import SqlType

_PARTIAL = re.compile(r"\bp(?=\d+\b)")
"""A partial column's name in a final expression; the old value's has `o_` before it."""


@dataclass(frozen=True)
class _Partial:
    """One column of state: how an epoch's rows make it, how two are merged, and its value for a new group.

    Attributes:
        retracted: the extreme of the retracted values, where it may take back the one that is kept.
        beaten: whether, in place of `{0}`, that is behind the merged value, in place of `{1}`.
    """

    type: str
    fold: str
    merge: str
    initial: str
    retracted: str = ""
    beaten: str = ""


class HashAggregate(Operator):
    """State table: groups c0 .., `n`, then one or two partial columns a call (`p0`, `p1` ...)."""

    def __init__(self, source: Operator, groups: tuple[Expr, ...], calls: tuple[AggregateCall, ...]) -> None:
        self.inputs = (source,)
        self._groups = groups
        self._calls = calls
        self.types = (*(g.type for g in groups), *(c.type for c in calls))
        self.visible = len(self.types)
        self.key = tuple(range(len(groups)))
        self._carried = carried_watermarks(source, groups)
        self.watermarked = frozenset(self._carried)
        if not groups and source.append_only:
            self.rising = frozenset(i for i, call in enumerate(calls) if call.name == "max")
        self._partials: list[_Partial] = []
        self._finals: list[str] = []
        extremes = [call for call in calls if maintenance_of(call) == "extreme"]
        self._rows = ExtremeRows(source, groups, extremes) if extremes and not source.append_only else None
        for call in calls:
            self._plan(call)
        # Groups behind a watermark are forgotten, which is no change of the output; numerics cost a call into Python a row.
        self.keeps = not self._carried and not any("hr_" in final for final in self._finals)
        self._state = ""

    @staticmethod
    def can_maintain(calls: tuple[AggregateCall, ...]) -> bool:
        """Whether every call can be kept by merging."""
        return all(maintenance_of(call) != "recompute" for call in calls)

    def _plan(self, call: AggregateCall) -> None:
        kind = maintenance_of(call)
        first = len(self._partials)
        condition = f" FILTER (WHERE {render_lenient(call.filter)})" if call.filter is not None else ""
        if kind == "count":
            counted = f"CASE WHEN {render_lenient(call.args[0])} IS NOT NULL THEN d ELSE 0 END" if call.args else "d"
            self._partials.append(_Partial("BIGINT", f"coalesce(sum({counted}){condition}, 0)", "{0} + {1}", "0"))
            self._finals.append(f"p{first}")
            return
        value = render_lenient(call.args[0])
        if kind == "extreme":
            self._partials.append(self._extreme(call, value))
            self._finals.append(f"p{first}")
            return
        numeric = call.args[0].type.name == "numeric"
        sums = [f"hr_numeric_whole({value})", f"hr_numeric_fraction({value})"] if numeric else [value]
        for part in sums:
            self._partials.append(
                _Partial("HUGEINT", f"coalesce(sum(CAST({part} AS HUGEINT) * d){condition}, 0)", "{0} + {1}", "0")
            )
        if numeric:
            # The largest scale ever seen: a sum keeps it when the value that had it is retracted, as in RisingWave.
            self._partials.append(_Partial("HUGEINT", f"coalesce(max({value} & 31){condition}, 0)", "greatest({0}, {1})", "0"))
        self._partials.append(
            _Partial(
                "BIGINT", f"coalesce(sum(CASE WHEN {value} IS NOT NULL THEN d ELSE 0 END){condition}, 0)", "{0} + {1}", "0"
            )
        )
        count = f"p{len(self._partials) - 1}"
        parts = f"p{first}, p{first + 1}, p{first + 2}" if numeric else f"p{first}, 0, 0"
        # Out of range is NULL: a view must not stand still because of one sum.
        if kind == "avg":
            final = (
                f"hr_numeric_avg_or_null({parts}, {count})" if numeric else f"hr_numeric_avg_whole_or_null(p{first}, {count})"
            )
        elif call.type.name == "numeric":
            final = f"hr_numeric_sum_or_null({parts})"
        else:
            final = f"CAST(p{first} AS {call.type.duckdb})"
        self._finals.append(f"CASE WHEN {count} > 0 THEN {final} END")

    def _extreme(self, call: AggregateCall, value: str) -> _Partial:
        smallest = call.name == "min"
        merge = ("least" if smallest else "greatest") + "({0}, {1})"
        tests = [render_lenient(call.filter)] if call.filter is not None else []
        if self._rows is None:
            condition = f" FILTER (WHERE {tests[0]})" if tests else ""
            return _Partial(call.type.duckdb, f"{call.name}({value}){condition}", merge, "NULL")
        came, went = (f"{call.name}({value}) FILTER (WHERE {' AND '.join([*tests, sign])})" for sign in ("d > 0", "d < 0"))
        return _Partial(call.type.duckdb, came, merge, "NULL", went, f"{{0}} {'>' if smallest else '<'} {{1}}")

    def name_state(self, prefix: str) -> None:
        self._state = f"{prefix}_groups"
        if self._rows is not None:
            self._rows.name_state(prefix)

    def state(self) -> tuple[StateTable, ...]:
        extra = (("n", "BIGINT"), *((f"p{i}", partial.type) for i, partial in enumerate(self._partials)))
        types: tuple[SqlType, ...] = tuple(g.type for g in self._groups)
        return (StateTable(self._state, types, extra), *(self._rows.state() if self._rows is not None else ()))

    def kept(self) -> str:
        groups = len(self._groups)
        items = [*columns(groups), *(f"{final} AS c{groups + i}" for i, final in enumerate(self._finals))]
        return f"(SELECT {', '.join(items)} FROM {self._state})"

    def initialize(self, epoch: EpochContext) -> Delta:
        if self._groups:
            return no_change()
        initial = ", ".join(["0", *(f"CAST({p.initial} AS {p.type})" for p in self._partials)])
        epoch.execute(f"INSERT INTO {self._state} VALUES ({initial})")
        finals = ", ".join(f"{final} AS c{i}" for i, final in enumerate(self._finals))
        return store(epoch, f"SELECT {finals}, CAST(1 AS TINYINT) AS d FROM {self._state}")

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        (delta,) = deltas
        marks = {i: delta.watermarks[p] for i, p in self._carried.items() if p in delta.watermarks}
        result = no_change() if delta.empty else self._fold(epoch, delta)
        forget_groups(epoch, self, (self._state,), marks)
        return replace(result, watermarks=marks)

    def _fold(self, epoch: EpochContext, delta: Delta) -> Delta:
        source = delta.source
        if self._rows is not None and self._rows.own:
            stored = stored_input(epoch, delta, self.inputs[0])
            if stored is None:
                return no_change()
            source = stored
            self._rows.apply(epoch, source, delta.grows)
        changed, count = epoch.temp(self._changed(source))
        if not count:
            return no_change()
        known, ended, gone, come, lost = self._count(epoch, changed)
        if lost:
            assert self._rows is not None
            changed, _ = epoch.temp(self._corrected(changed, self._rows))
            known, ended, gone, come, _ = self._count(epoch, changed)
        self._write(epoch, changed, known, count, ended)
        if not gone and not come:
            return no_change()
        return Delta(f"({self._output(changed)})", picked=True, exact=True, grows=not gone)

    def _count(self, epoch: EpochContext, changed: str) -> tuple[int, ...]:
        """Of the touched groups: had state, ended, retract a row, insert one, lost the extreme that they had."""
        lost = "count(*) FILTER (WHERE lost)" if self._rows is not None else "0"
        (counts,) = epoch.fetch_rows(
            f"SELECT count(o_n), count(*) FILTER (WHERE NOT lives), count(*) FILTER (WHERE lived AND differs),"
            f" count(*) FILTER (WHERE lives AND differs), {lost} FROM {changed}"
        )
        return counts

    def _write(self, epoch: EpochContext, changed: str, known: int, count: int, ended: int) -> None:
        """Bring the state up to date.

        Args:
            known: of the `count` touched groups those that had state.
            ended: those that have no row any more.
        """
        groups = len(self._groups)
        partials = ["n", *(f"p{i}" for i in range(len(self._partials)))]
        everything = ", ".join([*columns(groups), *partials])
        on = same_key(self._state if known == count and not ended else "s", "x", range(groups))
        update = ", ".join(f"{p} = x.{p}" for p in partials)
        if not known:
            epoch.execute(f"INSERT INTO {self._state} SELECT {everything} FROM {changed} WHERE lives")
        elif known == count and not ended:
            epoch.execute(f"UPDATE {self._state} SET {update} FROM {changed} AS x WHERE {on}")
        else:
            values = ", ".join([*columns(groups, "x"), *(f"x.{p}" for p in partials)])
            source = f"(SELECT * FROM {changed} WHERE lives OR o_n IS NOT NULL)"
            epoch.execute(
                f"MERGE INTO {self._state} AS s USING {source} AS x ON {on} WHEN MATCHED AND NOT x.lives THEN DELETE"
                f" WHEN MATCHED THEN UPDATE SET {update} WHEN NOT MATCHED THEN INSERT ({everything}) VALUES ({values})"
            )

    def _changed(self, source: str) -> str:
        """Touched groups with old (`o_`) and new state."""
        groups = len(self._groups)
        folds = [f"{render_lenient(g)} AS c{i}" for i, g in enumerate(self._groups)]
        folds += ["sum(d) AS n", *(f"{p.fold} AS p{i}" for i, p in enumerate(self._partials))]
        folds += [f"{p.retracted} AS r{i}" for i, p in enumerate(self._partials) if p.retracted]
        group_by = f" GROUP BY {', '.join(render_lenient(g) for g in self._groups)}" if groups else ""
        folded = f"(SELECT {', '.join(folds)} FROM {source} AS t{group_by})"
        items = [*columns(groups, "f"), "s.n AS o_n", "CAST(coalesce(s.n, 0) + f.n AS BIGINT) AS n"]
        for i, p in enumerate(self._partials):
            merged = p.merge.format(f"coalesce(s.p{i}, {p.initial})", f"f.p{i}")
            items += [f"s.p{i} AS o_p{i}", f"CAST({merged} AS {p.type}) AS p{i}"]
        lost = [
            f"f.r{i} IS NOT NULL AND ({p.beaten.format(f'f.r{i}', p.merge.format(f's.p{i}', f'f.p{i}'))}) IS NOT TRUE"
            for i, p in enumerate(self._partials)
            if p.retracted
        ]
        if lost:
            alive = "coalesce(s.n, 0) + f.n > 0 AND " if groups else ""
            items.append(f"{alive}({' OR '.join(lost)}) AS lost")
        on = same_key("f", "s", range(groups))
        having = "" if groups else " WHERE f.n IS NOT NULL"
        merged = f"SELECT {', '.join(items)} FROM {folded} AS f LEFT JOIN {self._state} AS s ON {on}{having}"
        return self._valued(merged)

    def _corrected(self, changed: str, rows: ExtremeRows) -> str:
        """Touched groups again, those that lost their extreme with the one that their rows have."""
        groups = len(self._groups)
        items = [*columns(groups, "f"), "f.o_n", "f.n", "false AS lost"]
        place = groups
        for i, p in enumerate(self._partials):
            items.append(f"f.o_p{i}")
            items.append(f"CASE WHEN f.lost THEN x.c{place} ELSE f.p{i} END AS p{i}" if p.retracted else f"f.p{i}")
            place += bool(p.retracted)
        touched = f"(SELECT * FROM {changed} WHERE lost)"
        found = f"({rows.extremes(touched)})"
        return self._valued(
            f"SELECT {', '.join(items)} FROM {changed} AS f LEFT JOIN {found} AS x ON {same_key('f', 'x', range(groups))}"
        )

    def _valued(self, merged: str) -> str:
        """Groups with their state and what it says: whether the group lived and lives, its old and new values."""
        lived, lives = ("coalesce(o_n > 0, false)", "n > 0") if self._groups else ("o_n IS NOT NULL", "true")
        finals = [f"{final} AS v{i}, {_PARTIAL.sub('o_p', final)} AS w{i}" for i, final in enumerate(self._finals)]
        valued = f"SELECT {', '.join(['*', f'{lived} AS lived', f'{lives} AS lives', *finals])} FROM ({merged}) AS m"
        changes = " OR ".join(["lived <> lives", *(f"v{i} IS DISTINCT FROM w{i}" for i in range(len(self._finals)))])
        return f"SELECT *, {changes} AS differs FROM ({valued}) AS v"

    def _output(self, changed: str) -> str:
        """New rows, and old ones retracted, of groups that give another row than before."""
        groups = len(self._groups)
        new, old = ([*columns(groups), *(f"{v}{i} AS c{groups + i}" for i in range(len(self._finals)))] for v in "vw")
        return (
            f"SELECT {', '.join(new)}, CAST(1 AS TINYINT) AS d FROM {changed} WHERE lives AND differs UNION ALL"
            f" SELECT {', '.join(old)}, CAST(-1 AS TINYINT) AS d FROM {changed} WHERE lived AND differs"
        )

    def details(self) -> str:
        return f"groups {len(self._groups)}, {', '.join(c.name for c in self._calls)}"
