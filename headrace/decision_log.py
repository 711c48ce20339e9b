"""Reads the decision log, from the stream database or from the lake, and decides again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, LiteralString

from core.settings import Settings
from pipelines.routing import Connection, read_history
from udfs.decisions import Decision, parse_members, replay

_SHOWN = 20  # differences that are told one by one; all are counted
_PAGE = 20_000  # rows that are held at a time


def replay_decisions(
    connection: Connection, settings: Settings, tenant_id: str | None, endpoint: str | None, *, from_lake: bool
) -> list[dict[str, Any]]:
    """Replay by tenant and endpoint.

    Returns:
        one object each: `tenant_id`, `endpoint`, `decisions`, `identical`, `different`, the first `differences`, and how many rows
        were `unrouted`: an experiment chose for them, and has a log of its own.
    """
    routes: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for state in read_history(connection, tenant_id, endpoint):
        routes[state.tenant_id, state.endpoint][state.epoch] = state.route_json()
    counts: dict[tuple[str, str], int] = defaultdict(int)
    unrouted: dict[tuple[str, str], int] = defaultdict(int)
    differences: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    pages = _of_lake(settings, tenant_id, endpoint) if from_lake else _of_database(connection, tenant_id, endpoint)
    for page in pages:
        by_endpoint: dict[tuple[str, str], list[Decision]] = defaultdict(list)
        for row in page:
            if row[5] is None:
                continue
            if row[3] is None:
                unrouted[row[0], row[1]] += 1
            else:
                by_endpoint[row[0], row[1]].append(Decision(row[2], row[3], row[4], parse_members(row[5])))
        for place, decisions in by_endpoint.items():
            counts[place] += len(decisions)
            differences[place] += [asdict(each) for each in replay(decisions, routes.get(place, {}))]
    return [
        {
            "tenant_id": place[0],
            "endpoint": place[1],
            "decisions": count,
            "identical": count - len(differences[place]),
            "different": len(differences[place]),
            "unrouted": unrouted[place],
            "differences": differences[place][:_SHOWN],
        }
        for place in sorted(counts.keys() | unrouted.keys())
        for count in [counts[place]]
    ]


def _of_database(connection: Connection, tenant_id: str | None, endpoint: str | None) -> Iterator[list[tuple[Any, ...]]]:
    query: LiteralString = (
        "SELECT tenant_id, endpoint, prediction_id, route_epoch, entity_id, members FROM predictions WHERE TRUE"
    )
    query += " AND tenant_id = %s" if tenant_id is not None else ""
    query += " AND endpoint = %s" if endpoint is not None else ""
    cursor = connection.execute(query, [value for value in (tenant_id, endpoint) if value is not None])
    while page := cursor.fetchmany(_PAGE):
        yield page


def _of_lake(settings: Settings, tenant_id: str | None, endpoint: str | None) -> Iterator[list[tuple[Any, ...]]]:
    from iceberg.catalog import open_lake
    from iceberg.predicates import all_of, equals

    catalog = open_lake(settings)
    if not catalog.table_exists("lake.predictions"):
        return  # nothing was delivered yet
    names = ("tenant_id", "endpoint", "prediction_id", "route_epoch", "entity_id", "members")
    wanted = [equals(name, value) for name, value in (("tenant_id", tenant_id), ("endpoint", endpoint)) if value is not None]
    scan = catalog.load_table("lake.predictions").scan(all_of(*wanted), selected_fields=names)
    for batch in scan.to_arrow_batch_reader():
        yield [tuple(row[name] for name in names) for row in batch.to_pylist()]
