"""Calls functions of a UDF server over Arrow Flight: what the stream database does, for tests, tools and the REST path."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
from arrow_udf import JsonType


class UdfClient:
    """One connection, safe to share between threads. `close` it, or use it as a context.

    Args:
        url: `http://HOST:PORT` as in `CREATE FUNCTION ... USING LINK`, or `grpc://HOST:PORT`.
        timeout_seconds: how long one call may take.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 10.0) -> None:
        location = url.replace("http://", "grpc://", 1).rstrip("/")
        self._client = flight.FlightClient(location)
        self._options = flight.FlightCallOptions(timeout=timeout_seconds)

    def call(self, function: str, batch: pa.RecordBatch) -> pa.Array:
        """Send one batch of arguments and return the column of results.

        Raises:
            FlightUnavailableError, FlightCancelledError, FlightTimedOutError: nothing was decided; call again later.
            FlightServerError: there is no such function, or it does not take these arguments.
        """
        descriptor = flight.FlightDescriptor.for_path(function)
        writer, reader = self._client.do_exchange(descriptor, options=self._options)
        with writer:
            writer.begin(batch.schema)
            writer.write_batch(batch)
            writer.done_writing()
            # Not `read_all`: pyarrow takes a call that the stopping server cancelled for a Ctrl-C of this process.
            return pa.concat_arrays([chunk.data.column(0) for chunk in reader])

    def predict(self, routes: list[str | None], keys: list[str | None], features: list[list[float | None] | None]) -> pa.Array:
        """Call `predict`; see `udfs.predict.predict` for what comes back."""
        json_type = JsonType()
        arguments = {
            "route": pa.ExtensionArray.from_storage(json_type, pa.array(routes, pa.string())),
            "key": pa.array(keys, pa.string()),
            "features": pa.array(features, pa.list_(pa.float64())),
        }
        return self.call("predict", pa.RecordBatch.from_pydict(arguments))

    def health(self) -> dict[str, Any]:
        """What the server says about itself."""
        (answer,) = self._client.do_action(flight.Action("health", b""), options=self._options)
        state: dict[str, Any] = json.loads(answer.body.to_pybytes())
        return state

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> UdfClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
