"""TUMBLE and HOP: each row with the bounds of its window, once a window that it is in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from engine.operators.base import Delta, EpochContext, Operator, no_change
from engine.plan.algebra import Window
from engine.plan.batch import render_window_columns

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  instants inside the engine are naive UTC, see engine/sql/types.py

# What a Python datetime can hold: a row from the year 1 or 9999 must not stop an epoch.
_EARLIEST_US = (dt.datetime(1, 1, 1) - _EPOCH) // dt.timedelta(microseconds=1)  # noqa: DTZ001
_LATEST_US = (dt.datetime(9999, 12, 31) - _EPOCH) // dt.timedelta(microseconds=1)  # noqa: DTZ001


class WindowTable(Operator):
    """Columns: the input's visible ones, window_start, window_end, then the hidden ones."""

    def __init__(self, source: Operator, node: Window) -> None:
        self.inputs = (source,)
        self._node = node
        width = source.visible
        self._hidden = list(range(width, len(source.types)))
        self.types = (*source.types[:width], node.columns[-2].type, node.columns[-1].type, *source.types[width:])
        self.visible = width + 2
        moved = {p: p if p < width else p + 2 for p in range(len(source.types))}
        self.key = tuple(moved[p] for p in source.key)
        if node.size_us != node.slide_us:
            self.key = (*self.key, width)
        self.append_only = source.append_only
        self._timed = node.time_column in source.watermarked
        own = {width, width + 1} if self._timed else set()
        self.watermarked = frozenset({moved[p] for p in source.watermarked} | own)
        self._moved = moved

    def step(self, epoch: EpochContext, deltas: Sequence[Delta]) -> Delta:
        del epoch
        (delta,) = deltas
        watermarks = {self._moved[p]: w for p, w in delta.watermarks.items()}
        width = self._node_width
        moment = delta.watermarks.get(self._node.time_column)
        if moment is not None:
            start = self._first_open_window(moment)
            watermarks[width] = start
            watermarks[width + 1] = start + dt.timedelta(microseconds=self._node.size_us)
        if delta.empty:
            return no_change(watermarks)
        # Windows are put behind all input columns first, then the hidden ones move behind them.
        names = [f"c{i}" for i in range(width)]
        names += [f"c{p} AS c{p + 2}" for p in self._hidden]
        sql = render_window_columns(self._node, f"{delta.source} AS t", ", ".join([*names, "d"]))
        return Delta(f"({sql})", watermarks=watermarks, grows=delta.grows)

    @property
    def _node_width(self) -> int:
        return self.visible - 2

    def _first_open_window(self, moment: dt.datetime) -> dt.datetime:
        """The start of the earliest window that a row at `moment` can still be in."""
        node = self._node
        us = (moment - _EPOCH) // dt.timedelta(microseconds=1)
        last_start = (us - node.offset_us) // node.slide_us * node.slide_us + node.offset_us
        first_us = last_start - node.size_us + node.slide_us
        return _EPOCH + dt.timedelta(microseconds=min(max(first_us, _EARLIEST_US), _LATEST_US - node.size_us))

    def details(self) -> str:
        return f"slide {self._node.slide_us} us, size {self._node.size_us} us"
