"""What a CREATE INDEX says, as SHOW INDEXES and DESCRIBE show it.

Source: RisingWave documentation, "CREATE INDEX", "SHOW INDEXES", "DESCRIBE".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from engine.catalog.objects import Index, Relation
from engine.sql.statements import CreateIndex


@dataclass(frozen=True)
class IndexKey:
    """One key: a column's name or an expression's text, and its order."""

    name: str
    descending: bool = False
    nulls_first: bool = False

    @property
    def properties(self) -> Mapping[str, bool]:
        """As `pg_index_column_has_property` names them."""
        return {
            "asc": not self.descending, "desc": self.descending,
            "nulls_first": self.nulls_first, "nulls_last": not self.nulls_first,
        }  # fmt: skip

    def __str__(self) -> str:
        return f"{self.name} {'DESC' if self.descending else 'ASC'}"


@dataclass(frozen=True)
class IndexShape:
    """Keys as written and then the relation's own key, what is included, and by what it is distributed."""

    keys: tuple[IndexKey, ...]
    include: tuple[str, ...]
    distributed_by: tuple[str, ...]


def index_keys(index: Index) -> tuple[IndexKey, ...]:
    """The keys as they were written."""
    return tuple(_key(item) for item in _statement(index).columns)


def index_shape(index: Index, relation: Relation) -> IndexShape:
    """Everything about an index; without INCLUDE it has all columns."""
    statement = _statement(index)
    written = index_keys(index)
    names = {key.name for key in written}
    own = tuple(IndexKey(relation.columns[p].name) for p in relation.key if not relation.columns[p].hidden)
    keys = (*written, *(key for key in own if key.name not in names))
    taken = {key.name for key in keys}
    include = statement.include or tuple(column.name for column in relation.visible)
    return IndexShape(
        keys, tuple(name for name in include if name not in taken), statement.distributed_by or tuple(k.name for k in written)
    )


def _statement(index: Index) -> CreateIndex:
    from engine.sql.parser import parse  # the parser's tree is needed only when somebody looks

    (statement,) = parse(index.sql)
    assert isinstance(statement, CreateIndex)
    return statement


def _key(item: exp.Expression) -> IndexKey:
    target = item.this if isinstance(item, exp.Ordered) else item
    descending = bool(item.args.get("desc"))
    nulls_first = item.args.get("nulls_first")
    name = target.name if isinstance(target, exp.Column) else target.sql(dialect="risingwave")
    return IndexKey(name, descending, descending if nulls_first is None else bool(nulls_first))
