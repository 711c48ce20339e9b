"""Time-outs and cancellation on the engine itself: a statement that runs too long ends, and the session goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.unit.engine.wire.served import served

# Enough work for minutes, in little memory.
_LONG = "SELECT count(*) FROM generate_series(1, 100000) AS a(x), generate_series(1, 100000) AS b(y) WHERE x * y % 7 = 3"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("limits")) as found:
        yield found


def _connect(port: int, *, autocommit: bool = True) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(f"host=127.0.0.1 port={port} user=root dbname=dev", autocommit=autocommit)


def test_a_statement_ends_at_the_sessions_own_timeout(port: int) -> None:
    with _connect(port) as connection:
        connection.execute("SET statement_timeout TO '300ms'")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            connection.execute(_LONG)
        assert time.monotonic() - began < 30
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.execute("SET statement_timeout TO 0")
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute("SET statement_timeout TO 'soon'")


def test_a_statement_that_is_cancelled_ends_and_the_session_goes_on(port: int) -> None:
    with _connect(port) as connection:
        began = time.monotonic()
        stop = threading.Event()

        def cancel() -> None:
            # The request may come before the statement has begun, and then has no effect: it is repeated.
            while not stop.wait(0.2):
                connection.cancel_safe()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
                connection.execute(_LONG)
        finally:
            stop.set()
            canceller.join()
        assert time.monotonic() - began < 30
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_transaction_that_is_left_open_ends_its_connection(port: int) -> None:
    connection = _connect(port)
    connection.execute("SET idle_in_transaction_session_timeout TO 200")
    time.sleep(0.3)  # outside a block nothing runs out
    connection.execute("BEGIN")
    connection.execute("SELECT 1")
    deadline = time.monotonic() + 20
    with pytest.raises((psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout)):  # noqa: PT012  # polled: nothing tells when the server hangs up
        while time.monotonic() < deadline:
            time.sleep(0.5)
            connection.execute("SELECT 1")
    connection.close()
    with _connect(port) as other:
        assert other.execute("SELECT 1").fetchone() == (1,)
