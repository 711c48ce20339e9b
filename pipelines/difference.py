"""How the text of an object changed: line by line, and by the clauses of its query."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.dialects.risingwave import RisingWave
from sqlglot.errors import SqlglotError

from pipelines import sqltext
from pipelines.planning import ObjectPlan

_CLAUSES = {
    "with_": "WITH", "distinct": "DISTINCT", "from_": "FROM", "joins": "JOIN", "where": "WHERE", "group": "GROUP BY",
    "having": "HAVING", "qualify": "QUALIFY", "windows": "WINDOW", "order": "ORDER BY", "limit": "LIMIT", "offset": "OFFSET",
}  # fmt: skip


def textual(each: ObjectPlan) -> list[str]:
    """A unified diff of what is deployed and what the folder says; empty if only the layout differs."""
    if each.action in ("unchanged", "left") or (each.old_sql and sqltext.same_meaning(each.old_sql, each.sql)):
        return []
    old, new = each.old_sql.splitlines() if each.old_id else [], each.sql.splitlines()
    return list(difflib.unified_diff(old, new, f"deployed {each.name}", each.place or each.name, lineterm=""))


def semantic(each: ObjectPlan) -> list[str]:
    """One line for each column or clause that differs, e.g. `WHERE: x > 1 -> x > 2`."""
    if not each.old_sql or not textual(each):
        return []
    old, new = (_parsed(text) for text in (each.old_sql, each.sql))
    if old is None or new is None:
        return list(_definitions(each.old_sql, each.sql))
    if not isinstance(old, exp.Select) or not isinstance(new, exp.Select):
        return ["the query changed"]
    return [*_columns(old, new), *_clauses(old, new)]


# -- below: called by the above


def _parsed(sql: str) -> exp.Expr | None:
    query = sqltext.query_of(sql)
    if query is None:
        return None
    try:
        return sqlglot.parse_one(query, read=RisingWave)
    except SqlglotError:
        return None


def _columns(old: exp.Select, new: exp.Select) -> Iterator[str]:
    before = {item.alias_or_name or item.sql(RisingWave): item.unalias().sql(RisingWave) for item in old.expressions}
    after = {item.alias_or_name or item.sql(RisingWave): item.unalias().sql(RisingWave) for item in new.expressions}
    for name in [*before, *(name for name in after if name not in before)]:
        yield from _one(f"column {name}", before.get(name, ""), after.get(name, ""))
    kept = [name for name in after if name in before]
    if kept != [name for name in before if name in after]:
        yield f"columns are in another order: {', '.join(after)}"


def _clauses(old: exp.Select, new: exp.Select) -> Iterator[str]:
    for key, shown in _CLAUSES.items():
        yield from _one(shown, _clause(old, key), _clause(new, key))


def _clause(query: exp.Select, key: str) -> str:
    found = query.args.get(key)
    items = found if isinstance(found, list) else [found] if isinstance(found, exp.Expr) else []
    text = " ".join(item.sql(RisingWave) for item in items).strip()
    shown = _CLAUSES[key]
    return text.removeprefix(shown).strip() if key != "joins" else text


def _one(what: str, before: str, after: str) -> Iterator[str]:
    if before == after:
        return
    if not before:
        yield f"{what}: added {after}"
    elif not after:
        yield f"{what}: removed {before}"
    else:
        yield f"{what}: {before} -> {after}"


def _definitions(old: str, new: str) -> Iterator[str]:
    """Of a table or source: its columns."""
    before = {column.name: column.text for column in sqltext.columns_and_rest(old)[0]}
    after = {column.name: column.text for column in sqltext.columns_and_rest(new)[0]}
    for name in [*before, *(name for name in after if name not in before)]:
        if sqltext.canonical(before.get(name, "")) != sqltext.canonical(after.get(name, "")):
            yield from _one(f"column {name}", before.get(name, ""), after.get(name, ""))
