"""Random queries: a grammar whose rules take relations and give relations, so that everything can stand on everything.

Where SQL leaves an order open (ties), both texts order by all remaining columns, or, over a table, the oracle's text adds the
table's primary key: that is the engine's promise (its stream key breaks ties).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.property.engine.scalars import Scalars, scalars_over
from tests.property.engine.text import Col, Rel, Sql, fill, join_sql, lenient, order_item, same

_FRAMES = (
    "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    "ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
    "ROWS 2 PRECEDING",
)


@dataclass
class Names:
    """Fresh aliases and column names for one example."""

    count: int = 0

    def next(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"


@dataclass
class Grammar:
    """Draws queries over `sources`.

    Args:
        draw: Hypothesis'.
        sources: tables, views, constants.
    """

    draw: DrawFn
    sources: Sequence[Rel]
    names: Names = field(default_factory=Names)

    def pick(self, options: Sequence[object]) -> object:
        return self.draw(st.sampled_from(list(options)))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(0, one_in - 1)) == one_in - 1

    def some(self, columns: Sequence[Col], low: int, high: int) -> list[Col]:
        """Between `low` and `high` distinct columns, as many as there are."""
        high = min(high, len(columns))
        if high < 1:
            return []
        return self.draw(st.lists(st.sampled_from(list(columns)), min_size=min(low, high), max_size=high, unique=True))

    # Relations

    def query(self, depth: int, rule: str | None = None) -> Rel:
        """A query of up to `depth` rules above the sources, the topmost one given or drawn; its item is in parentheses."""
        chosen: Callable[[int], Rel] = getattr(self, rule or self.draw(st.sampled_from(RULES)))
        return chosen(depth)

    def input(self, depth: int) -> Rel:
        if depth <= 0 or self.chance(2):
            return self.draw(st.sampled_from(list(self.sources)))
        return self.query(depth - 1)

    def _fresh(self, kinds: Sequence[str]) -> list[Col]:
        return [Col(self.names.next("x"), kind) for kind in kinds]

    def project(self, depth: int) -> Rel:
        source = self.input(depth - 1)
        scalars = scalars_over(self.draw, "t", source.columns)
        kept = self.some(source.columns, 1, 3)
        items = [same(f"t.{c.name} AS {c.name}") for c in kept]
        columns = list(kept)
        for _ in range(self.number(0, 2)):
            (column,) = self._fresh([str(self.pick(["int", "text", "bool", "float", "time", "big"]))])
            items.append(fill("{0} AS " + column.name, lenient(scalars.any(column.type))))
            columns.append(column)
        unique = source.unique if source.unique is not None and source.unique <= {c.name for c in columns} else None
        return Rel(
            fill("(SELECT {0} FROM {1} AS t{2})", join_sql(", ", items), source.item, self._where(scalars)),
            tuple(columns),
            unique,
        )

    def filter(self, depth: int) -> Rel:
        source = self.input(depth - 1)
        where = fill(" WHERE {0}", lenient(scalars_over(self.draw, "t", source.columns).condition()))
        return Rel(fill("(SELECT * FROM {0} AS t{1})", source.item, where), source.columns, source.unique)

    def _where(self, scalars: Scalars, one_in: int = 3) -> Sql:
        return fill(" WHERE {0}", lenient(scalars.condition())) if self.chance(one_in) else same("")

    def join(self, depth: int) -> Rel:
        left, right = self.input(depth - 1), self.input(depth - 1)
        return self._joined([("l", left), ("r", right)])

    def three_way_join(self, depth: int) -> Rel:
        return self._joined([(alias, self.input(depth - 2)) for alias in ("l", "r", "s")])

    def _joined(self, sides: Sequence[tuple[str, Rel]]) -> Rel:
        """`l JOIN r ON .. JOIN s ON ..`, or with commas and a WHERE."""
        text = fill("{0} AS " + sides[0][0], sides[0][1].item)
        visible = [(sides[0][0], c) for c in sides[0][1].columns]
        preserved_all = self.chance(4)
        comma = not preserved_all and self.chance(4)
        conditions: list[Sql] = []
        for alias, side in sides[1:]:
            added = [(alias, c) for c in side.columns]
            kind = "," if comma else self.draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]))
            condition = self._join_condition(visible, added)
            visible += added
            if comma:
                conditions.append(condition)
                text = fill("{0}, {1} AS " + alias, text, side.item)
            else:
                text = fill("{0} " + kind + " {1} AS " + alias + " ON {2}", text, side.item, lenient(condition))
        scalars = Scalars(self.draw, [(same(f"{a}.{c.name}"), c.type) for a, c in visible])
        if comma:
            where = fill(" WHERE {0}", lenient(join_sql(" AND ", conditions)))
        else:
            where = self._where(scalars, 4)
        return self._selected(text, where, visible, sides)

    def _selected(self, text: Sql, where: Sql, visible: Sequence[tuple[str, Col]], sides: Sequence[tuple[str, Rel]]) -> Rel:
        """The SELECT list over a join: some columns of all sides, often their keys too."""
        keys = None
        if all(side.unique is not None for _, side in sides):
            keys = {(alias, name) for alias, side in sides for name in side.unique or ()}
        chosen = self.draw(st.lists(st.sampled_from(list(visible)), min_size=1, max_size=4, unique=True))
        if keys is not None and not self.chance(2):
            chosen += [(a, c) for a, c in visible if (a, c.name) in keys and (a, c) not in chosen]
        columns = self._fresh([c.type for _, c in chosen])
        items = [same(f"{a}.{c.name} AS {new.name}") for (a, c), new in zip(chosen, columns, strict=True)]
        unique = None
        if keys is not None and keys <= {(a, c.name) for a, c in chosen}:
            unique = frozenset(new.name for (a, c), new in zip(chosen, columns, strict=True) if (a, c.name) in keys)
        return Rel(fill("(SELECT {0} FROM {1}{2})", join_sql(", ", items), text, where), tuple(columns), unique)

    def _join_condition(self, left: Sequence[tuple[str, Col]], right: Sequence[tuple[str, Col]]) -> Sql:
        pairs = [
            (same(f"{a}.{x.name}"), same(f"{b}.{y.name}"), x.type)
            for a, x in left
            for b, y in right
            if x.type == y.type and x.type in ("int", "big", "text", "bool", "time", "float")
        ]
        parts: list[Sql] = []
        if pairs and not self.chance(8):
            for x, y, kind in self.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=2, unique=True)):
                if kind == "int" and self.chance(5):
                    x = fill("({0} + 1)", x)
                parts.append(fill("{0} = {1}", x, y))
        if not parts or self.chance(3):
            both = Scalars(self.draw, [(same(f"{a}.{c.name}"), c.type) for a, c in (*left, *right)])
            parts.append(both.condition(1))
        return join_sql(" AND ", parts)

    def using_join(self, depth: int) -> Rel:
        """`JOIN ... USING (k)`: the merged column is the left one, the right one, or whichever is there."""
        left, right = self.input(depth - 1), self.input(depth - 1)
        pairs = [(a, b) for a in left.columns for b in right.columns if a.type == b.type and a.type in ("int", "text", "big")]
        if not pairs:
            return self.filter(depth)
        a, b = self.draw(st.sampled_from(pairs))
        kind = self.draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]))
        key = Col(self.names.next("k"), a.type)
        others = [(alias, c, new) for alias, side, k in (("l", left, a), ("r", right, b)) for c in side.columns if c is not k
                  for new in self._fresh([c.type])]  # fmt: skip
        sides = []
        for alias, side, k in (("l", left, a), ("r", right, b)):
            items = [same(f"{c.name} AS {new.name}") for where, c, new in others if where == alias]
            items.insert(self.number(0, len(items)), same(f"{k.name} AS {key.name}"))
            sides.append(fill("(SELECT {0} FROM {1} AS u) AS " + alias, join_sql(", ", items), side.item))
        columns = (key, *(new for _, _, new in others))
        listed = ", ".join(c.name for c in columns)
        text = fill("(SELECT " + listed + " FROM {0} " + kind + " {1} USING (" + key.name + "))", *sides)
        # SQL: `*` has the merged column first, then the others of the left side, then of the right.
        engine = text.engine.replace(f"SELECT {listed}", "SELECT *", 1) if self.chance(2) else text.engine
        return Rel(Sql(engine, text.oracle), columns, None)

    def aggregate(self, depth: int) -> Rel:
        source = self.input(depth - 1)
        scalars = scalars_over(self.draw, "t", source.columns)
        groups: list[tuple[Sql, Col]] = [
            (same(f"t.{c.name}"), Col(self.names.next("g"), c.type)) for c in self.some(source.orderable, 0, 2)
        ]
        if groups and self.chance(4):
            kind = str(self.pick(["int", "text", "bool"]))
            group = lenient(scalars.any(kind, 1))
            # A bare number would be a position in the SELECT list.
            group = fill("({0} + 0)", group) if kind == "int" else group
            groups.append((group, Col(self.names.next("g"), kind)))
        calls = [self._call(scalars, source) for _ in range(self.number(0 if groups else 1, 3))]
        having = same("")
        if self.chance(4):
            having = fill(" HAVING {0}", self.draw(st.sampled_from([same("count(*) > 1"), same("count(*) % 2 = 1")])))
        items = [fill("{0} AS " + c.name, text) for text, c in groups] + [fill("{0} AS " + c.name, text) for text, c in calls]
        if groups and self.chance(3):
            items = items[1:] or items  # a group column that is not selected
        columns = tuple(c for _, c in (*groups, *calls))[-len(items) :]
        group_by = fill(" GROUP BY {0}", join_sql(", ", [text for text, _ in groups])) if groups else same("")
        unique = frozenset(c.name for _, c in groups)
        kept = {c.name for c in columns}
        text = fill(
            "(SELECT {0} FROM {1} AS t{2}{3}{4})", join_sql(", ", items), source.item, self._where(scalars), group_by, having
        )
        return Rel(text, columns, unique if unique <= kept and groups else None)

    def grouping_sets(self, depth: int) -> Rel:
        """ROLLUP, CUBE and GROUPING SETS, with grouping() to tell their rows apart."""
        source = self._without_opaque(self.input(depth - 1))
        if len(source.orderable) < 2:
            return self.aggregate(depth)
        a, b = self.draw(st.lists(st.sampled_from(source.orderable), min_size=2, max_size=2, unique=True))
        form = self.draw(
            st.sampled_from(
                [
                    "ROLLUP ({0}, {1})",
                    "CUBE ({0}, {1})",
                    "GROUPING SETS (({0}), ({1}), ())",
                    "GROUPING SETS (({0}, {1}), ({1}))",
                ]
            )
        )
        grouped = form.format(f"t.{a.name}", f"t.{b.name}")
        scalars = scalars_over(self.draw, "t", source.columns)
        text, column = self._call(scalars, source)
        first, second, level = (Col(self.names.next("g"), kind) for kind in (a.type, b.type, "int"))
        items = f"t.{a.name} AS {first.name}, t.{b.name} AS {second.name}, CAST(grouping(t.{a.name}, t.{b.name}) AS INTEGER) AS {level.name}"
        sql = fill(
            "(SELECT " + items + ", {0} AS " + column.name + " FROM {1} AS t{2} GROUP BY " + grouped + ")",
            text,
            source.item,
            self._where(scalars),
        )
        return Rel(sql, (first, second, level, column), None)

    def series(self, depth: int) -> Rel:
        """A set-returning function in the SELECT list: each row as often as the series is long."""
        source = self.input(depth - 1)
        numbers = source.of_type("int")
        if not numbers:
            return self.filter(depth)
        number = self.draw(st.sampled_from(numbers))
        column = Col(self.names.next("n"), "int")
        engine = f"(SELECT t.*, generate_series(1, t.{number.name}) AS {column.name} FROM {source.item.engine} AS t)"
        oracle = f"(SELECT t.*, CAST(unnest(generate_series(1, t.{number.name})) AS INTEGER) AS {column.name} FROM {source.item.oracle} AS t)"
        unique = source.unique | {column.name} if source.unique is not None else None
        return Rel(Sql(engine, oracle), (*source.columns, column), unique)

    def _call(self, scalars: Scalars, source: Rel) -> tuple[Sql, Col]:
        form = self.draw(st.sampled_from(_AGGREGATES))
        text, kind = self._plain_call(form, scalars, source)
        if self.chance(4):
            text = fill("{0} FILTER (WHERE {1})", text, scalars.predicate(1))
        # The aggregate's own result type differs (numeric, HUGEINT): a cast makes it one that other rules may use.
        if kind == "sum":
            return fill("CAST({0} AS BIGINT)", text), Col(self.names.next("a"), "big")
        return text, Col(self.names.next("a"), kind)

    def _plain_call(self, form: str, scalars: Scalars, source: Rel) -> tuple[Sql, str]:
        orderable = [c for c in source.orderable if c.type != "bool"]
        everything = [same(f"t.{c.name}") for c in source.orderable]
        if form == "count(*)":
            return same("count(*)"), "big"
        if form in ("sum", "avg", "stddev_samp", "var_pop"):
            kind = self.draw(st.sampled_from(["int", "float"]))
            argument = lenient(scalars.any(kind, 1))
            if form == "sum":
                distinct = "DISTINCT " if self.chance(5) else ""
                return fill("sum(" + distinct + "{0})", argument), "sum" if kind == "int" else "float"
            return fill(form + "({0})", argument), "opaque"
        if form in ("min", "max") and orderable:
            column = self.draw(st.sampled_from(orderable))
            return same(f"{form}(t.{column.name})"), column.type
        if form in ("bool_and", "bool_or"):
            return fill(form + "({0})", scalars.of("bool", 1)), "bool"
        if form == "string_agg" and everything:
            order = join_sql(", ", [order_item(e, self.chance(3)) for e in self._shuffled(everything)])
            value = fill("lower({0})", scalars.of("text", 0))
            # The value itself is the last key, so that ties are equal texts.
            return fill("string_agg({0}, '-' ORDER BY {1}, {2})", value, order, order_item(value, False)), "text"
        if form in ("first_value", "last_value") and source.orderable:
            column = self.draw(st.sampled_from(source.orderable))
            order = join_sql(", ", [order_item(e, self.chance(3)) for e in self._shuffled(everything)])
            function = {"first_value": "first", "last_value": "last"}[form]
            text = Sql(
                f"{form}(t.{column.name} ORDER BY {order.engine})", f"{function}(t.{column.name} ORDER BY {order.oracle})"
            )
            return text, column.type
        distinct = "DISTINCT " if form == "count distinct" else ""
        kind = self.draw(st.sampled_from(["int", "text", "bool"]))
        return fill("count(" + distinct + "{0})", lenient(scalars.any(kind, 1))), "big"

    def _shuffled(self, parts: Sequence[Sql]) -> list[Sql]:
        return self.draw(st.permutations(list(parts))) if len(parts) <= 4 else list(parts)

    def distinct(self, depth: int) -> Rel:
        source = self.input(depth - 1)
        chosen = self.some(source.orderable, 1, 2) or list(source.columns)
        if any(c.type == "opaque" for c in chosen):
            return self.filter(depth)
        items = ", ".join(f"t.{c.name} AS {c.name}" for c in chosen)
        return Rel(
            fill("(SELECT DISTINCT " + items + " FROM {0} AS t)", source.item), tuple(chosen), frozenset(c.name for c in chosen)
        )

    def _keys(self, source: Rel, alias: str, low: int = 1) -> list[tuple[Col, bool]]:
        """The user's ORDER BY keys, with directions."""
        del alias
        return [(c, self.chance(2)) for c in self.some(source.orderable, low, 2)]

    def _total(self, source: Rel, keys: Sequence[tuple[Col, bool]], alias: str) -> tuple[Sql, bool]:
        """ORDER BY text in which ties are equal rows; whether the engine had to break ties by its own key."""
        user = [order_item(same(f"{alias}.{c.name}"), down) for c, down in keys]
        if source.key_order and self.chance(2):
            names = {c.name for c, _ in keys}
            rest = [order_item(same(f"{alias}.{name}"), False) for name in source.key_order if name not in names]
            oracle = join_sql(", ", [*user, *rest])
            return Sql(join_sql(", ", user).engine, oracle.oracle), True
        rest = [order_item(same(f"{alias}.{c.name}"), False) for c in source.orderable if c not in [k for k, _ in keys]]
        return join_sql(", ", [*user, *rest]), False

    def distinct_on(self, depth: int) -> Rel:
        source = self._without_opaque(self.input(depth - 1))
        on = self.some(source.orderable, 1, 2)
        if not on:
            return source
        keys = [(c, self.chance(3)) for c in on] + [k for k in self._keys(source, "t", 0) if k[0] not in on]
        order, _ = self._total(source, keys, "t")
        names = ", ".join(f"t.{c.name}" for c in on)
        engine = f"(SELECT DISTINCT ON ({names}) t.* FROM {source.item.engine} AS t ORDER BY {order.engine})"
        rank = f"row_number() OVER (PARTITION BY {names} ORDER BY {order.oracle})"
        oracle = f"(SELECT t.* FROM {source.item.oracle} AS t QUALIFY {rank} = 1)"
        return Rel(Sql(engine, oracle), source.columns, frozenset(c.name for c in on))

    def _without_opaque(self, source: Rel) -> Rel:
        if len(source.orderable) == len(source.columns):
            return source
        kept = source.orderable
        if not kept:
            text = fill("(SELECT 1 AS one FROM {0} AS o)", source.item)
            return Rel(text, (Col("one", "int"),), None)
        names = ", ".join(f"o.{c.name}" for c in kept)
        unique = source.unique if source.unique is not None and source.unique <= {c.name for c in kept} else None
        return Rel(fill("(SELECT " + names + " FROM {0} AS o)", source.item), tuple(kept), unique)

    def over(self, depth: int) -> Rel:
        source = self._without_opaque(self.input(depth - 1))
        items = [same("t.*")]
        columns = list(source.columns)
        for _ in range(self.number(1, 2)):
            text, kind = self._window(source)
            column = Col(self.names.next("w"), kind)
            items.append(fill("{0} AS " + column.name, text))
            columns.append(column)
        return Rel(fill("(SELECT {0} FROM {1} AS t)", join_sql(", ", items), source.item), tuple(columns), source.unique)

    def _window(self, source: Rel) -> tuple[Sql, str]:
        partition_columns = self.some(source.orderable, 0, 2)
        partition = f"PARTITION BY {', '.join(f't.{c.name}' for c in partition_columns)} " if partition_columns else ""
        keys = self._keys(source, "t")
        column = self.draw(st.sampled_from(source.orderable))
        form = self.draw(st.sampled_from(_WINDOWS))
        if form in ("rank", "dense_rank"):
            order = join_sql(", ", [order_item(same(f"t.{c.name}"), down) for c, down in keys])
            return fill(form + "() OVER (" + partition + "ORDER BY {0})", order), "big"
        total, by_engine = self._total(source, keys, "t")
        ordered = fill(partition + "ORDER BY {0}", total)
        if form == "row_number":
            return fill("row_number() OVER ({0})", ordered), "big"
        if form in ("lag", "lead"):
            steps = self.draw(st.sampled_from(["", ", 1", ", 2"]))
            return fill(form + f"(t.{column.name}{steps})" + " OVER ({0})", ordered), column.type
        call, kind = self._window_aggregate(form, source, column)
        if form not in ("first_value", "last_value") and self.chance(3):
            return fill(call + " OVER (" + partition.strip() + ")", same("")), kind
        frame = self.draw(st.sampled_from(_FRAMES))
        if (by_engine or source.unique is not None) and self.chance(3):
            # No frame: up to the current row (RisingWave takes rows, where PostgreSQL takes peers).
            return Sql(f"{call} OVER ({ordered.engine})", f"{call} OVER ({ordered.oracle} {_FRAMES[1]})"), kind
        return fill(call + " OVER ({0} " + frame + ")", ordered), kind

    def _window_aggregate(self, form: str, source: Rel, column: Col) -> tuple[str, str]:
        numbers = source.of_type("int", "float")
        if form == "sum" and numbers:
            number = self.draw(st.sampled_from(numbers))
            return f"sum(t.{number.name})", "float" if number.type == "float" else "opaque"
        if form in ("min", "max") and column.type != "bool":
            return f"{form}(t.{column.name})", column.type
        if form in ("first_value", "last_value"):
            return f"{form}(t.{column.name})", column.type
        return "count(*)", "big"

    def top_n(self, depth: int) -> Rel:
        source = self._without_opaque(self.input(depth - 1))
        keys = self._keys(source, "t")
        limit, offset = self.number(0, 4), self.number(0, 2) if self.chance(3) else 0
        if self.chance(4):
            order = join_sql(", ", [order_item(same(f"t.{c.name}"), down) for c, down in keys])
            limit = max(limit, 1)
            engine = f"(SELECT t.* FROM {source.item.engine} AS t ORDER BY {order.engine} FETCH FIRST {limit} ROWS WITH TIES)"
            oracle = f"(SELECT t.* FROM {source.item.oracle} AS t QUALIFY rank() OVER (ORDER BY {order.oracle}) <= {limit})"
            return Rel(Sql(engine, oracle), source.columns, source.unique)
        order, _ = self._total(source, keys, "t")
        tail = f" LIMIT {limit}" + (f" OFFSET {offset}" if offset else "")
        return Rel(
            fill("(SELECT t.* FROM {0} AS t ORDER BY {1}" + tail + ")", source.item, order), source.columns, source.unique
        )

    def union(self, depth: int) -> Rel:
        left, right = self.input(depth - 1), self.input(depth - 1)
        pairs = [(a, b) for a in left.orderable for b in right.orderable if a.type == b.type]
        if not pairs:
            return self.filter(depth)
        chosen = self.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=3, unique=True))
        columns = self._fresh([a.type for a, _ in chosen])
        first = ", ".join(f"t.{a.name} AS {c.name}" for (a, _), c in zip(chosen, columns, strict=True))
        second = ", ".join(f"t.{b.name}" for _, b in chosen)
        keep_all = not self.chance(3)
        word = "UNION ALL" if keep_all else "UNION"
        text = fill(
            "(SELECT " + first + " FROM {0} AS t " + word + " SELECT " + second + " FROM {1} AS t)", left.item, right.item
        )
        return Rel(text, tuple(columns), None if keep_all else frozenset(c.name for c in columns))

    def set_operation(self, depth: int) -> Rel:
        """INTERSECT and EXCEPT, which drop duplicates."""
        left, right = self.input(depth - 1), self.input(depth - 1)
        pairs = [(a, b) for a in left.orderable for b in right.orderable if a.type == b.type]
        if not pairs:
            return self.filter(depth)
        chosen = self.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=2, unique=True))
        columns = self._fresh([a.type for a, _ in chosen])
        first = ", ".join(f"t.{a.name} AS {c.name}" for (a, _), c in zip(chosen, columns, strict=True))
        second = ", ".join(f"t.{b.name}" for _, b in chosen)
        word = self.draw(st.sampled_from(["EXCEPT", "INTERSECT"]))
        text = fill(
            "(SELECT " + first + " FROM {0} AS t " + word + " SELECT " + second + " FROM {1} AS t)", left.item, right.item
        )
        return Rel(text, tuple(columns), frozenset(c.name for c in columns))

    def subquery(self, depth: int) -> Rel:
        """A filter or a column by IN, EXISTS or a scalar subquery, correlated or not."""
        outer, inner = self.input(depth - 1), self.input(depth - 2)
        pairs = [(a, b) for a in outer.orderable for b in inner.orderable if a.type == b.type]
        if not pairs:
            return self.filter(depth)
        a, b = self.draw(st.sampled_from(pairs))
        inside = scalars_over(self.draw, "s", inner.columns)
        correlation, condition = same(f"s.{b.name} = t.{a.name}"), self._where(inside, 3)
        linked = (
            fill(" WHERE {0} AND {1}", correlation, inside.predicate(1)) if self.chance(2) else fill(" WHERE {0}", correlation)
        )
        form = self.draw(
            st.sampled_from(["in", "exists", "not in", "not exists", "compare", "scalar column", "correlated column"])
        )
        if form in ("in", "not in"):
            where = fill(f"t.{a.name} {form.upper()} (SELECT s.{b.name} FROM " + "{0} AS s{1})", inner.item, condition)
        elif form in ("exists", "not exists"):
            where = fill(form.upper() + " (SELECT 1 FROM {0} AS s{1})", inner.item, linked)
        elif form == "compare" and a.type != "bool":
            sign, function = self.draw(st.sampled_from(["<", ">=", "="])), self.draw(st.sampled_from(["max", "min"]))
            where = fill(f"t.{a.name} {sign} (SELECT {function}(s.{b.name}) FROM " + "{0} AS s{1})", inner.item, condition)
        else:
            column = Col(self.names.next("q"), "big")
            value = fill("(SELECT count(*) FROM {0} AS s{1})", inner.item, condition if form == "scalar column" else linked)
            text = fill("(SELECT t.*, {0} AS " + column.name + " FROM {1} AS t)", value, outer.item)
            return Rel(text, (*outer.columns, column), outer.unique)
        return Rel(fill("(SELECT * FROM {0} AS t WHERE {1})", outer.item, where), outer.columns, outer.unique)

    def group_top_n(self, depth: int) -> Rel:
        """The first rows of each group, as people write it."""
        source = self._without_opaque(self.input(depth - 1))
        group = self.some(source.orderable, 1, 2)
        if not group:
            return source
        total, _ = self._total(source, self._keys(source, "t"), "t")
        rank = Col(self.names.next("w"), "big")
        partition = ", ".join(f"t.{c.name}" for c in group)
        ranked = fill(
            "(SELECT t.*, row_number() OVER (PARTITION BY " + partition + " ORDER BY {0}) AS " + rank.name + " FROM {1} AS t)",
            total,
            source.item,
        )
        shown = (*source.columns, rank) if self.chance(2) else source.columns
        names = ", ".join(f"n.{c.name}" for c in shown)
        limit = self.draw(st.sampled_from([f"{rank.name} <= 2", f"{rank.name} = 1", f"{rank.name} < 3"]))
        return Rel(fill("(SELECT " + names + " FROM {0} AS n WHERE n." + limit + ")", ranked), shown, source.unique)

    def window(self, depth: int) -> Rel:
        """TUMBLE and HOP over a table or a CTE, and usually a GROUP BY above."""
        choices = [
            s for s in self.sources if s.named and s.of_type("time") and all(c.name != "window_start" for c in s.columns)
        ]
        if not choices:
            return self.aggregate(depth)
        source = self.draw(st.sampled_from(choices))
        time = self.draw(st.sampled_from(source.of_type("time")))
        slide, size = self.draw(st.sampled_from([(60, 60), (150, 150), (60, 180), (100, 200)]))
        start, end = Col("window_start", "time"), Col("window_end", "time")
        call = f"TUMBLE({source.item.engine}, {time.name}, INTERVAL '{size} seconds')"
        if slide != size:
            call = f"HOP({source.item.engine}, {time.name}, INTERVAL '{slide} seconds', INTERVAL '{size} seconds')"
        first = f"(epoch_us({time.name}) // {slide}000000 - k) * {slide}000000"
        oracle = (
            f"(SELECT h.*, make_timestamp({first}) AS window_start, make_timestamp({first} + {size}000000) AS window_end"
            f" FROM {source.item.oracle} AS h, range({size // slide}) AS w(k) WHERE {time.name} IS NOT NULL)"
        )
        unique = source.unique | {"window_start"} if source.unique is not None else None
        windowed = Rel(Sql(call, oracle), (*source.columns, start, end), unique)
        if self.chance(3):
            return Rel(fill("(SELECT * FROM {0} AS t)", windowed.item), windowed.columns, windowed.unique)
        return Grammar(self.draw, [windowed], self.names).aggregate(0)

    def with_cte(self, depth: int) -> Rel:
        """A common table expression that is read once or twice."""
        source = self.input(depth - 1)
        name = self.names.next("cte")
        as_source = Rel(same(name), source.columns, source.unique, (), named=True)
        body = Grammar(self.draw, [as_source], self.names).query(1)
        inner = Sql(body.item.engine[1:-1], body.item.oracle[1:-1])
        if inner.engine.startswith("WITH"):
            inner = fill("SELECT * FROM {0} AS b", body.item)
        return Rel(fill("(WITH " + name + " AS {0} {1})", _parenthesised(source), inner), body.columns, body.unique)


def _parenthesised(source: Rel) -> Sql:
    if source.item.engine.startswith("("):
        return source.item
    return fill("(SELECT * FROM {0} AS c)", source.item)


RULES = (
    "project", "filter", "aggregate", "join", "distinct", "union", "top_n", "over", "window", "distinct_on", "three_way_join",
    "using_join", "with_cte", "aggregate", "join", "over", "set_operation", "subquery", "subquery", "group_top_n",
    "grouping_sets", "series",
)  # fmt: skip
_AGGREGATES = (
    "count(*)", "sum", "min", "max", "avg", "count", "count distinct", "bool_and", "bool_or", "string_agg", "stddev_samp",
    "var_pop", "first_value", "last_value",
)  # fmt: skip
_WINDOWS = ("row_number", "rank", "lag", "sum", "lead", "dense_rank", "count", "min", "max", "first_value", "last_value")
