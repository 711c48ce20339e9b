"""Rewrites of the algebra, in the order they run."""

from __future__ import annotations

from collections.abc import Callable

from engine.plan.algebra import Node
from engine.plan.rules.column_pruning import prune_columns
from engine.plan.rules.group_top_n import find_group_top_n
from engine.plan.rules.predicate_pushdown import push_predicates
from engine.plan.rules.set_operations import join_set_operations
from engine.plan.rules.subquery_unnesting import unnest_subqueries
from engine.sql.errors import too_deep

RULES: tuple[Callable[[Node], Node], ...] = (
    unnest_subqueries,
    join_set_operations,
    push_predicates,
    find_group_top_n,
    prune_columns,
)


def rewrite(node: Node) -> Node:
    """Apply all rules once, in order.

    Raises:
        SqlError: 54001, the tree is too deep.
    """
    try:
        for rule in RULES:
            node = rule(node)
    except RecursionError as error:
        raise too_deep() from error
    return node
