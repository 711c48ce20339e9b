"""Worker processes for users' Python, and what happens when one dies or does not end.

A row on which the process crashes or hangs is that row's error; the rows around it are asked again of a fresh process. A
batch that costs more than a few processes is given up: the rest of its rows fail too, so that an epoch always ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import LifoQueue

import pyarrow as pa

from engine.connectors.arrow_types import physical_type
from engine.connectors.udf_types import describe_field, from_protocol, protocol_field, to_protocol
from engine.python_udfs.program import Program
from engine.sql.types import SqlType

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct("!I")
_WORKER = Path(__file__).with_name("worker.py")
_START_SECONDS = 30.0  # importing pyarrow on a busy machine
_GRACE_SECONDS = 1.0  # beyond a row's own limit, for code that holds the interpreter and cannot be interrupted
_POLL_SECONDS = 0.2
_MOST_ANSWER_BYTES = 256 * 1024 * 1024
_MOST_DEATHS = 5
_SLICE_ROWS = 1_024


class WorkerDied(Exception):
    """The process is gone, or was ended; `row` is the one it was at."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row = row


class Worker:
    """One process; not for two threads at once."""

    def __init__(self, row_seconds: float, memory_bytes: int) -> None:
        self._row_seconds = row_seconds
        with tempfile.TemporaryFile() as page:
            page.truncate(8)
            self._progress = mmap.mmap(page.fileno(), 8)
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER), str(page.fileno()), str(row_seconds), str(memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(page.fileno(),),
                env={"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"},
                cwd="/",
                start_new_session=True,
            )
        self._fresh = True

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, header: bytes, body: bytes) -> pa.Table:
        """One request.

        Raises:
            WorkerDied: there will be no answer.
        """
        self._progress[:8] = bytes(8)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(_LENGTH.pack(len(header)) + header + _LENGTH.pack(len(body)) + body)
            self._process.stdin.flush()
            size = _LENGTH.unpack(self._take(_LENGTH.size))[0]
            if size > _MOST_ANSWER_BYTES:
                raise WorkerDied(self._row, "its answer is too large")
            return pa.ipc.open_stream(self._take(size)).read_all()
        except (OSError, pa.ArrowException) as error:
            raise WorkerDied(self._row, "its process ended") from error

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        self._progress.close()

    @property
    def _row(self) -> int:
        """Where it is; 0 also while it has not begun."""
        return max(0, self._begun - 1)

    @property
    def _begun(self) -> int:
        return int.from_bytes(self._progress[:8], "little")

    def _take(self, count: int) -> bytes:
        """So many bytes of the answer, as long as rows go by."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        taken = bytearray()
        begun, since = self._begun, time.monotonic()
        while len(taken) < count:
            if select.select([pipe], [], [], _POLL_SECONDS)[0]:
                part = os.read(pipe, min(count - len(taken), 1 << 20))
                if not part:
                    raise WorkerDied(self._row, "its process ended")
                taken += part
                self._fresh = False
                since = time.monotonic()
            elif self._begun != begun:
                begun, since = self._begun, time.monotonic()
                self._fresh = False
            elif time.monotonic() - since > self._patience():
                raise WorkerDied(self._row, f"it ran longer than {self._row_seconds:g} s and could not be interrupted")
        return bytes(taken)

    def _patience(self) -> float:
        return self._row_seconds + (_START_SECONDS if self._fresh else _GRACE_SECONDS)


class WorkerPool:
    """Starts processes when they are first needed and keeps them.

    Args:
        workers: most processes at once.
        row_seconds: how long one row, or one group of an aggregate, may take.
        memory_bytes: what a process may allocate.
    """

    def __init__(self, workers: int, row_seconds: float, memory_bytes: int) -> None:
        self._row_seconds = row_seconds
        self._memory_bytes = memory_bytes
        self._places: LifoQueue[Worker | None] = LifoQueue()
        for _ in range(workers):
            self._places.put(None)
        self._workers = workers
        self._lock = threading.Lock()
        self.deaths = 0

    def call(
        self, program: Program, arguments: pa.Table, types: Sequence[SqlType], returns: SqlType
    ) -> tuple[pa.ChunkedArray, list[tuple[int, str]]]:
        """Evaluate a function on every row.

        Returns:
            a value a row (physical type of `returns`), NULL where it failed; and the rows that failed, with the reason.
        """
        chunks: list[pa.Array] = []
        failed: list[tuple[int, str]] = []
        deaths = 0
        start = 0
        while start < arguments.num_rows:
            part = arguments.slice(start, _SLICE_ROWS)
            while part.num_rows:
                try:
                    answer = self._ask(program, part, tuple(types), returns)
                except WorkerDied as error:
                    deaths += 1
                    if deaths > _MOST_DEATHS:
                        logger.error("function given up for a batch", extra={"function": program.name, "deaths": deaths})
                        rest = arguments.num_rows - start
                        failed += [(start + at, "it ended its process too often") for at in range(rest)]
                        chunks.append(pa.nulls(rest, physical_type(returns)))
                        return pa.chunked_array(chunks, type=physical_type(returns)), failed
                    row = min(error.row, part.num_rows - 1)
                    logger.warning("function ended its process", extra={"function": program.name, "why": str(error)})
                    if row:
                        # What came before it answered already once; it is asked again without the row at fault.
                        before, bad = self.call(program, part.slice(0, row), types, returns)
                        chunks += before.chunks
                        failed += [(start + at, why) for at, why in bad]
                    chunks.append(pa.nulls(1, physical_type(returns)))
                    failed.append((start + row, str(error)))
                    start += row + 1
                    part = part.slice(row + 1)
                    continue
                values, errors = answer
                chunks.append(values)
                failed += [(start + at, why) for at, why in enumerate(errors) if why is not None]
                start += part.num_rows
                break
        return pa.chunked_array(chunks, type=physical_type(returns)), failed

    @property
    def pids(self) -> set[int]:
        """Processes that wait for work now."""
        return {worker.pid for worker in list(self._places.queue) if worker is not None}

    def close(self) -> None:
        for _ in range(self._workers):
            worker = self._places.get()
            if worker is not None:
                worker.kill()

    def _ask(
        self, program: Program, part: pa.Table, types: tuple[SqlType, ...], returns: SqlType
    ) -> tuple[pa.Array, list[str | None]]:
        columns = [to_protocol(_whole(column), type_) for column, type_ in zip(part.columns, types, strict=False)]
        fields = [protocol_field(f"a{i}", type_) for i, type_ in enumerate(types)]
        sink = pa.BufferOutputStream()
        schema = pa.schema(fields)
        with pa.ipc.new_stream(sink, schema) as writer:
            if columns:
                writer.write_batch(pa.record_batch(columns, schema=schema))
        header = json.dumps(program.header(types, returns, part.num_rows)).encode()
        worker = self._places.get()
        try:
            if worker is not None and not worker.alive:
                worker.kill()
                worker = None
            if worker is None:
                worker = Worker(self._row_seconds, self._memory_bytes)
            table = worker.ask(header, bytes(sink.getvalue()))
            values, errors = _checked(table, part.num_rows, returns)
        except BaseException:
            # Whatever went wrong, an answer may still be in the pipe: this process is not asked again.
            if worker is not None:
                worker.kill()
                worker = None
            with self._lock:
                self.deaths += 1
            raise
        finally:
            self._places.put(worker)
        return values, errors


def _checked(table: pa.Table, rows: int, returns: SqlType) -> tuple[pa.Array, list[str | None]]:
    """The answer, if it is one: what comes out of the process is not trusted."""
    wanted = describe_field(protocol_field("value", returns))
    try:
        table.validate(full=True)
        if (
            table.num_rows != rows
            or table.column_names != ["value", "error"]
            or describe_field(table.schema.field(0)) != wanted
        ):
            raise WorkerDied(0, "its process gave no proper answer")
        values = _whole(table.column(0))
        errors: list[str | None] = table.column(1).to_pylist()
        try:
            return from_protocol(values, returns), errors
        except (pa.ArrowException, ValueError):
            return _one_by_one(values, errors, returns), errors
    except pa.ArrowException as error:
        raise WorkerDied(0, "its process gave no proper answer") from error


def _one_by_one(values: pa.Array, errors: list[str | None], returns: SqlType) -> pa.Array:
    parts = []
    for at in range(len(values)):
        try:
            parts.append(from_protocol(values.slice(at, 1), returns))
        except (pa.ArrowException, ValueError) as error:
            errors[at] = f"its answer is no {returns.sql}: {error}"
            parts.append(pa.nulls(1, physical_type(returns)))
    return pa.concat_arrays(parts)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
