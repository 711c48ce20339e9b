"""Calls functions of a UDF server: the arrow-udf protocol over Arrow Flight, as RisingWave calls an external server.

`GetFlightInfo` on the function's name answers its signature (argument fields, then the result; `total_records` says how many
are arguments). `DoExchange` takes batches of arguments and answers batches of one column.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import NoReturn
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import flight

from core.errors import HeadraceError, UnavailableError
from engine.connectors.arrow_types import physical_type
from engine.connectors.udf_types import describe_field, from_protocol, protocol_field, to_protocol
from engine.sql.errors import InvalidParameter, SqlError, TypeMismatch, UndefinedFunction
from engine.sql.types import SqlType

_SCHEMES = {"http": "grpc+tcp", "grpc": "grpc+tcp", "grpc+tcp": "grpc+tcp", "https": "grpc+tls", "grpc+tls": "grpc+tls"}
_PING_SECONDS = 2.0
# gRPC waits up to two minutes before it looks again for a server that was away; rows wait as long.
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


class UdfFailed(SqlError):
    """The function itself raised, or answered something that is not its declared result; calling again will not help."""

    sqlstate = "38000"


class UdfClient:
    """One UDF server; keeps its connection and opens it again by itself.

    Args:
        link: the server's address as in `USING LINK`, `http://host:port`.
        timeout: for one call of `check`, and for each batch of `call`.
        batch_rows: most rows sent at once; RisingWave's own chunk is 1,024.
    """

    def __init__(self, link: str, *, timeout: timedelta = timedelta(seconds=30), batch_rows: int = 4096) -> None:
        parts = urlsplit(link if "://" in link else f"http://{link}")
        if parts.scheme not in _SCHEMES or not parts.hostname or parts.port is None:
            raise InvalidParameter(f"`{link}` is not the address of a UDF server", fix="Write USING LINK 'http://host:port'.")
        self.link = link
        self._location = f"{_SCHEMES[parts.scheme]}://{parts.hostname}:{parts.port}"
        self._timeout = timeout
        self._batch_rows = batch_rows
        self._client: flight.FlightClient | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> UdfClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def check(self, name: str, argument_types: Sequence[SqlType], return_type: SqlType) -> None:
        """Compare the declared signature with the server's.

        Raises:
            UndefinedFunction: the server has no such function.
            TypeMismatch: it has it with other types.
            UnavailableError: the server does not answer.
        """
        descriptor = flight.FlightDescriptor.for_path(name)
        try:
            info = self._connected().get_flight_info(descriptor, self._options())
        except flight.FlightError as error:
            self._raise_if_unavailable(error, name)
            raise UndefinedFunction(
                f"the UDF server does not know function `{name}` ({_first_line(error)})",
                where=self.link,
                fix="Check the name after AS, and that the server has loaded it.",
            ) from error
        except pa.ArrowException as error:  # a server written with pyarrow answers KeyError for an unknown name
            raise UndefinedFunction(f"the UDF server does not know function `{name}`", where=self.link) from error
        fields, count = list(info.schema), info.total_records
        declared = [protocol_field("", type_) for type_ in argument_types]
        _compare(f"arguments of `{name}`", declared, fields[:count], self.link)
        _compare(f"result of `{name}`", [protocol_field("", return_type)], fields[count:], self.link)

    def call(self, name: str, args: pa.RecordBatch, argument_types: Sequence[SqlType], return_type: SqlType) -> pa.Array:
        """Evaluate a scalar function on every row.

        Args:
            args: one column an argument, physical types (`SqlType.duckdb` as Arrow).

        Returns:
            as many values as `args` has rows, of the physical type of `return_type`.

        Raises:
            UnavailableError: the server does not answer, or not in time; nothing is known about the rows.
            UdfFailed: the function raised, or its answer does not fit the declaration.
        """
        if args.num_rows == 0:
            return pa.array([], physical_type(return_type))
        schema = pa.schema(
            [protocol_field(field.name, type_) for field, type_ in zip(args.schema, argument_types, strict=True)]
        )
        columns = [to_protocol(column, type_) for column, type_ in zip(args.columns, argument_types, strict=True)]
        batch = pa.record_batch(columns, schema=schema)
        results: list[pa.Array] = []
        try:
            for start in range(0, batch.num_rows, self._batch_rows):
                results += self._exchange(name, schema, batch.slice(start, self._batch_rows))
        except flight.FlightError as error:
            self._raise_if_unavailable(error, name)
            raise UdfFailed(
                f"function `{name}` failed: {_first_line(error)}", where=self.link, fix="See the UDF server's log."
            ) from error
        except pa.ArrowException as error:
            raise UdfFailed(
                f"function `{name}` failed: {_first_line(error)}", where=self.link, fix="See the UDF server's log."
            ) from error
        try:
            return pa.concat_arrays([from_protocol(result, return_type) for result in results])
        except (pa.ArrowException, ValueError) as error:
            what = f"the answer of function `{name}` is no {return_type.sql}: {_first_line(error)}"
            raise UdfFailed(what, where=self.link, fix="Return the type that the function declares.") from error

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _exchange(self, name: str, schema: pa.Schema, batch: pa.RecordBatch) -> list[pa.Array]:
        """One batch there, its answer back: never two on the way, so neither side can wait on a full window."""
        results: list[pa.Array] = []
        writer, reader = self._connected().do_exchange(flight.FlightDescriptor.for_path(name), self._options())
        try:
            writer.begin(schema)
            writer.write_batch(batch)
            writer.done_writing()
            for chunk in reader:
                if chunk.data.num_columns != 1:
                    raise UdfFailed(f"function `{name}` answered {chunk.data.num_columns} columns, not 1", where=self.link)
                results.append(chunk.data.column(0))
        finally:
            # The reader has told what there is to tell; closing after an error raises the same one again.
            with suppress(flight.FlightError, pa.ArrowException):
                writer.close()
        rows = sum(map(len, results))
        if rows != batch.num_rows:
            raise UdfFailed(f"function `{name}` answered {rows} rows for {batch.num_rows}", where=self.link)
        return results

    def _connected(self) -> flight.FlightClient:
        with self._lock:
            if self._client is None:
                self._client = flight.FlightClient(self._location, generic_options=_RECONNECT)
            return self._client

    def _options(self) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(timeout=self._timeout.total_seconds())

    def _raise_if_unavailable(self, error: flight.FlightError, name: str) -> None:
        if isinstance(error, flight.FlightUnavailableError | flight.FlightTimedOutError | flight.FlightCancelledError):
            self._raise_unavailable(error, name)
        # A server that dies while it answers may look like an internal error: ask whether it is still there.
        try:
            list(self._connected().do_action("protocol_version", flight.FlightCallOptions(timeout=_PING_SECONDS)))
        except (flight.FlightUnavailableError, flight.FlightTimedOutError):
            self._raise_unavailable(error, name)
        except (flight.FlightError, pa.ArrowException):
            return  # it answered, if only to say that it does not know the question

    def _raise_unavailable(self, error: HeadraceError | flight.FlightError, name: str) -> NoReturn:
        raise UnavailableError(
            f"the UDF server does not answer for function `{name}` ({_first_line(error)})",
            where=self.link,
            fix="Start the UDF server; the rows wait until it answers.",
        ) from error


def _compare(what: str, declared: Sequence[pa.Field], served: Sequence[pa.Field], link: str) -> None:
    ours, theirs = [describe_field(field) for field in declared], [describe_field(field) for field in served]
    if ours != theirs:
        raise TypeMismatch(
            f"{what} are declared as ({', '.join(ours)}), but the server has ({', '.join(theirs)})",
            where=link,
            fix="Make CREATE FUNCTION and the server's function agree.",
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
