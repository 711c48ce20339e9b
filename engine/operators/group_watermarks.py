"""Watermarks through aggregates: a group column that is a watermark column carries it on, and old groups are forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from engine.operators.base import EpochContext, Operator, Watermarks
from engine.sql.expressions import Column, Expr, render_literal
from engine.sql.types import TIMESTAMP


def carried_watermarks(source: Operator, groups: Sequence[Expr]) -> dict[int, int]:
    """Group position to the source's watermark column that it is."""
    return {i: g.index for i, g in enumerate(groups) if isinstance(g, Column) and g.index in source.watermarked}


def forget_groups(epoch: EpochContext, operator: Operator, tables: Sequence[str], marks: Watermarks) -> None:
    """Now and then drop groups that no row can touch any more; only where rows are never taken back."""
    if not marks or not operator.inputs[0].append_only or not operator.cleaning_due(epoch.number):
        return
    old = " OR ".join(f"c{i} < {render_literal(mark, TIMESTAMP)}" for i, mark in marks.items())
    for table in tables:
        epoch.execute(f"DELETE FROM {table} WHERE {old}")
