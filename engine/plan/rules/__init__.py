"""Rewrites of the algebra, in the order they run."""

from __future__ import annotations

from collections.abc import Callable

from engine.plan.algebra import Node
from engine.plan.rules.column_pruning import prune_columns
from engine.plan.rules.predicate_pushdown import push_predicates

RULES: tuple[Callable[[Node], Node], ...] = (push_predicates, prune_columns)


def rewrite(node: Node) -> Node:
    """Apply all rules once, in order."""
    for rule in RULES:
        node = rule(node)
    return node
