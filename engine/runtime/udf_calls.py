"""Calls of users' functions: from an epoch, and from a query through DuckDB.

A server that does not answer is an UnavailableError: the epoch is rolled back and tried again. A function that fails on a row
gives NULL there and a line in the log, and its neighbours their answer; in a query it is the query's error. A server is called
with halves of the batch until the rows at fault are alone; a worker process of the engine names them itself.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from core.errors import HeadraceError
from core.settings import EngineSettings
from engine.catalog.objects import CatalogObject, Function
from engine.connectors.arrow_types import physical_type
from engine.connectors.udf_client import UdfClient, UdfFailed
from engine.functions.native import ValueFault
from engine.python_udfs.create import LINK, program_of
from engine.python_udfs.pool import WorkerPool
from engine.sql.errors import SqlError, UnsupportedQuery
from engine.sql.expressions import udf_name
from engine.sql.types import SqlType

logger = logging.getLogger(__name__)


class UdfCaller:
    """Holds one client a server, and the worker processes.

    Args:
        settings: whether Python may run, and its limits.
        find: gives a function of the catalog by its id.
    """

    def __init__(self, settings: EngineSettings, find: Callable[[int], CatalogObject]) -> None:
        self._clients: dict[str, UdfClient] = {}
        self._find = find
        self._python_allowed = settings.python_udfs is not False
        memory_bytes = settings.python_udf_memory_mb * 1024 * 1024
        self.workers = WorkerPool(settings.python_udf_workers, settings.python_udf_row_seconds, memory_bytes)
        self._registered: set[str] = set()
        self.failed_rows = 0

    def client(self, link: str) -> UdfClient:
        if link not in self._clients:
            self._clients[link] = UdfClient(link)
        return self._clients[link]

    def check_allowed(self, function: Function, position: int | None) -> None:
        """Refuse Python where the engine's owner does not want it.

        Raises:
            UnsupportedQuery: the setting says no.
        """
        if function.language == "python" and _is_own(function.link) and not self._python_allowed:
            raise UnsupportedQuery(
                "functions in LANGUAGE python are switched off on this engine",
                position=position,
                fix="Set HEADRACE_ENGINE__PYTHON_UDFS=true if you trust all who can connect, or serve the function with `USING LINK`.",
            )

    def register(self, function: Function, connection: duckdb.DuckDBPyConnection) -> None:
        """Make a function known to DuckDB, for queries."""
        if function.link is None:
            return
        link, symbol, types, returns = function.link, function.symbol, function.call_types, function.returns
        name = udf_name(link, symbol, types, returns)
        if name in self._registered:
            return

        def call(*columns: pa.ChunkedArray) -> pa.ChunkedArray:
            arguments = pa.table([*columns], names=[f"a{i}" for i in range(len(columns))])
            if not types and _is_own(link):
                arguments = pa.table([columns[0]], names=["nothing"])
            return self._ask_strictly(function.name, link, symbol, arguments, types, returns)

        count = max(1, len(types))
        names = [inspect.Parameter(f"p{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(count)]
        call.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]  # DuckDB counts its parameters
        connection.create_function(
            name,
            call,
            [type_.duckdb for type_ in types] or ["DOUBLE"],
            returns.duckdb.replace("JSON", "VARCHAR"),  # Arrow has no JSON; the caller casts
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
            side_effects=True,
        )
        self._registered.add(name)

    def call(
        self, link: str, function: str, arguments: pa.Table, types: Sequence[SqlType], returns: SqlType
    ) -> pa.ChunkedArray:
        """Evaluate `function` on every row of `arguments`; NULL where it fails."""
        if _is_own(link):
            values, failed = self._run(link, arguments, types, returns)
            self.failed_rows += len(failed)
            for _, why in failed[:3]:
                logger.warning("function failed on a row", extra={"function": function, "error": why, "rows": len(failed)})
            return values
        batches = arguments.combine_chunks().to_batches()
        if not batches:
            return pa.chunked_array([], physical_type(returns))
        chunks = [chunk for batch in batches for chunk in self._call(link, function, batch, types, returns)]
        return pa.chunked_array(chunks, type=chunks[0].type)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self.workers.close()

    def _ask_strictly(
        self, name: str, link: str, symbol: str, arguments: pa.Table, types: Sequence[SqlType], returns: SqlType
    ) -> pa.ChunkedArray:
        """For a query: the first row that fails is its error, as DuckDB hands errors on (see `functions.native`)."""
        if _is_own(link):
            values, failed = self._run(link, arguments, types, returns)
            if failed:
                raise ValueFault("38000", f"function `{name}` failed: {failed[0][1]}")
            return values
        try:
            batches = arguments.combine_chunks().to_batches()
            answers = [self.client(link).call(symbol, batch, types, returns) for batch in batches]
        except SqlError as error:
            raise ValueFault(error.sqlstate, error.what) from error
        except HeadraceError as error:
            raise ValueFault("58000", error.what) from error
        return pa.chunked_array(answers, type=physical_type(returns))

    def _run(
        self, link: str, arguments: pa.Table, types: Sequence[SqlType], returns: SqlType
    ) -> tuple[pa.ChunkedArray, list[tuple[int, str]]]:
        function = self._find(int(link.removeprefix(LINK)))
        assert isinstance(function, Function)
        try:
            self.check_allowed(function, None)
        except UnsupportedQuery as error:
            raise ValueFault(error.sqlstate, error.what) from error
        return self.workers.call(program_of(function), arguments, types, returns)

    def _call(
        self, link: str, function: str, batch: pa.RecordBatch, types: Sequence[SqlType], returns: SqlType
    ) -> list[pa.Array]:
        try:
            return [self.client(link).call(function, batch, types, returns)]
        except UdfFailed as error:
            if batch.num_rows == 1:
                self.failed_rows += 1
                logger.warning("function failed on a row", extra={"function": function, "error": str(error)})
                return [pa.nulls(1, physical_type(returns))]
            half = batch.num_rows // 2
            first = self._call(link, function, batch.slice(0, half), types, returns)
            return first + self._call(link, function, batch.slice(half), types, returns)


def _is_own(link: str | None) -> bool:
    return link is not None and link.startswith(LINK)
