"""The engine: one writer thread cuts epochs and runs DDL between them; everybody else reads.

                      wake                       one DuckDB transaction an epoch
    readers, DML  ------------>  barrier loop  --> inputs -> jobs in order -> deferred writes -> offsets, epoch number
                                     |                                   |
                                     +-- commands (DDL) between epochs    +-- commit -> deliveries, flush waiters, cursors

Any error inside an epoch means ROLLBACK (DuckDB would accept a COMMIT after an error and keep nothing); the inputs keep what
they took and the epoch is tried again. The epoch number is written in the transaction and read back after it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from graphlib import TopologicalSorter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import duckdb
import pyarrow as pa

from core.clock import Clock
from core.errors import HeadraceError, UnavailableError
from core.settings import EngineSettings
from engine.catalog.catalog import Catalog
from engine.catalog.objects import Input, Subscription
from engine.operators.base import Watermarks
from engine.runtime.back_pressure import BackPressure
from engine.runtime.backfill import Backfill, BackfillFailed
from engine.runtime.delivery import Delivery, nowhere
from engine.runtime.disk import disk_error
from engine.runtime.epoch import Epoch
from engine.runtime.inputs import ConnectorInput, TableInput
from engine.runtime.jobs import Job, fed_tables
from engine.runtime.latency import LatencyHistogram
from engine.runtime.pace import Pace
from engine.runtime.reads import ReadPool
from engine.runtime.store import Store
from engine.runtime.udf_calls import UdfCaller
from engine.sql.errors import SqlError

logger = logging.getLogger(__name__)
T = TypeVar("T")

_STOP_SECONDS = 10.0
_PURGE_EPOCHS = 16  # delivered rows leave an outbox in groups of epochs: each deletion costs a statement
_WAITING_ROWS = 1_000_000  # written rows are held in memory until their epoch is committed
_IDLE_CHECKPOINT_SECONDS = 5.0  # the write-ahead log is folded in when nothing has come for so long
_CLEANING_MS = 1_000  # a DELETE that finds nothing costs half a millisecond; once a second is not felt
_BEHIND_FACTOR = 16  # an epoch that catches up holds at most so many times `epoch_max_rows`
_BEHIND_SECONDS = 0.5  # and takes no longer than this, so that FLUSH and DDL are not kept waiting
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Engine:
    """Opens a data folder and runs it until `close`.

    Args:
        data_dir: the engine's folder.
        settings: intervals and limits.
        clock: wall-clock time of barriers.
        failpoint: called with the name of each step that a crash may fall on; tests kill the process there.
        flush_only: no epoch is cut but by FLUSH, and by statements that wait for one; for tests, whose epochs are theirs.

    Raises:
        HeadraceError: the folder cannot be opened.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: EngineSettings,
        clock: Clock,
        failpoint: Callable[[str], None] = nowhere,
        *,
        flush_only: bool = False,
    ) -> None:
        self.failpoint = failpoint
        self._flush_only = flush_only
        self.settings = settings
        self.clock = clock
        self.store = Store(data_dir, settings)
        self.catalog = Catalog()
        self.jobs: dict[int, Job] = {}
        self.tables: dict[int, TableInput] = {}
        self.connectors: dict[int, ConnectorInput] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.backfills: dict[int, Backfill] = {}
        self.udfs = UdfCaller(settings, lambda number: self.catalog.get(number))
        self.reads = ReadPool(self.store, settings)
        self.epoch = self.store.read_meta("epoch")
        self.watermarks: dict[int, Watermarks] = {}
        self.problem: str | None = None
        self.back_pressure = BackPressure(settings.sink_backlog_rows)
        self.failure: HeadraceError | None = None
        self._on_failure: Callable[[], None] = lambda: None
        self.epochs_run = 0
        self.epoch_seconds = 0.0
        self.epoch_latency = LatencyHistogram()
        self.recent_epoch_seconds: deque[float] = deque(maxlen=1_000)
        self._next_cleaning_ms = 0
        self._max_rows = settings.epoch_max_rows
        self._was_full = False  # whether the last epoch took as many rows as it might
        self._row_id = self.store.read_meta("row_id")
        self._row_id_lock = threading.Lock()
        self._commands: SimpleQueue[tuple[Callable[[], object], Future[object]]] = SimpleQueue()
        self._wake = threading.Event()
        self._stopping = False
        self._flushes: list[Future[int]] = []
        self._flush_lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="barrier", daemon=True)

    # Life

    def start(self, on_failure: Callable[[], None] = lambda: None) -> None:
        """Recover what the folder holds and begin.

        Args:
            on_failure: called from the writer thread when it must stop; `failure` says why, and the folder must be opened anew.
        """
        self._on_failure = on_failure
        from engine.runtime import ddl

        ddl.recover(self)
        for taken in self._inputs():
            if taken.watermark is not None:
                self.watermarks[taken.relation.id] = {taken.relation.watermarked[0]: taken.watermark}
        self._thread.start()
        logger.info("engine started", extra={"epoch": self.epoch, "objects": len(self.catalog.objects)})

    def close(self) -> None:
        """Stop gracefully: the running epoch ends, sinks deliver what is quick, the file is checkpointed."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        for source in self.connectors.values():
            source.close()
        for delivery in self.deliveries.values():
            delivery.stop(_STOP_SECONDS)
        for backfill in self.backfills.values():
            backfill.future.set_exception(SqlError("the engine stops", sqlstate="57P01", fix="Connect again when it runs."))
        self._log_timings()
        self.udfs.close()
        self.reads.close()
        if self.failure is None:
            self._checkpoint()
        self.store.close()
        logger.info("engine stopped", extra={"epoch": self.epoch})

    def _checkpoint(self) -> None:
        self.failpoint("checkpoint: before")
        self.store.checkpoint()
        self.failpoint("checkpoint: after")

    def _log_timings(self) -> None:
        """Where the time of the epochs went, for whoever tunes a pipeline."""
        slowest = sorted(self.jobs.values(), key=lambda job: -job.seconds)[:12]
        shown = [
            f"{job.object.name}: {job.seconds:.2f} s, {job.runs} runs, {job.statements} statements"
            for job in slowest
            if job.runs
        ]
        logger.info("epoch timings", extra={"epochs": self.epochs_run, "seconds": round(self.epoch_seconds, 2), "jobs": shown})

    # What sessions ask for; any thread

    def submit(self, command: Callable[[], T]) -> Future[T]:
        """Run something on the writer thread, between epochs."""
        future: Future[T] = Future()
        if self.failure is not None:
            future.set_exception(self.failure)
            return future
        self._commands.put((command, future))  # type: ignore[arg-type]  # the queue holds futures of any result
        self._wake.set()
        return future

    def flush(self) -> Future[int]:
        """Ask for a barrier; the future is done when all that was written before is visible."""
        future: Future[int] = Future()
        with self._flush_lock:
            if self.failure is not None:
                future.set_exception(self.failure)
                return future
            self._flushes.append(future)
        self._wake.set()
        return future

    def write(self, table: int, changes: pa.Table) -> None:
        """Buffer changes of a table (columns c0 .., `d`); visible at the next barrier.

        Raises:
            SqlError: the rows before them cannot be committed, or not be delivered, and there are enough of them.
        """
        held = self.back_pressure.reason(table)
        if held is None and self.problem is not None and self.tables[table].pending >= _WAITING_ROWS:
            held = f"{self.tables[table].pending} rows of the table wait for an epoch that cannot be committed: {self.problem}"
        if held is not None:
            raise SqlError(held, sqlstate="53400", fix="Write again when that is mended; rw_catalog.headrace_barriers tells.")
        self.tables[table].add(changes)
        self._wake.set()

    def take_row_ids(self, count: int) -> range:
        """Reserve ids for rows of tables without a primary key."""
        with self._row_id_lock:
            first = self._row_id + 1
            self._row_id += count
            return range(first, first + count)

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every epoch, from the writer thread."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[], None]) -> None:
        self._listeners.remove(listener)

    # The barrier loop

    def wake(self) -> None:
        self._wake.set()

    def wait_for_wake(self, seconds: float) -> None:
        """Wait on the writer thread until something wakes it."""
        self._wake.wait(seconds)
        self._wake.clear()

    def _run(self) -> None:
        """The writer thread: it must not end while anybody waits for it."""
        try:
            self._cut_epochs()
        except Exception as error:  # noqa: BLE001  last frame of the thread
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """DuckDB works on the file no longer, or a fault of ours: nothing is lost, but a new start is needed."""
        told = disk_error(error, self.store.path.parent)
        if told is not None:
            told = SqlError(
                told.what, sqlstate=told.sqlstate, where=told.where, fix="Free some space, then start the engine again."
            )
        logger.error("engine stops", exc_info=error, extra={"error": str(told or error)})
        failure = told or SqlError(f"the engine stops: {error}", sqlstate="58030", fix="Start it again; see its log.")
        with self._flush_lock:
            self.failure, self.problem, self._stopping = failure, str(failure), True
            for flush in self._flushes:
                flush.set_exception(failure)
            self._flushes = []
        while not self._commands.empty():
            _, command = self._commands.get_nowait()
            if command.set_running_or_notify_cancel():
                command.set_exception(failure)
        self._on_failure()

    def _cut_epochs(self) -> None:
        pace = Pace(self.settings.epoch_interval_ms / 1000, self.settings.epoch_max_rows)
        failures = 0
        dirty = False
        while not self._stopping:
            self._wake.clear()
            self._run_commands()
            waiting = self._poll()
            now = self.clock.monotonic_seconds()
            flushing = bool(self._flushes)
            due = self._seconds_until_due()
            if not waiting and not flushing and not self.backfills and (due is None or due > 0):
                if (look := self.back_pressure.seconds_until_look) is not None:
                    self._wake.wait(look if due is None else min(look, due))
                    continue
                idle = _IDLE_CHECKPOINT_SECONDS if dirty else None
                if due is not None and (idle is None or due < idle):
                    self._wake.wait(due)
                elif not self._wake.wait(idle) and dirty:
                    self._checkpoint()
                    dirty = False
                continue
            rest = pace.rest(now, for_input=waiting > 0 or bool(self.backfills))
            held = self._flush_only and not self.backfills
            if not flushing and (held or (rest > 0 and waiting < self._max_rows and not self._ends_backlog(waiting))):
                self._wake.wait(None if held else rest)
                continue
            if self._try_epoch(failures):
                failures, dirty = 0, True
                pace.ran(now, self.clock.monotonic_seconds(), waiting)
                self._adapt(waiting)
            else:
                self._wake.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1

    def _ends_backlog(self, waiting: int) -> bool:
        """Whether the rows that wait are the rest of what the epoch before had no room for: no others will join them soon."""
        return self._was_full and waiting > 0 and not any(any(s.reader.lag().values()) for s in self.connectors.values())

    def _adapt(self, rows: int) -> None:
        """Bigger epochs while the inputs are behind: what an epoch costs whatever its size is then paid less often."""
        usual, took = self.settings.epoch_max_rows, self.recent_epoch_seconds[-1]
        self._was_full = rows >= self._max_rows
        if rows >= self._max_rows and took < _BEHIND_SECONDS:
            self._max_rows = min(2 * self._max_rows, _BEHIND_FACTOR * usual)
        elif rows < usual:
            self._max_rows = usual
        elif took > 2 * _BEHIND_SECONDS:
            self._max_rows = max(self._max_rows // 2, usual)

    def _seconds_until_due(self) -> float | None:
        """How long until some view changes by time alone; None if none does."""
        due = min((at for job in self.jobs.values() if (at := job.due()) is not None), default=None)
        return None if due is None else due / 1000 - self.clock.now().timestamp()

    def _run_commands(self) -> None:
        while True:
            try:
                command, future = self._commands.get_nowait()
            except Empty:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(command())
            except BaseException as error:
                future.set_exception(disk_error(error, self.store.path.parent) or error)
                if isinstance(error, duckdb.FatalException):
                    raise

    def _poll(self) -> int:
        """Rows that wait for the next epoch."""
        room = self._max_rows
        waiting = sum(table.pending for table in self.tables.values())
        self.back_pressure.look(self.clock.monotonic_seconds(), self.deliveries.values(), self.catalog, self.store.writer)
        for source in list(self.connectors.values()):
            if self.back_pressure.reason(source.relation.id) is not None:
                continue
            try:
                source.note_starts(self.store.writer)
                waiting += source.poll(max(1, room - waiting))
            except duckdb.FatalException:
                raise
            except (HeadraceError, duckdb.Error) as error:
                if self.problem != str(error):
                    logger.error("source cannot be read", extra={"source": source.relation.name, "error": str(error)})
                self.problem = str(error)
        return waiting

    def _try_epoch(self, failures: int) -> bool:
        with self._flush_lock:
            flushes, self._flushes = self._flushes, []
        try:
            self.run_epoch()
        except UnavailableError as error:
            # Back-pressure: the inputs wait until the other side is there again.
            if failures == 0:
                logger.warning("epoch held back", extra={"error": str(error)})
            self.problem = str(error)
            with self._flush_lock:
                self._flushes = flushes + self._flushes
            return False
        except Exception as error:
            told = disk_error(error, self.store.path.parent)
            if told is None:
                logger.exception("epoch failed")
                told = _epoch_failed(error)
                self.problem = str(error)
            else:
                self.problem = str(told)
                if failures == 0:
                    logger.error("epoch held back", extra={"error": self.problem})
            for future in flushes:
                future.set_exception(told)
            if isinstance(error, duckdb.FatalException):
                raise
            return False
        self.problem = None
        for future in flushes:
            future.set_result(self.epoch)
        return True

    def run_epoch(self) -> None:
        """Cut one epoch; on return it is durable and visible."""
        while True:
            try:
                return self._run_epoch()
            except BackfillFailed as failed:
                logger.warning("view cannot be built", extra={"object": str(failed), "error": str(failed.__cause__)})
                self.abandon(failed.backfill, failed.__cause__ or failed)

    def _run_epoch(self) -> None:
        epoch = self.new_epoch()
        began = self.clock.monotonic_seconds()
        self.store.writer.execute("BEGIN")
        try:
            fed = fed_tables(self.jobs)
            for number, table in self.tables.items():
                if number not in fed:
                    table.step(epoch)
            for source in self.connectors.values():
                source.step(epoch)
            self.run_steps(epoch)
            for backfill in self.backfills.values():
                backfill.step(epoch)
            self._finish(epoch)
            self.failpoint("epoch: before commit")
            self.store.writer.execute("COMMIT")
            self.failpoint("epoch: after commit")
        except BaseException:
            self.store.rollback()
            for taken in [*self._inputs(), *self.backfills.values()]:
                taken.rolled_back()
            raise
        finally:
            epoch.release()
        self.recent_epoch_seconds.append(self.clock.monotonic_seconds() - began)
        self.epoch_seconds += self.recent_epoch_seconds[-1]
        self.epoch_latency.observe(self.recent_epoch_seconds[-1])
        self.epoch_committed(epoch)

    def run_steps(self, epoch: Epoch) -> None:
        """Everything behind the inputs, each after what it reads from: jobs that are touched, tables that sinks feed."""
        for step in self._ordered_steps():
            if isinstance(step, TableInput):
                step.step(epoch)
            elif self._is_touched(step, epoch):
                job_began = self.clock.monotonic_seconds()
                before = epoch.statements
                step.run(epoch)
                step.runs += 1
                step.statements += epoch.statements - before
                step.seconds += self.clock.monotonic_seconds() - job_began

    def new_epoch(self) -> Epoch:
        now_ms = int(self.clock.now().timestamp() * 1000)
        return Epoch(self.store.writer, self.epoch + 1, now_ms, self.udfs.call, self.watermarks)

    def _finish(self, epoch: Epoch) -> None:
        """Deferred writes, delivered rows out of the outboxes, the epoch number."""
        epoch.run_deferred()
        for backfill in self.backfills.values():
            if backfill.ends:
                backfill.store_ended(epoch)
        self._clean_logs(epoch)
        for delivery in self.deliveries.values():
            done = delivery.delivered
            if done - delivery.purged >= _PURGE_EPOCHS:
                epoch.execute(f"DELETE FROM {delivery.sink.outbox} WHERE epoch <= {done}")
                delivery.purging = done
        self.store_number(epoch)

    def _clean_logs(self, epoch: Epoch) -> None:
        """Forget what subscriptions need not keep any longer, now and then."""
        if epoch.now_ms < self._next_cleaning_ms:
            return
        self._next_cleaning_ms = epoch.now_ms + _CLEANING_MS
        for found in self.catalog.objects.values():
            if isinstance(found, Subscription):
                epoch.execute(f"DELETE FROM {found.log} WHERE ts < {epoch.now_ms - int(found.retention_seconds * 1000)}")

    def store_number(self, epoch: Epoch) -> None:
        """The epoch number and the last row id, in the epoch's transaction."""
        epoch.execute(
            f"UPDATE hr.meta SET value = CASE name WHEN 'epoch' THEN {epoch.number} ELSE {self._row_id} END WHERE name IN ('epoch', 'row_id')"
        )

    def epoch_committed(self, epoch: Epoch) -> None:
        """Everything that follows a commit."""
        stored = self.store.read_meta("epoch")
        if stored != epoch.number:
            raise RuntimeError(f"epoch {epoch.number} was committed but {stored} is stored")
        self.epoch = epoch.number
        self.epochs_run += 1
        self.note_watermarks(epoch)
        for taken in [*self._inputs(), *self.backfills.values()]:
            taken.committed()
        for backfill in [b for b in self.backfills.values() if b.ended]:
            self._join(backfill)
        for delivery in self.deliveries.values():
            delivery.purged = delivery.purging
            delivery.notify()
        for listener in list(self._listeners):
            listener()

    def _join(self, backfill: Backfill) -> None:
        """All rows of a new view are in and committed: from the next epoch on it runs with the others."""
        number = backfill.object.id
        del self.backfills[number]
        self.catalog = self.catalog.with_objects([backfill.object])
        self.jobs[number] = backfill.job
        logger.info("object built", extra={"kind": backfill.object.kind, "object": backfill.object.name, "id": number})
        backfill.future.set_result(backfill.object)

    def abandon(self, backfill: Backfill, reason: BaseException) -> None:
        """Forget a view that will not be finished, and tell whoever waits for it. Between epochs."""
        self.store.run_all(backfill.removal)
        del self.backfills[backfill.object.id]
        backfill.future.set_exception(reason)

    def note_watermarks(self, epoch: Epoch) -> None:
        """Remember how far time has come: what rests in the next epochs must not hold back what it is joined with."""
        self.watermarks.update({relation: delta.watermarks for relation, delta in epoch.deltas.items() if delta.watermarks})

    def _inputs(self) -> list[TableInput | ConnectorInput]:
        return [*self.tables.values(), *self.connectors.values()]

    def _ordered_steps(self) -> list[Job | TableInput]:
        """Jobs after those they read from, and tables that sinks feed after the sinks.

        Without such tables the ids tell: they grow with creation, and one can only build on what exists.
        """
        fed = fed_tables(self.jobs)
        if not fed:
            return [self.jobs[i] for i in sorted(self.jobs)]
        order = TopologicalSorter({i: self.jobs[i].reads & (self.jobs.keys() | fed.keys()) for i in sorted(self.jobs)})
        for table, sinks in fed.items():
            order.add(table, *sinks)
        return [self.jobs[i] if i in self.jobs else self.tables[i] for i in order.static_order()]

    def _is_touched(self, job: Job, epoch: Epoch) -> bool:
        """Whether anything below changed, a watermark moved, or time alone changes its rows."""
        due = job.due()
        if due is not None and due <= epoch.now_ms:
            return True
        for relation in job.reads:
            delta = epoch.deltas.get(relation)
            if delta is None:
                continue
            if not delta.empty or delta.watermarks:
                return True
        return False

    def stored_relations(self) -> set[int]:
        """Relations whose rows are kept: tables and materialized views."""
        return {
            o.id
            for o in self.catalog.objects.values()
            if o.kind in ("table", "materialized view") and (not isinstance(o, Input) or o.kind == "table")
        }


def _epoch_failed(error: Exception) -> SqlError:
    """What a client that waits is told; DuckDB's own words stay in the log and in `headrace_barriers`."""
    why = str(error) if isinstance(error, HeadraceError) else "it is tried again"
    return SqlError(f"the epoch failed: {why}", sqlstate="58000", fix="See the engine's log.")
