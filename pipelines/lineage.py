"""What an object is built on and what is built on it, from the catalog; columns, where its query can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.dialects.risingwave import RisingWave
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage as column_lineage

from core.errors import NotFoundError
from pipelines import sqltext
from pipelines.snapshot import Deployed, Snapshot


@dataclass(frozen=True)
class Node:
    """An object and what is next to it in one direction.

    Attributes:
        next: nearest first by id; an object that is reached twice is shown in full each time.
    """

    name: str
    kind: str
    next: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Lineage:
    """Both directions of an object; `columns` is by column, the columns of relations directly below that it comes from."""

    upstream: Node
    downstream: Node
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def lineage(name: str, snapshot: Snapshot) -> Lineage:
    """Everything above and below an object.

    Raises:
        NotFoundError: there is no such object.
    """
    found = must_find(name, snapshot)
    below = _direct(snapshot)
    return Lineage(_tree(found, below, snapshot), _tree(found, _turned(below), snapshot), _columns(found, snapshot))


def must_find(name: str, snapshot: Snapshot) -> Deployed:
    """The object of that name.

    Raises:
        NotFoundError: there is none.
    """
    found = snapshot.find(name) or snapshot.find(name, "FUNCTION")
    if found is None:
        near = sorted(each.name for each in snapshot.objects.values() if name in each.name)[:5]
        fix = f"Did you mean {', '.join(f'`{each}`' for each in near)}?" if near else "See SHOW MATERIALIZED VIEWS."
        raise NotFoundError(f"there is no object `{name}` in the stream database", fix=fix)
    return found


# -- below: called by the above


def _tree(found: Deployed, edges: Mapping[int, frozenset[int]], snapshot: Snapshot) -> Node:
    beside = [snapshot.objects[i] for i in sorted(edges.get(found.id, ())) if i in snapshot.objects]
    return Node(found.name, found.kind, tuple(_tree(each, edges, snapshot) for each in beside))


def _direct(snapshot: Snapshot) -> dict[int, frozenset[int]]:
    """By id what the object names itself: the catalog has what the views among it are built on, too."""
    result = {}
    for number, below in snapshot.below.items():
        found = snapshot.objects.get(number)
        views = [i for i in below if i in snapshot.objects and snapshot.objects[i].kind == "VIEW"]
        through = {under for view in views for under in snapshot.below.get(view, ())}
        if found is not None and through:
            named = {reference.name for reference in sqltext.references(snapshot.text(found)) or ()}
            through = {i for i in through if i in snapshot.objects and snapshot.objects[i].name not in named}
            result[number] = below - through
        else:
            result[number] = below
    return result


def _turned(edges: Mapping[int, frozenset[int]]) -> dict[int, frozenset[int]]:
    result: dict[int, set[int]] = {}
    for above, below in edges.items():
        for number in below:
            result.setdefault(number, set()).add(above)
    return {number: frozenset(above) for number, above in result.items()}


def _columns(found: Deployed, snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Empty where sqlglot cannot follow the query: what is told is right, and nothing is guessed."""
    query = sqltext.query_of(snapshot.text(found))
    if query is None:
        return {}
    below = [snapshot.objects[i] for i in snapshot.below.get(found.id, ()) if i in snapshot.objects]
    schema: dict[str, object] = {}
    for each in below:
        columns = {c.name: c.type for c in snapshot.columns.get(each.id, ())}
        space, _, bare = each.name.rpartition(".")
        if not space:
            schema[bare] = columns
    result: dict[str, tuple[str, ...]] = {}
    for column in snapshot.columns.get(found.id, ()):
        try:
            root = column_lineage(column.name, query, schema=schema, dialect=RisingWave)
        except (SqlglotError, ValueError, KeyError):
            continue
        leaves = {
            f"{_relation(leaf.expression)}.{leaf.name.rpartition('.')[2]}"
            for leaf in root.walk()
            if not leaf.downstream and isinstance(leaf.expression, exp.Table)
        }
        result[column.name] = tuple(sorted(leaves))
    return result


def _relation(table: exp.Table) -> str:
    """The relation behind a table expression; a window function such as `TUMBLE(events, ...)` reads its first argument."""
    called = table.this
    if isinstance(called, exp.Anonymous) and called.expressions:
        return str(called.expressions[0].name)
    return str(table.name)
