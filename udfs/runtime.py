"""What one call of a model may take: onnxruntime's memory, shared by all sessions, and a deadline.

A model is input from outside, and a small file can ask for any amount of memory or time (a tensor of a computed shape, a loop).
The arena of all sessions has an upper bound, so such a model fails with an error of onnxruntime's instead of taking the process
along; weights lie outside of it, since they are no larger than the file. A call that is late is ended between two operators.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import onnxruntime as ort

from core.clock import Clock

ARENA_BYTES = 2 * 1024 * 1024 * 1024  # a batch of 4,096 rows needs some MB
_LOOK_SECONDS = 0.1  # a deadline is kept to this precision


def build_session(artifact: bytes) -> Any:  # Any: onnxruntime publishes no types
    """A session that runs on the calling thread alone, within the arena; raises whatever onnxruntime raises."""
    _share_arena()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what matters is raised
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return ort.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])


@cache  # once a process: the allocator belongs to onnxruntime's environment
def _share_arena() -> None:
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"max_mem": ARENA_BYTES}))


class DeadlineExceeded(Exception):
    """A call of a model was ended because it took too long."""


class Deadlines:
    """Ends calls that are late, from one thread that sleeps while there are none.

    Args:
        seconds: for one call.
        clock: measures it.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self._changed = threading.Condition()
        self._running: dict[int, tuple[float, Any]] = {}  # Any: RunOptions
        self._watched = False

    @contextmanager
    def call(self) -> Iterator[Any]:  # Any: as above
        """Options for one `session.run`, which fails once it is late; that failure becomes DeadlineExceeded."""
        options = ort.RunOptions()
        options.log_severity_level = 4
        with self._changed:
            self._running[id(options)] = (self._clock.monotonic_seconds() + self.seconds, options)
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, daemon=True, name="model-deadlines").start()
            elif len(self._running) == 1:
                self._changed.notify()
        try:
            yield options
        except Exception as problem:
            if options.terminate:
                raise DeadlineExceeded(f"not answered within {self.seconds:g} s") from problem
            raise
        finally:
            with self._changed:
                del self._running[id(options)]

    def _watch(self) -> None:
        while True:
            with self._changed:
                # Without calls it sleeps until there is one.
                self._changed.wait(_LOOK_SECONDS if self._running else None)
                now = self._clock.monotonic_seconds()
                for end, options in self._running.values():
                    if now >= end:
                        options.terminate = True
