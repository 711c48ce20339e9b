"""Ad-hoc queries: from a bound query to the SELECT that reads the stored rows."""

from __future__ import annotations

from engine.catalog.objects import Relation
from engine.catalog.relations import View
from engine.catalog.system import SYSTEM_RELATIONS
from engine.plan.algebra import Node, Scan
from engine.plan.batch import render_query
from engine.plan.rules import rewrite
from engine.sql.binder.scope import Environment
from engine.sql.errors import UnsupportedQuery
from engine.sql.expressions import render_literal


def read_sql(node: Node, environment: Environment) -> str:
    """One DuckDB query with columns c0, c1 ..."""
    return render_query(rewrite(node), lambda scan: read_scan(scan, environment))


def read_scan(scan: Scan, environment: Environment) -> str:
    """Read the visible columns of a relation.

    Raises:
        UnsupportedQuery: the relation keeps no rows.
    """
    relation = environment.catalog.relation(scan.relation)
    system = SYSTEM_RELATIONS.get(relation.id)
    if system is not None:
        user = environment.constants.get("current_user", "root")
        view = View(environment.catalog, environment.database, user, environment.settings, environment.live)
        rows = system.rows(view)
        return rows if isinstance(rows, str) else _constant_rows(relation, list(rows))
    if relation.kind == "source":
        raise UnsupportedQuery(
            f"the source `{relation.name}` keeps no rows to select from",
            fix=f"Create a materialized view on it (`CREATE MATERIALIZED VIEW v AS SELECT * FROM {relation.name}`), or make it a TABLE.",
        )
    positions = [i for i, column in enumerate(relation.columns) if not column.hidden]
    return f"SELECT {', '.join(f'c{p} AS c{i}' for i, p in enumerate(positions))} FROM {relation.physical}"


def _constant_rows(relation: Relation, rows: list[tuple[object, ...]]) -> str:
    names = ", ".join(f"c{i}" for i in range(len(relation.columns)))
    if not rows:
        nothing = ", ".join(f"CAST(NULL AS {c.type.duckdb}) AS c{i}" for i, c in enumerate(relation.columns))
        return f"SELECT {nothing} WHERE false"
    values = ", ".join(
        "(" + ", ".join(render_literal(value, c.type) for value, c in zip(row, relation.columns, strict=True)) + ")"
        for row in rows
    )
    return f"SELECT * FROM (VALUES {values}) AS t({names})"
