"""A new view over tables that hold much already takes their rows bit by bit, in the epochs that go on meanwhile.

Each relation that it reads is parted by a hash of the stream key. An epoch brings one more part, as the rows were when it
began, and of the epoch's changes those of the parts that were brought before or now; the others will come with their part.

    parts of a table    | brought | brought | this epoch |   later   |   later   |
    the view gets          changes   changes   rows + changes   -           -

So the operators see one changelog that adds up to the table, whatever changes while they catch up, and the view joins the
others in the epoch that brings the last part. Progress is stored in the epoch's transaction: after a crash a view that is
built in the background goes on, and one whose client waited for it is gone.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from engine.catalog.objects import CatalogObject, MaterializedView
from engine.operators.base import Delta, column_list, consolidate, no_change, store
from engine.operators.leaf import RelationLeaf
from engine.runtime.builder import Built
from engine.runtime.epoch import Epoch
from engine.runtime.jobs import Job
from engine.sql.expressions import quote_string


@dataclass(frozen=True)
class Progress:
    """How many of a relation's parts were brought."""

    done: int
    parts: int

    @property
    def ended(self) -> bool:
        return self.done >= self.parts


class BackfillFailed(Exception):
    """The rows of a new view cannot be computed; the epoch is tried again without it."""

    def __init__(self, backfill: Backfill) -> None:
        super().__init__(backfill.object.name)
        self.backfill = backfill


class Backfill:
    """A view that is being built. Belongs to the writer's thread, but for `future`.

    Args:
        built: the view.
        job: its operators; their tables exist, and what they emit at first is in them.
        background: it goes on after a restart.
        progress: by relation that it reads.

    Attributes:
        future: done when the view is part of the graph, or will never be.
    """

    def __init__(self, built: Built, job: Job, *, background: bool, progress: Mapping[int, Progress]) -> None:
        self.built = built
        self.object: CatalogObject = built.object
        self.job = job
        self.background = background
        self.progress = dict(progress)
        self.began_at = dt.datetime.now(dt.UTC)
        self.future: Future[CatalogObject] = Future()
        self._next: dict[int, Progress] = {}

    @property
    def ended(self) -> bool:
        """Whether all is brought, as of the last commit."""
        return all(p.ended for p in self.progress.values())

    @property
    def ends(self) -> bool:
        """Whether the running epoch brings the last part."""
        return all(p.ended for p in self._next.values())

    @property
    def share(self) -> float:
        """How much of it is done."""
        return sum(p.done for p in self.progress.values()) / sum(p.parts for p in self.progress.values())

    def needs(self, objects: set[int]) -> bool:
        """Whether it is built on one of these."""
        return bool(objects.intersection({*self.object.depends_on, *self.job.reads}))

    def step(self, epoch: Epoch) -> None:
        """Bring the next part of each relation, and store how far that is.

        Raises:
            BackfillFailed: the operators cannot compute it.
        """
        try:
            self._next = {r: Progress(min(p.done + 1, p.parts), p.parts) for r, p in self.progress.items()}
            leaves = {leaf.relation: leaf for leaf in self.job.leaves}
            with epoch.replaced({r: self._delta(epoch, leaf) for r, leaf in leaves.items()}):
                self.job.run(epoch)
        except Exception as error:
            raise BackfillFailed(self) from error
        epoch.execute(f"UPDATE hr.jobs SET progress = {quote_string(self._stored(self._next))} WHERE id = {self.object.id}")

    def _delta(self, epoch: Epoch, leaf: RelationLeaf) -> Delta:
        now, after = self.progress[leaf.relation], self._next[leaf.relation]
        changes = epoch.relation_delta(leaf.relation)
        # Nothing is said of time before all rows are there: they would be late.
        marks = changes.watermarks if self.ends else {}
        names = column_list(len(leaf.physical_types))
        key = ", ".join(f"CAST(c{p} AS {leaf.physical_types[p].duckdb})" for p in leaf.physical_key)
        part = f"hash({key}) % {after.parts}" if key else "0"
        selects = []
        if not now.ended:
            selects.append(f"SELECT {names}, CAST(1 AS TINYINT) AS d FROM {leaf.physical} AS t WHERE {part} = {now.done}")
        if not changes.empty:
            selects.append(f"SELECT {names}, d FROM {changes.source} AS t WHERE {part} < {after.done}")
        if not selects:
            return no_change(marks)
        if len(selects) == 1:
            delta = store(epoch, selects[0])
            return Delta(delta.source, delta.empty, marks)
        name, count = consolidate(epoch, " UNION ALL ".join(selects), len(leaf.physical_types))
        return Delta(name, count == 0, marks)

    def committed(self) -> None:
        if self._next:
            self.progress, self._next = self._next, {}

    def rolled_back(self) -> None:
        self._next = {}

    def store_ended(self, epoch: Epoch) -> None:
        """In the transaction of the epoch that brings the last part: from a job it becomes an object."""
        kind, number = quote_string(self.object.kind), self.object.id
        epoch.execute(
            f"INSERT INTO hr.catalog SELECT id, {kind}, database, schema, name, sql, facts FROM hr.jobs WHERE id = {number}"
        )
        epoch.execute(f"DELETE FROM hr.jobs WHERE id = {number}")

    @property
    def removal(self) -> list[str]:
        """Statements that leave nothing of it."""
        return [*self.job.drop_ddl(), f"DELETE FROM hr.jobs WHERE id = {self.object.id}"]

    @property
    def row(self) -> list[object]:
        """What `hr.jobs` holds of it."""
        made = self.object
        return [made.id, made.database, made.schema, made.name, made.sql, self.background, self._stored(self.progress)]

    @staticmethod
    def _stored(progress: Mapping[int, Progress]) -> str:
        return json.dumps({str(relation): [p.done, p.parts] for relation, p in progress.items()})


def read_progress(text: str) -> dict[int, Progress]:
    return {int(relation): Progress(done, parts) for relation, (done, parts) in json.loads(text).items()}


def parts_of(sizes: Mapping[int, int], rows: int, job: Job) -> dict[int, Progress]:
    """How relations of these sizes are parted, so that a part holds about `rows` rows."""
    keyless = {leaf.relation for leaf in job.leaves if not leaf.physical_key}
    return {r: Progress(0, 1 if r in keyless else max(1, -(-size // rows))) for r, size in sizes.items()}


def can_be_built_in_parts(job: Job, stored: set[int]) -> bool:
    """Whether all that it reads is stored; what a source gave has to be read again instead."""
    return isinstance(job.object, MaterializedView) and bool(job.reads) and job.reads <= stored and not job.looks_up
