"""What a client sees of a refused statement: SQLSTATE, position and hint as fields of the message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.unit.engine.front.test_refused_statements import OBJECTS, REFUSED
from tests.unit.engine.wire.served import served


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    folder: Path = tmp_path_factory.mktemp("refusals")
    with (
        served(folder) as port,
        psycopg.connect(f"host=127.0.0.1 port={port} user=root dbname=dev", autocommit=True) as connection,
    ):
        connection.execute(OBJECTS)
        yield connection


def test_every_refusal_reaches_the_client_with_code_place_and_remedy(client: psycopg.Connection[tuple[object, ...]]) -> None:
    assert len(REFUSED) >= 40
    for sql, sqlstate, position in REFUSED:
        if "$" in sql:
            continue  # parameters are the extended protocol's
        before = "SELECT 1; "
        for text, shift in ((sql, 0), (before + sql, len(before))):
            # Without parameters psycopg sends the simple protocol, in which a position counts from the start of the whole text.
            with pytest.raises(psycopg.Error) as refused:
                client.execute(text.encode())
            told = refused.value.diag
            expected = str(position + shift) if position is not None else None
            assert (told.sqlstate, told.statement_position) == (sqlstate, expected), text
            assert told.message_hint, text
            assert told.severity == "ERROR"
    assert client.execute("SELECT 1").fetchone() == (1,)


def test_the_extended_protocol_tells_the_same(client: psycopg.Connection[tuple[object, ...]]) -> None:
    for sql, sqlstate, position in REFUSED:
        if sql.startswith(("COPY", "FETCH", "CLOSE")) or "$" in sql:
            continue
        with pytest.raises(psycopg.Error) as refused:
            client.execute(sql.replace("%", "%%").encode(), prepare=True)
        told = refused.value.diag
        assert (told.sqlstate, told.statement_position) == (sqlstate, str(position) if position is not None else None), sql
        assert told.message_hint, sql
