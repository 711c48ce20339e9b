"""Runs a new version of a function beside the live one, on the same batches, and counts where they differ.

The caller gets the old version's answer and waits for nothing else: batches are handed over after they were answered, to a thread
of the trial's own. When that falls behind, batches are shed and counted, so a slow new version cannot slow the old one's callers
down by waiting (it does share the machine).
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pyarrow as pa

from udfs.functions.rows import UserFunction

logger = logging.getLogger(__name__)

_WAITING_BATCHES = 32
_EXAMPLES = 5
_LATENCIES = 10_000


class Trial:
    """One dual run; `offer` it batches, read `report`, `end` it.

    Args:
        old: the version that answers.
        new: the version that is tried.
        tolerance: numbers that differ by no more than this, relative to the larger, count as equal.
    """

    def __init__(self, old: UserFunction, new: UserFunction, *, tolerance: float = 0.0) -> None:
        self.old, self.new, self.tolerance = old, new, tolerance
        self._batches: queue.Queue[tuple[pa.RecordBatch, pa.RecordBatch, float] | None] = queue.Queue(_WAITING_BATCHES)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._largest = 0.0
        self._examples: list[dict[str, Any]] = []
        self._seconds: dict[str, list[float]] = {"old": [], "new": []}
        threading.Thread(target=self._work, daemon=True, name=f"trial-{new._name}").start()

    def offer(self, arguments: pa.RecordBatch, answered: pa.RecordBatch, seconds: float) -> None:
        """A batch that the old version answered, and how long it took. Does not wait."""
        try:
            self._batches.put_nowait((arguments, answered, seconds))
        except queue.Full:
            with self._lock:
                self._counts["shed"] += arguments.num_rows

    def end(self) -> None:
        """Compare what waits already, then stop. Does not wait: where there is no room for the word, what waits longest is shed."""
        while True:
            try:
                return self._batches.put_nowait(None)
            except queue.Full:
                with suppress(queue.Empty):
                    item = self._batches.get_nowait()
                    self._batches.task_done()
                    with self._lock:
                        self._counts["shed"] += item[0].num_rows if item is not None else 0

    def settle(self) -> None:
        """Wait until what was offered so far is compared."""
        self._batches.join()

    def report(self) -> dict[str, Any]:
        """What was found so far, as a JSON object; latencies are of whole batches."""
        with self._lock:
            counts, seconds = self._counts.copy(), {name: sorted(told) for name, told in self._seconds.items()}
            largest, examples = self._largest, list(self._examples)
        return {
            "old": self.old._name,
            "new": self.new._name,
            "rows": counts["rows"],
            "different": counts["different"],
            "failed_in_new_only": counts["failed_in_new_only"],
            "failed_in_old_only": counts["failed_in_old_only"],
            "failed_in_both": counts["failed_in_both"],
            "batches_that_new_did_not_answer": counts["unanswered"],
            "rows_not_compared": counts["shed"],
            "largest_difference": largest,
            "milliseconds": {
                name: {"p50": _quantile(told, 0.5), "p99": _quantile(told, 0.99)} for name, told in seconds.items()
            },
            "examples": examples,
        }

    def _work(self) -> None:
        while True:
            item = self._batches.get()
            try:
                if item is None:
                    return
                self._compare(*item)
            except Exception:
                # The last frame of this thread: whatever the new version does, the old one's callers do not notice.
                logger.exception("trial batch failed", extra={"function": self.new._name})
                with self._lock:
                    self._counts["unanswered"] += 1
            finally:
                self._batches.task_done()

    def _compare(self, arguments: pa.RecordBatch, answered: pa.RecordBatch, seconds: float) -> None:
        begun = time.monotonic()
        (tried,) = self.new.eval_batch(arguments)
        took = time.monotonic() - begun
        old = [split(value, self.old) for value in answered.column(0).to_pylist()]
        new = [split(value, self.new) for value in tried.column(0).to_pylist()]
        with self._lock:
            for name, told in (("old", seconds), ("new", took)):
                if len(self._seconds[name]) < _LATENCIES:
                    self._seconds[name].append(told)
            self._counts["rows"] += len(old)
            for row, ((before, old_error), (after, new_error)) in enumerate(zip(old, new, strict=True)):
                if old_error is not None or new_error is not None:
                    which = "both" if old_error and new_error else "old_only" if old_error else "new_only"
                    self._counts[f"failed_in_{which}"] += 1
                    equal = which == "both"
                else:
                    equal, apart = same(before, after, self.tolerance)
                    self._largest = max(self._largest, apart)
                    self._counts["different"] += not equal
                if not equal and len(self._examples) < _EXAMPLES:
                    self._examples.append(
                        {
                            "arguments": [str(column[row].as_py())[:200] for column in arguments.columns],
                            "old": str(before if old_error is None else old_error)[:200],
                            "new": str(after if new_error is None else new_error)[:200],
                        }
                    )


def split(answer: Any, function: UserFunction) -> tuple[Any, Any]:  # Any: a value of the user's
    """Value and error of one answer."""
    if function.definition.options.errors == "null":
        return answer, None
    return answer["value"], answer["error"]


def same(before: Any, after: Any, tolerance: float) -> tuple[bool, float]:  # Any: as above
    """Whether two values are equal, and the largest distance of numbers in them."""
    if isinstance(before, bool) or isinstance(after, bool) or before is None or after is None:
        return before is after or before == after, 0.0
    if isinstance(before, int | float) and isinstance(after, int | float):
        if before == after or (math.isnan(before) and math.isnan(after)):
            return True, 0.0
        apart = abs(before - after)
        return apart <= tolerance * max(abs(before), abs(after)), apart if math.isfinite(apart) else math.inf
    pairs: list[tuple[Any, Any]]  # Any: as above
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        pairs = [(before[key], after[key]) for key in before]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = list(zip(before, after, strict=True))
    else:
        return bool(before == after), 0.0
    found = [same(*pair, tolerance) for pair in pairs]
    return all(equal for equal, _ in found), max((apart for _, apart in found), default=0.0)


def _quantile(ascending: list[float], q: float) -> float | None:
    return round(ascending[min(len(ascending) - 1, int(q * len(ascending)))] * 1000, 3) if ascending else None
