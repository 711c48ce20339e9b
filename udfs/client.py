"""Calls functions of a UDF server over Arrow Flight: what the stream database does, for tests, tools and the REST path.

A call that found no server decided nothing, and the functions compute from their arguments alone, so it can be made again: with
`patience_seconds` the client does, and a restart of the server is a call that took longer.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
from arrow_udf import JsonType

import core.errors
from core.clock import Clock, SystemClock
from core.errors import HeadraceError

_AGAIN_SECONDS = 0.05
# gRPC waits up to two minutes before it looks again for a server that was away.
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


class UdfClient:
    """One connection, safe to share between threads. `close` it, or use it as a context.

    Args:
        url: `http://HOST:PORT` as in `CREATE FUNCTION ... USING LINK`, or `grpc://HOST:PORT`.
        timeout_seconds: how long one call may take.
        patience_seconds: how long a call is made again while the server is not there.
        clock: measures that.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float = 10.0, patience_seconds: float = 0.0, clock: Clock | None = None
    ) -> None:
        location = url.replace("http://", "grpc://", 1).rstrip("/")
        self._patience_seconds = patience_seconds
        self._clock = clock or SystemClock()
        self._client = flight.FlightClient(location, generic_options=_RECONNECT)
        self._options = flight.FlightCallOptions(timeout=timeout_seconds)

    def call(self, function: str, batch: pa.RecordBatch) -> pa.Array:
        """Send one batch of arguments and return the column of results.

        Raises:
            FlightUnavailableError, FlightCancelledError, FlightTimedOutError: nothing was decided; call again later.
            FlightServerError: there is no such function, or it does not take these arguments.
        """
        end = self._clock.monotonic_seconds() + self._patience_seconds
        while True:
            try:
                return self._exchange(function, batch)
            except (flight.FlightUnavailableError, flight.FlightCancelledError):
                if self._clock.monotonic_seconds() >= end:
                    raise
                time.sleep(_AGAIN_SECONDS)

    def _exchange(self, function: str, batch: pa.RecordBatch) -> pa.Array:
        descriptor = flight.FlightDescriptor.for_path(function)
        writer, reader = self._client.do_exchange(descriptor, options=self._options)
        with writer:
            writer.begin(batch.schema)
            writer.write_batch(batch)
            writer.done_writing()
            # Not `read_all`: pyarrow takes a call that the stopping server cancelled for a Ctrl-C of this process.
            return pa.concat_arrays([chunk.data.column(0) for chunk in reader])

    def open(self, function: str, schema: pa.Schema) -> Exchange:
        """Keep an exchange of one function open for many batches of `schema`: half the cost of a call each.

        Raises:
            FlightUnavailableError: the server is not there.
        """
        writer, reader = self._client.do_exchange(flight.FlightDescriptor.for_path(function))
        return Exchange(writer, reader, schema)

    def predict(self, routes: list[str | None], keys: list[str | None], features: list[list[float | None] | None]) -> pa.Array:
        """Call `predict`; see `udfs.predict.predict` for what comes back."""
        json_type = JsonType()
        arguments = {
            "route": pa.ExtensionArray.from_storage(json_type, pa.array(routes, pa.string())),
            "key": pa.array(keys, pa.string()),
            "features": pa.array(features, pa.list_(pa.float64())),
        }
        return self.call("predict", pa.RecordBatch.from_pydict(arguments))

    def act(self, name: str, **body: Any) -> dict[str, Any]:  # Any: JSON
        """Ask an action of `udfs.control`.

        Raises:
            HeadraceError: what the server says is wrong, as it would be raised there.
            FlightUnavailableError: it does not answer.
        """
        (answer,) = self._client.do_action(flight.Action(name, json.dumps(body).encode()), options=self._options)
        told: dict[str, Any] = json.loads(answer.body.to_pybytes())
        if "error" in told:
            kind = getattr(core.errors, told["error"]["kind"], HeadraceError)
            raise kind(told["error"]["what"], where=told["error"]["where"], fix=told["error"]["fix"])
        return told

    def health(self) -> dict[str, Any]:
        """What the server says about itself."""
        return self.act("health")

    def ready(self) -> dict[str, Any]:
        """Whether it takes batches: `{"ready", "reason"}`."""
        return self.act("ready")

    def load_model(self, model: str, version: int) -> dict[str, Any]:
        """Fetch, check and warm a version before a route names it: `{"ready": true, ...}`, or `{"ready": false, "code", "message"}`."""
        return self.act("load_model", model=model, version=version)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> UdfClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Exchange:
    """An open exchange with one function: batches in, columns of results out, one at a time.

    It has no deadline of its own; `cancel`, from any thread, ends a call that takes too long.
    """

    def __init__(self, writer: Any, reader: Any, schema: pa.Schema) -> None:  # Any: Flight's own, untyped
        self._writer = writer
        self._reader = reader
        self._writer.begin(schema)

    def call(self, batch: pa.RecordBatch) -> pa.Array:
        """Send a batch and return the column of results; raises as `UdfClient.call`. After an error it cannot be used again."""
        self._writer.write_batch(batch)
        try:
            return self._reader.read_chunk().data.column(0)
        except StopIteration:
            raise flight.FlightUnavailableError("the server ended the exchange") from None

    def cancel(self) -> None:
        """End it at once."""
        self._reader.cancel()
