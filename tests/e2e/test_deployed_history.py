"""Every text that an object ever had stays in the stream database's history, also when a deployment is cut off."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pipelines import ledger
from pipelines.ledger import Entry
from tests.e2e.deployment import Deployment

pytestmark = pytest.mark.timeout(120)


class Cut(psycopg.Connection[Any]):
    """A connection that is lost before the history is written."""

    def execute(self, query: Any, *arguments: Any, **more: Any) -> psycopg.Cursor[Any]:
        text = query.as_string(self) if isinstance(query, psycopg.sql.Composable) else str(query)
        if text.startswith('INSERT INTO "deployed_history"'):
            raise psycopg.OperationalError("the connection is lost")
        return super().execute(query, *arguments, **more)


def entry(name: str, sql: str) -> Entry:
    return Entry(name, "VIEW", "p", "p/10.sql:1", sql, "applied", sql)


def test_what_the_ledger_has_as_applied_stands_in_the_history(bare_deployment: Deployment) -> None:
    name = bare_deployment.name
    with psycopg.connect(bare_deployment.url, autocommit=True) as connection:
        ledger.prepare(connection)
        ledger.write(connection, [entry(name, "SELECT 1")])
        with Cut.connect(bare_deployment.url, autocommit=True) as cut, pytest.raises(psycopg.OperationalError, match="is lost"):
            ledger.write(cut, [entry(name, "SELECT 2")])
        applied = ledger.read(connection)[name, "VIEW"].sql
        assert applied in [text for _, _, text, _ in ledger.history(connection, name)], "it is not written again, so it is lost"
        ledger.write(connection, [entry(name, "SELECT 2")])
        ledger.write(connection, [entry(name, "SELECT 2")])
        assert [text for _, _, text, _ in ledger.history(connection, name)] == ["SELECT 1", "SELECT 2"]
