"""Carries a change through races, outages and unknown outcomes.

    refresh the head --> landed already? done --> plan on this head --> stage --> ask the catalog to swap the pointer
          ^                                                                             |            |
          |-- lost the race (CommitFailedException): remove the staged files ----------'            |
          '-- no clear answer (connection lost, disk error): keep them, they may be in -------------'

The snapshot id stays the same over all attempts, so the refreshed head tells whether an earlier one landed after all. Each
attempt requires the head that it was planned on: if a request that we gave up lands late, ours is refused. Who loses often
goes first (`iceberg.turnstile`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, RESTError
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from core.clock import Clock, SystemClock
from core.errors import UnavailableError
from iceberg.appends import remove_files
from iceberg.sqlite_catalog import SqliteCatalog
from iceberg.staging import Change, StagedChange, stage
from iceberg.turnstile import turnstile

logger = logging.getLogger(__name__)

type_failpoint = Callable[[str], None]

PATIENCE = timedelta(seconds=30)

# Losers of a race wait 0 to 5, 10, 20 ... 250 ms. A commit takes 5 to 20 ms, so a dozen writers sort themselves out.
_FIRST_WAIT_SECONDS = 0.005
_LONGEST_WAIT_SECONDS = 0.25

_UNKNOWN_OUTCOME = (CommitStateUnknownException, RESTError, SQLAlchemyError, OSError)


class _TryAgain(Exception):
    """This attempt did not commit."""


def commit_on_head(
    table: Table,
    plan: Callable[[Table], Change | None],
    *,
    clock: Clock | None = None,
    patience: timedelta = PATIENCE,
    failpoint: type_failpoint = lambda _: None,
) -> bool:
    """Plan a change on the current head of a table and commit it, as often as it takes.

    Args:
        table: is refreshed, and afterwards shows the committed state.
        plan: called with the head of each attempt; returns None when nothing is to be done any more. Everything it reads
            from that head is still true when the commit succeeds.
        clock: stamps the snapshot.
        patience: how long to go on.
        failpoint: called with `staged` and `committed`; tests kill the process there.

    Returns:
        whether the change was committed by this call.

    Raises:
        UnavailableError: races were lost, or the catalog did not answer, for all of `patience`. The change may still have
            landed; the next plan sees it in the head.
    """
    started = time.monotonic()
    commit = _Commit(table, plan, clock or SystemClock(), failpoint)
    retrying = Retrying(
        retry=retry_if_exception_type(_TryAgain),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS),
        reraise=True,
    )
    try:
        return retrying(commit.attempt)
    except _TryAgain as error:
        raise UnavailableError(
            f"the change was not committed within {patience.total_seconds():g} s: {commit.diagnosis(time.monotonic() - started)}; "
            f"last: {error}",
            where=".".join(table.name()),
            fix="Make the same call again; if other writers were faster all the time, let fewer of them write at once or be "
            "more patient; if the catalog did not answer, look after it.",
        ) from error


class _Commit:
    def __init__(self, table: Table, plan: Callable[[Table], Change | None], clock: Clock, failpoint: type_failpoint) -> None:
        self._table = table
        self._plan = plan
        self._clock = clock
        self._failpoint = failpoint
        self._snapshot_id = table.metadata.new_snapshot_id()
        self._lost: StagedChange | None = None
        """Staged files of an attempt that the catalog refused; removed once the head shows that it did not land."""
        self._lost_races = 0
        self._unanswered = 0
        catalog = table.catalog
        self._turnstile = catalog.turnstile_path(table.metadata.table_uuid) if isinstance(catalog, SqliteCatalog) else None

    def diagnosis(self, seconds: float) -> str:
        """What kept the change out, in words."""
        return (
            f"{self._lost_races} races lost against other writers and {self._unanswered} attempts without a clear answer in "
            f"{seconds:.1f} s; the head is snapshot {self._table.metadata.current_snapshot_id}"
        )

    def attempt(self) -> bool:
        with turnstile(self._turnstile, self._lost_races):
            return self._attempt()

    def _attempt(self) -> bool:
        try:
            self._table.refresh()
        except _UNKNOWN_OUTCOME as error:
            self._unanswered += 1
            raise _TryAgain(str(error)) from error
        if self._table.metadata.snapshot_by_id(self._snapshot_id) is not None:
            return True
        if self._lost is not None:
            remove_files(self._table.io, self._lost.metadata_paths)
            self._lost = None
        staged = self._stage()
        if staged is None:
            return False
        self._failpoint("staged")
        self._commit(staged)
        self._failpoint("committed")
        return True

    def _stage(self) -> StagedChange | None:
        try:
            change = self._plan(self._table)
            if change is None:
                return None
            return stage(self._table, change, snapshot_id=self._snapshot_id, clock=self._clock)
        except OSError as error:  # nothing was asked of the catalog yet; whether to wait is the caller's policy
            raise UnavailableError(
                f"files cannot be written or read: {error}",
                where=self._table.location(),
                fix="Look after the warehouse's disk or store; the change is made again then.",
            ) from error

    def _commit(self, staged: StagedChange) -> None:
        before = self._table.metadata
        try:
            answer = self._table.catalog.commit_table(self._table, staged.requirements, staged.updates)
        except CommitFailedException as error:
            self._lost = staged
            self._lost_races += 1
            raise _TryAgain(str(error)) from error
        except _UNKNOWN_OUTCOME as error:
            self._unanswered += 1
            logger.warning(
                "commit outcome unknown",
                extra={"table": ".".join(self._table.name()), "snapshot": staged.snapshot_id},
                exc_info=True,
            )
            raise _TryAgain(str(error)) from error
        self._table.metadata = answer.metadata
        self._table.metadata_location = answer.metadata_location
        self._remove_old_metadata(before)

    def _remove_old_metadata(self, before: object) -> None:
        """Metadata files beyond `write.metadata.previous-versions-max`, where the table's property asks for it."""
        try:
            self._table.catalog._delete_old_metadata(self._table.io, before, self._table.metadata)  # type: ignore[arg-type]
        except OSError:
            logger.warning("old metadata not removed", extra={"table": ".".join(self._table.name())}, exc_info=True)
