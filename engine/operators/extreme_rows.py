"""The rows behind min and max over input that retracts: read only where the extreme itself was taken back.

Where the input keeps all its rows anyway (an aggregate below), they are read there; otherwise they are remembered here.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.aggregate_input import plan_aggregate_input
from engine.operators.base import EpochContext, Operator, StateTable, apply_to_state, same_key
from engine.plan.batch import render_grouped
from engine.sql.expressions import AggregateCall, Expr


class ExtremeRows:
    """State table, unless `source` keeps its rows: the evaluated groups, arguments and filters, and the stream key."""

    def __init__(self, source: Operator, groups: tuple[Expr, ...], calls: Sequence[AggregateCall]) -> None:
        self._source = source
        self._input = plan_aggregate_input(source, groups, tuple(calls))
        self._rows = ""

    @property
    def own(self) -> bool:
        return not self._source.keeps

    def name_state(self, prefix: str) -> None:
        self._rows = f"{prefix}_rows"

    def state(self) -> tuple[StateTable, ...]:
        return (StateTable(self._rows, self._input.types),) if self.own else ()

    def apply(self, epoch: EpochContext, delta: str, grows: bool) -> None:
        """Remember a changelog of the source; for rows of one's own."""
        rows = f"({self._input.select(delta)})"
        apply_to_state(epoch, self._rows, rows, len(self._input.types), self._input.key, grows)

    def extremes(self, touched: str) -> str:
        """A SELECT of the groups in `touched` and the value of each call, as c0 .., from the rows of the epoch's end."""
        groups = self._input.groups
        rows = self._rows
        if not self.own:
            rows = f"(SELECT * EXCLUDE (d) FROM ({self._input.select(f'(SELECT *, 1 AS d FROM {self._source.kept()} AS k)')}) AS e)"
        if groups:
            rows = f"(SELECT s.* FROM {rows} AS s SEMI JOIN {touched} AS x ON {same_key('s', 'x', range(groups))})"
        return render_grouped(f"{rows} AS t", self._input.group_exprs, self._input.calls)
