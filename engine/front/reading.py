"""Ad-hoc queries: from a bound query to the SELECT that reads the stored rows."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from engine.catalog.catalog import QUARANTINE_ID
from engine.catalog.objects import Relation
from engine.catalog.relations import View
from engine.catalog.system import SYSTEM_RELATIONS
from engine.connectors.arrow_types import physical_type
from engine.plan.algebra import Node, Scan
from engine.plan.batch import render_query
from engine.plan.rules import rewrite
from engine.plan.traversal import map_tree
from engine.sql.binder.scope import Environment
from engine.sql.errors import UnsupportedQuery
from engine.sql.expressions import AggregateCall, Expr, WindowCall, lenient, quote_string


def read_sql(node: Node, environment: Environment) -> str:
    """One DuckDB query with columns c0, c1 ..., over stored relations and `environment.tables`."""
    node = rewrite(node)
    if environment.settings.get("batch_expr_strict_mode") == "false":
        node = map_tree(node, _lenient)
    return render_query(node, lambda scan: read_scan(scan, environment))


def _lenient(expr: Expr) -> Expr:
    """What gives NULL where `expr` fails on a row."""
    if isinstance(expr, (AggregateCall, WindowCall)):
        return replace(expr, args=tuple(_lenient(arg) for arg in expr.args))
    return lenient(expr)


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
        return rows if isinstance(rows, str) else _in_memory(relation, list(rows), environment)
    if relation.kind == "source":
        raise UnsupportedQuery(
            f"the source `{relation.name}` keeps no rows to select from",
            fix=f"Create a materialized view on it (`CREATE MATERIALIZED VIEW v AS SELECT * FROM {relation.name}`), or make it a TABLE.",
        )
    positions = [i for i, column in enumerate(relation.columns) if not column.hidden]
    sql = f"SELECT {', '.join(f'c{p} AS c{i}' for i, p in enumerate(positions))} FROM {relation.physical}"
    # Rows of before databases were noted are everybody's.
    mine = f" WHERE coalesce(database, {quote_string(environment.database)}) = {quote_string(environment.database)}"
    return sql + (mine if relation.id == QUARANTINE_ID else "")


def _in_memory(relation: Relation, rows: list[tuple[object, ...]], environment: Environment) -> str:
    """The rows as an Arrow table beside the query: as VALUES, DuckDB would parse tens of thousands of constants."""
    name = f"system_{relation.id}".replace("-", "_")
    if name not in environment.tables:
        columns = list(zip(*rows, strict=True)) or [()] * len(relation.columns)
        arrays = [pa.array(values, physical_type(c.type)) for values, c in zip(columns, relation.columns, strict=True)]
        environment.tables[name] = pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])
    return f"SELECT * FROM {name}"
