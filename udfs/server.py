"""The Flight server that a stream database calls: the arrow-udf protocol, on loopback by default.

`RisingWave` and the embedded engine open an exchange named after the function, write record batches of arguments, and read
one batch of results for each. What concerns a row is an answer (`udfs.predict`); what concerns the server is a Flight error:
*unavailable* when the same call may succeed later (the registry does not answer, the server is draining), so that the
caller waits and tries again instead of taking it for a result.

Actions: those of `udfs.control`, and `protocol_version`, which arrow-udf clients ask first.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
from arrow_udf import UdfServer, UserDefinedFunction

from core.errors import HeadraceError, InvalidInputError, UnavailableError
from core.settings import LOOPBACK, Settings
from core.telemetry import span
from iceberg.registry import open_registry
from udfs.control import Control, is_local, offer_to_trial
from udfs.explanations.explainer import Explainers
from udfs.explanations.functions import ExplainFunction, SaliencyFunction
from udfs.fetching import FetchingProcess
from udfs.functions.definition import Definition
from udfs.functions.loading import load_folder, lock
from udfs.functions.rows import UserFunction
from udfs.functions.table import FunctionTable
from udfs.infer import InferFunction
from udfs.library import FOLDER as LIBRARY
from udfs.predict import PredictFunction
from udfs.sessions import ArtifactSource, ModelSessions
from udfs.shadow_topic import ShadowTopic
from udfs.shadows import ShadowLane, ShadowPlan
from udfs.watching import ModelWatcher

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0  # a batch takes milliseconds; a supervisor kills after ten seconds
CLOSE_SECONDS = 1.0  # closing takes milliseconds, or for ever
# A call takes Python's lock some times, and each time waits so long for a thread that computes (one that loads a model, say).
# With Python's 5 ms a call of 3 ms took 30 while a model was loaded.
SWITCH_SECONDS = 0.0001
_PROTOCOL_VERSION = b"\x02"


class UdfFlightServer(UdfServer):  # type: ignore[misc]  # arrow-udf publishes no types
    """Serves functions from the moment it is built, until `drain_and_stop`.

    Args:
        host: the address to bind.
        port: 0 takes a free one; `port` says which.
        functions: what is served.
        control: what an operator can ask.
        calls_under_way: kept at how many batches are being answered, for who should rest meanwhile.
    """

    def __init__(
        self,
        host: str,
        port: int,
        functions: FunctionTable,
        control: Control | None = None,
        calls_under_way: ctypes.c_int | None = None,
    ) -> None:
        self._idle = threading.Condition()
        self._calls = ctypes.c_int() if calls_under_way is None else calls_under_way
        self._table = functions
        self._control = control or Control(functions)
        try:
            super().__init__(f"{host}:{port}")
        except pa.ArrowException as problem:
            raise UnavailableError(
                f"cannot listen on `{host}:{port}`: {problem}", fix="Stop what uses the port, or choose another one."
            ) from problem

    def do_exchange(self, _context: Any, descriptor: Any, reader: Any, writer: Any) -> None:  # Any: Flight's own, untyped
        """Answer each batch of arguments with one batch of results."""
        writer.begin(self._must_get(descriptor)._result_schema)
        for chunk in reader:
            # Looked up for every batch: a caller that holds an exchange open gets the version that is live now.
            function = self._must_get(descriptor)
            begun = time.monotonic()
            with self._call(), span("udf batch", function=function._name, rows=chunk.data.num_rows):
                results = self._evaluate(function, chunk.data)
            offer_to_trial(self._control, function._name, chunk.data, results, time.monotonic() - begun)
            for result in results:
                writer.write_batch(result)
            if isinstance(function, PredictFunction):
                function.answered(chunk.data)

    def get_flight_info(self, _context: Any, descriptor: Any) -> Any:  # Any: as above
        """The function's argument and result schema, concatenated."""
        return self._make_flight_info(self._must_get(descriptor))

    def list_actions(self, _context: Any) -> list[tuple[str, str]]:
        told = [(name, description) for name, (description, _) in self._control.actions.items()]
        return [*told, ("protocol_version", "Version of the arrow-udf protocol.")]

    def do_action(self, context: Any, action: Any) -> Iterator[bytes]:  # Any: as above
        if action.type == "protocol_version":
            yield _PROTOCOL_VERSION
        elif action.type in self._control.actions:
            yield self._control.act(action.type, action.body.to_pybytes(), local=is_local(context.peer()))
        else:
            known = ", ".join(sorted([*self._control.actions, "protocol_version"]))
            raise flight.FlightServerError(f"unknown action `{action.type}`; there are {known}")

    def drain_and_stop(self, timeout_seconds: float = DRAIN_SECONDS) -> bool:
        """Refuse new batches, let the running ones end, then close.

        Returns:
            whether everything is closed. Flight cannot interrupt an exchange that a caller holds open without sending
            anything, and waits for it, also when the interpreter exits; a process that must end now has to leave hard.
        """
        with self._idle:
            self._control.draining = True
            drained = self._idle.wait_for(lambda: self._calls.value == 0, timeout_seconds)
        if not drained:
            logger.warning("udf batches cut off", extra={"waited_seconds": timeout_seconds})
        self._control.end_trials()
        closing = threading.Thread(target=self.shutdown, daemon=True, name="udf-shutdown")
        closing.start()
        closing.join(CLOSE_SECONDS)
        return not closing.is_alive()

    def reload(self) -> None:
        """Load the folder of functions again; what is wrong with it is logged, and what is served goes on."""
        try:
            logger.info("functions loaded", extra={"new": self._table.reload()})
        except HeadraceError as problem:
            logger.warning("functions not loaded", extra={"reason": str(problem)})

    def ask(self, action: str, body: Mapping[str, Any]) -> bytes:  # Any: JSON
        """The answer to one action of `udfs.control`, for this process itself."""
        return self._control.act(action, json.dumps(body).encode())

    def close_functions(self) -> None:
        """End the processes and threads of users' functions."""
        self._table.close()

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._idle:
            if self._control.draining:
                raise flight.FlightUnavailableError("the UDF server is stopping; try again")
            self._calls.value += 1
        try:
            yield
        finally:
            with self._idle:
                self._calls.value -= 1
                self._idle.notify_all()

    def _evaluate(self, function: UserDefinedFunction, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        wanted = function._input_schema
        if batch.num_columns != len(wanted):
            raise flight.FlightServerError(
                f"`{function._name}` takes {len(wanted)} arguments ({', '.join(wanted.names)}), got {batch.num_columns}"
            )
        try:
            return list(function.eval_batch(batch))
        except HeadraceError as problem:
            logger.warning("batch not answered", extra={"function": function._name, "reason": str(problem)})
            kind = flight.FlightUnavailableError if problem.retryable else flight.FlightServerError
            raise kind(str(problem)) from problem
        except OSError as problem:  # the registry's storage or network
            logger.warning("batch not answered", extra={"function": function._name, "reason": str(problem)})
            raise flight.FlightUnavailableError(f"a dependency does not answer: {problem}") from problem
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as problem:
            raise flight.FlightServerError(f"the arguments of `{function._name}` are of another type: {problem}") from problem
        except Exception:
            logger.exception("batch failed", extra={"function": function._name})
            raise

    def _must_get(self, descriptor: Any) -> UserDefinedFunction:  # Any: Flight's own, untyped
        name = descriptor.path[0].decode() if descriptor.path else ""
        found = self._table.get(name)
        if found is None:
            raise flight.FlightServerError(f"there is no function `{name}`; there are {', '.join(self._table.names())}")
        return found


def build_server(
    source: ArtifactSource,
    *,
    host: str = LOOPBACK,
    port: int = 8815,
    threads: int = 2,
    functions: Sequence[Definition] = (),
    folder: Path | None = None,
    check: Callable[[], object] = lambda: None,
    shadows: ShadowLane | None = None,
) -> UdfFlightServer:
    """A listening server with all functions.

    Args:
        source: the model registry.
        host: the address to bind.
        port: 0 takes a free one.
        threads: how many model calls run at a time.
        functions: users' own, beside those of headrace.
        folder: where they came from, and more can be loaded from later.
        check: raises when the registry does not answer.
        shadows: where rows go that shadows shall answer too; None: shadows are not asked.
    """
    if threads < 1:
        raise InvalidInputError(f"threads must be at least 1, got `{threads}`")
    sessions = ModelSessions(source, threads=threads)
    explainers = Explainers(source, sessions)
    library = [UserFunction(definition) for definition in load_folder(LIBRARY)]
    fixed = [
        PredictFunction(sessions, shadows),
        InferFunction(sessions),
        ExplainFunction(explainers),
        SaliencyFunction(explainers),
        *library,
    ]
    table = FunctionTable(fixed, functions, folder)

    def health() -> dict[str, Any]:  # Any: JSON
        remembered = {"hits": explainers.hits, "misses": explainers.misses}
        told = {
            "models": sessions.loaded(),
            "threads": threads,
            "explanations": remembered,
            "latency": sessions.latencies.told(),
        }
        return told | ({"shadows": shadows.counts()} if shadows is not None else {})

    control = Control(table, sessions, health=health, check=check)
    return UdfFlightServer(host, port, table, control, shadows.calls_under_way if shadows is not None else None)


def _watcher(server: UdfFlightServer, database_url: str, host: str) -> ModelWatcher:
    def warm(name: str, version: int) -> dict[str, Any]:  # Any: JSON
        answer: dict[str, Any] = json.loads(server.ask("load_model", {"model": name, "version": version}))
        if "error" in answer:
            raise UnavailableError(answer["error"]["what"])
        return answer

    address = f"{host}:{server.port}"
    return ModelWatcher(database_url, server_id=address, url=f"http://{address}", warm=warm)


def run(
    settings: Settings,
    host: str,
    port: int,
    *,
    threads: int | None = None,
    functions: Path | None = None,
    on_ready: Callable[[int], None] = lambda _port: None,
) -> None:
    """Serve the models of the registry until SIGTERM or SIGINT, then drain. Call it from the main thread.

    Args:
        settings: say where the registry is.
        host: the address to bind.
        port: 0 takes a free one; `on_ready` is told which, once calls are answered.
        threads: how many model calls run at a time; default: one for each processor.
        functions: a folder of users' functions; each version that is served for the first time is locked.
    """
    definitions = load_folder(functions) if functions is not None else []
    if functions is not None:
        lock(functions, definitions)
    shadows = ShadowLane(ShadowPlan(partial(open_registry, settings), partial(ShadowTopic, settings.kafka)))
    registry = open_registry(settings)
    fetching = FetchingProcess(partial(open_registry, settings), registry)
    try:
        serve(
            fetching,
            watch=settings.database_url,
            host=host,
            port=port,
            threads=threads or os.cpu_count() or 1,
            functions=definitions,
            folder=functions,
            check=registry.revision,
            shadows=shadows,
            on_ready=on_ready,
        )
    finally:
        fetching.close()


def serve(
    source: ArtifactSource,
    *,
    host: str,
    port: int,
    threads: int,
    functions: Sequence[Definition] = (),
    folder: Path | None = None,
    check: Callable[[], object] = lambda: None,
    shadows: ShadowLane | None = None,
    watch: str | None = None,
    on_ready: Callable[[int], None] = lambda _port: None,
) -> None:
    """As `run`, with any source of artifacts. SIGHUP loads the folder of functions again, as the action `reload` does.

    Args:
        watch: the stream database whose `model_events` are followed (`udfs.watching`); None: nobody's.
    """
    stop = threading.Event()
    sys.setswitchinterval(SWITCH_SECONDS)

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    server = build_server(
        source, host=host, port=port, threads=threads, functions=functions, folder=folder, check=check, shadows=shadows
    )
    watcher = _watcher(server, watch, host) if watch is not None else None
    again = threading.Event()
    previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda _number, _frame: again.set())
    # What is there now stays: a full collection would look at all of it, for a tenth of a second in which no call is answered.
    gc.collect()
    gc.freeze()
    try:
        logger.info("udf server ready", extra={"host": host, "port": server.port})
        on_ready(server.port)
        if watcher is not None:
            watcher.start()
        # The kernel may hand the signal to one of gRPC's threads; Python's handler runs when this one wakes up next.
        while not stop.wait(0.2):
            if again.is_set():
                again.clear()
                server.reload()
        if watcher is not None:
            watcher.close()
        closed = server.drain_and_stop()
        server.close_functions()
        if shadows is not None:
            shadows.close()
        logger.info("udf server stopped", extra={"closed": closed})
        if not closed:  # all batches are answered; only callers that wait are left, and they will call again
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
