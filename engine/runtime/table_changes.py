"""What a table makes of the changes that come in: conflicts on its key are decided here, in the order of arrival.

| ON CONFLICT | of several rows with one key |
|---|---|
| OVERWRITE (default) | the last one stays; with VERSION COLUMN the last one of the greatest version |
| DO NOTHING | the first one stays |
| DO UPDATE IF NOT NULL | the last value of each column that is not NULL; with VERSION COLUMN of rows that are no older |

A deletion frees the key. Source: RisingWave documentation, "CREATE TABLE".
"""

from __future__ import annotations

from engine.catalog.objects import Input
from engine.operators.base import Delta, apply_to_state, column_list, same_key
from engine.runtime.epoch import Epoch
from engine.sql.expressions import Column, Expr, transform


def apply_changes(epoch: Epoch, relation: Input, changes: str, names: str, *, inserts: bool = False) -> None:
    """Decide conflicts, set the relation's changelog and store the rows.

    Args:
        changes: a relation with c0 .., `d` and `ord`, the order of arrival.
        names: `c0, c1 ...`.
        inserts: known to hold no deletion.
    """
    width = len(relation.columns)
    typed = ", ".join(f"CAST(c{i} AS {c.type.duckdb}) AS c{i}" for i, c in enumerate(relation.columns))
    grows = (relation.append_only or inserts) and not relation.primary_key
    if grows:
        name, count = epoch.temp(f"SELECT {typed}, CAST(1 AS TINYINT) AS d FROM {changes} ORDER BY ord")
    else:
        incoming, _ = epoch.temp(f"SELECT {typed}, d, ord FROM {changes}")
        stored = f"(SELECT s.* FROM {relation.physical} AS s SEMI JOIN {incoming} AS x ON {same_key('s', 'x', relation.key)})"
        name, count = epoch.temp(
            f"SELECT {names}, CAST(sum(d) AS TINYINT) AS d FROM (SELECT {names}, 1 AS d FROM ({_final(relation, incoming, stored, names)})"
            f" AS n UNION ALL SELECT {names}, -1 AS d FROM {stored} AS o) AS x GROUP BY {names} HAVING sum(d) <> 0"
        )
    if not count:
        return
    if not grows:
        ((least,),) = epoch.fetch_rows(f"SELECT min(d) FROM {name}")
        grows = least > 0
    epoch.set_relation_delta(relation.id, Delta(name, grows=grows))
    apply_to_state(epoch, relation.physical, name, width, relation.key, grows, defer=True)


def _final(relation: Input, incoming: str, stored: str, names: str) -> str:
    """The rows that are there afterwards, of all keys that occur in `incoming`."""
    key = ", ".join(f"c{p}" for p in relation.key)
    if relation.on_conflict == "overwrite" and not relation.version:
        return (
            f"SELECT {names} FROM (SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY ord DESC) AS rn FROM {incoming}) AS r"
            " WHERE rn = 1 AND d > 0"
        )
    candidates = _candidates(relation, incoming, stored, names)
    if relation.on_conflict == "do update if not null":
        values = ", ".join(
            f"c{i}" if i in relation.key else f"arg_max(c{i}, ord) FILTER (WHERE c{i} IS NOT NULL) AS c{i}"
            for i in range(len(relation.columns))
        )
        kept = _not_older(relation, candidates, key) if relation.version else candidates
        return f"SELECT {values} FROM ({kept}) AS k GROUP BY {key}"
    versions = "".join(f"c{p} DESC NULLS LAST, " for p in relation.version)
    order = "ord" if relation.on_conflict == "ignore" else f"{versions}ord DESC"
    return f"SELECT {names} FROM ({candidates}) AS k QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {order}) = 1"


def _not_older(relation: Input, candidates: str, key: str) -> str:
    """Rows whose version is no smaller than those before; one that is NULL stops nothing and is stopped by nothing."""
    version = ", ".join(f"c{p}" for p in relation.version)
    known = " AND ".join(f"c{p} IS NOT NULL" for p in relation.version)
    before = f"PARTITION BY {key} ORDER BY ord ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
    newest = f"max(ROW({version})) FILTER (WHERE {known}) OVER ({before})"
    return (
        f"SELECT * EXCLUDE (newest) FROM (SELECT *, {newest} AS newest FROM ({candidates}) AS c) AS v"
        f" WHERE newest IS NULL OR NOT ({known}) OR ROW({version}) >= newest"
    )


def _candidates(relation: Input, incoming: str, stored: str, names: str) -> str:
    """Stored rows (they came first) and new ones, less those that a later deletion took away."""
    key = ", ".join(f"c{p}" for p in relation.key)
    rows = f"SELECT {names}, ord FROM {incoming} WHERE d > 0 UNION ALL SELECT {names}, -1 AS ord FROM {stored} AS s"
    gone = f"SELECT {key}, max(ord) AS last FROM {incoming} WHERE d < 0 GROUP BY {key}"
    return (
        f"SELECT {column_list(len(relation.columns), 'f')}, f.ord FROM ({rows}) AS f LEFT JOIN ({gone}) AS g"
        f" ON {same_key('f', 'g', relation.key)} WHERE g.last IS NULL OR f.ord > g.last"
    )


def add_generated(table: Input, values: dict[int, Expr]) -> None:
    """Compute generated columns from the others' values, all by physical position."""
    for position, column in enumerate(table.columns):
        if column.generated is not None:
            values[position] = transform(column.generated, lambda e: values[e.index] if isinstance(e, Column) else None)
