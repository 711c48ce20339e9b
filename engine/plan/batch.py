"""From the algebra to one DuckDB query: how ad-hoc reading runs, and how operators recompute what was touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.functions.aggregates import is_aggregate, render_aggregate
from engine.functions.native import or_null
from engine.plan.algebra import (
    Aggregate,
    Changelog,
    Filter,
    GroupTopN,
    Join,
    MaxOneRow,
    Node,
    Over,
    Project,
    ProjectSet,
    Scan,
    SetOperation,
    TopN,
    UnionAll,
    Values,
    Window,
)
from engine.sql.errors import UnsupportedQuery, too_deep
from engine.sql.expressions import AggregateCall, Expr, OrderKey, WindowCall, render, render_lenient, render_order

MORE_THAN_ONE_ROW = "more than one row returned by a subquery used as an expression"

ReadScan = Callable[[Scan], str]
"""Gives the SELECT that reads a relation with columns c0, c1 ..."""


_RANKING = frozenset({"row_number", "rank", "dense_rank", "lag", "lead"})
"""Window functions that have no frame."""


def render_query(node: Node, read: ReadScan) -> str:
    """As `render_node`, for a whole query.

    Raises:
        SqlError: 54001, the tree is too deep.
    """
    try:
        return render_node(node, read)
    except RecursionError as error:
        raise too_deep() from error


def render_node(node: Node, read: ReadScan) -> str:
    """One SELECT whose columns are c0, c1 ... in the order of `node.columns`."""
    if isinstance(node, Scan):
        return read(node)
    if isinstance(node, Values):
        return _values(node)
    if isinstance(node, Project):
        exprs = ", ".join(f"{render(e)} AS c{i}" for i, e in enumerate(node.exprs))
        return f"SELECT {exprs} FROM ({render_node(node.input, read)}) AS t"
    if isinstance(node, Filter):
        return f"SELECT * FROM ({render_node(node.input, read)}) AS t WHERE {render(node.predicate)}"
    if isinstance(node, Aggregate):
        return render_grouped(f"({render_node(node.input, read)}) AS t", node.groups, node.aggregates)
    if isinstance(node, Join):
        return _join(node, read)
    if isinstance(node, Over):
        width = len(node.input.columns)
        return render_over(f"({render_node(node.input, read)})", node.calls, [f"c{i}" for i in range(width)], width)
    if isinstance(node, TopN):
        return _top_n(node, read)
    if isinstance(node, GroupTopN):
        width = len(node.input.columns)
        ranked = f"SELECT *, {render_window(node.call)} AS r FROM ({render_node(node.input, read)}) AS t"
        names = [f"c{i}" for i in range(width)] + ([f"r AS c{width}"] if node.ranked else [])
        return f"SELECT {', '.join(names)} FROM ({ranked}) AS q WHERE r <= {node.limit}"
    if isinstance(node, UnionAll):
        return " UNION ALL ".join(f"({render_node(branch, read)})" for branch in node.branches)
    if isinstance(node, SetOperation):
        return f"({render_node(node.left, read)}) {node.kind.upper()} ({render_node(node.right, read)})"
    if isinstance(node, Window):
        return render_window_columns(node, f"({render_node(node.input, read)}) AS t")
    if isinstance(node, ProjectSet):
        width = len(node.input.columns)
        items = [(f"c{i}", f"c{i}") for i in range(width)]
        outputs = [f"c{width + i}" for i in range(len(node.calls))]
        source = f"({render_node(node.input, read)})"
        ordinal = f"c{width + len(node.calls)}" if node.ordinality else ""
        return render_project_set(node, source, items, outputs, ordinal, render)
    if isinstance(node, MaxOneRow):
        return _max_one_row(node, read)
    if isinstance(node, Changelog):
        raise UnsupportedQuery("AS CHANGELOG is for materialized views and sinks only", fix="Create a materialized view of it.")
    raise UnsupportedQuery(f"`{type(node).__name__}` cannot be read yet")


def render_grouped(source: str, groups: tuple[Expr, ...], aggregates: tuple[AggregateCall, ...], *, strict: bool = True) -> str:
    """Groups as c0 .. then aggregates, over any FROM item with columns c0, c1 ...

    Args:
        strict: an aggregate that fails (a sum out of range, a NULL for a key of an object) is an error; otherwise NULL.
    """
    parts = [f"{render(g)} AS c{i}" for i, g in enumerate(groups)]
    rendered = (render_aggregate(call, render) for call in aggregates)
    parts += [f"{sql if strict else or_null(sql)} AS c{len(groups) + i}" for i, sql in enumerate(rendered)]
    sql = f"SELECT {', '.join(parts) or '1 AS c0'} FROM {source}"
    return sql + (f" GROUP BY {', '.join(render(g) for g in groups)}" if groups else "")


def render_over(
    source: str, calls: Sequence[WindowCall], items: Sequence[str], first: int, tie_break: tuple[str, ...] = ()
) -> str:
    """A SELECT of `items` and the calls as c<first> .. over a FROM item with columns c0, c1 ...

    Args:
        tie_break: columns behind the user's ORDER BY, for calls to which the order of peers matters.
    """
    sessions = list(dict.fromkeys((c.partition_by, c.order_by, c.gap) for c in calls if c.gap is not None))
    for number, (partition, order, gap) in enumerate(sessions):
        assert gap is not None
        source = _with_session(source, number, partition, order[0], gap, tie_break)
    shown = []
    for index, call in enumerate(calls):
        session = f"session{sessions.index((call.partition_by, call.order_by, call.gap))}" if call.gap is not None else ""
        sql = render_window(call, tie_break, session)
        # The stream key breaks ties in views only, which must not stand still because of one value.
        shown.append(f"{or_null(sql) if tie_break and is_aggregate(call.name) else sql} AS c{first + index}")
    return f"SELECT {', '.join([*items, *shown])} FROM {source} AS t"


def _with_session(
    source: str, number: int, partition: tuple[Expr, ...], order: OrderKey, gap: Expr, tie_break: tuple[str, ...]
) -> str:
    """The rows with the number of their session: a new one begins where the gap or more lies before a row."""
    by = f"PARTITION BY {', '.join(render(e) for e in partition)} " if partition else ""
    window = f"{by}ORDER BY {', '.join([render_order(order, render), *tie_break])}"
    value = render(order.expr)
    begins = f"CASE WHEN {value} < lag({value}) OVER ({window}) + {render(gap)} THEN 0 ELSE 1 END AS begins"
    # Rows of one moment are in one session, whichever of them comes first.
    peers = f"{by}ORDER BY {render_order(order, render)} RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    counted = f"sum(begins) OVER ({peers}) AS session{number}"
    return f"(SELECT * EXCLUDE (begins), {counted} FROM (SELECT *, {begins} FROM {source} AS t) AS t)"


def render_window(call: WindowCall, tie_break: tuple[str, ...] = (), session: str = "") -> str:
    """One window call; `tie_break` columns go behind its ORDER BY, `session` is the column that parts its sessions.

    Without a frame it is, as in RisingWave, the rows up to the current one where there is an ORDER BY (PostgreSQL takes the
    current row's peers too), and otherwise the whole partition.
    """
    over: list[str] = []
    partition = [render(e) for e in call.partition_by] + ([session] if session else [])
    if partition:
        over.append("PARTITION BY " + ", ".join(partition))
    # Ranks and RANGE must see the user's peers; elsewhere the key says which of them comes first.
    by_peers = call.name in ("rank", "dense_rank") or call.frame.startswith("RANGE")
    order = [render_order(key, render) for key in call.order_by] + ([] if by_peers else list(tie_break))
    if order:
        over.append("ORDER BY " + ", ".join(order))
    if call.name not in _RANKING:
        end = "CURRENT ROW" if call.order_by and not session else "UNBOUNDED FOLLOWING"
        over.append(call.frame or f"ROWS BETWEEN UNBOUNDED PRECEDING AND {end}")
    if is_aggregate(call.name) and call.name not in ("first_value", "last_value"):
        window = " ".join(over) or "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
        return render_aggregate(AggregateCall(call.type, call.name, call.args, False, call.filter), render, window)
    args = ", ".join(render(a) for a in call.args)
    if call.ignore_nulls:
        args += " IGNORE NULLS"
    return f"{call.name}({args}) OVER ({' '.join(over)})"


def render_window_columns(node: Window, source: str, passthrough: str = "*") -> str:
    """The input's columns and the window's bounds; a HOP repeats each row once a window."""
    width = len(node.input.columns)
    us = f"epoch_us(c{node.time_column}) - {node.offset_us}"
    first = f"({us} - ((({us}) % {node.slide_us}) + {node.slide_us}) % {node.slide_us} + {node.offset_us})"
    where = f"WHERE c{node.time_column} IS NOT NULL"
    if node.size_us == node.slide_us:
        start = first
        origin = source
    else:
        windows = node.size_us // node.slide_us
        start = f"({first} - k * {node.slide_us})"
        origin = f"{source}, (SELECT unnest(range({windows})) AS k) AS w"
    columns = passthrough if passthrough != "*" else ", ".join(f"c{i}" for i in range(width))
    return (
        f"SELECT {columns}, make_timestamp({start}) AS c{width}, make_timestamp({start} + {node.size_us}) AS c{width + 1}"
        f" FROM {origin} {where}"
    )


def render_project_set(
    node: ProjectSet,
    source: str,
    items: list[tuple[str, str]],
    outputs: list[str],
    ordinal: str,
    write: Callable[[Expr], str] = render_lenient,
) -> str:
    """Rows times elements.

    Args:
        source: a FROM item with c0 ...
        items: (expression, output name) of what is handed on.
        outputs: names of the element columns.
        ordinal: name of the ordinal's column; empty to leave it out.
        write: writes a call; a query fails on a bad row, a streaming job goes on without its elements.
    """
    lists = ", ".join(f"{write(call)} AS l{i}" for i, call in enumerate(node.calls))
    longest = "greatest(" + ", ".join(f"coalesce(len(l{i}), 0)" for i in range(len(node.calls))) + ")"
    if node.outer:
        longest = f"greatest({longest}, 1)"
    numbered = f"SELECT *, unnest(range(1, {longest} + 1)) AS o FROM (SELECT *, {lists} FROM {source} AS t) AS s"
    selected = [f"{value} AS {name}" for value, name in items] + [f"l{i}[o] AS {name}" for i, name in enumerate(outputs)]
    if ordinal:
        kept = f"CASE WHEN {' OR '.join(f'len(l{i}) >= o' for i in range(len(node.calls)))} THEN o END"
        selected.append(f"{kept if node.outer and node.ordinality else 'o'} AS {ordinal}")
    return f"SELECT {', '.join(selected)} FROM ({numbered}) AS r"


def _max_one_row(node: MaxOneRow, read: ReadScan) -> str:
    over = f"OVER ({f'PARTITION BY {column_names(node.by)}' if node.by else ''})"
    first = f"CASE WHEN count(*) {over} > 1 THEN error('{MORE_THAN_ONE_ROW}') ELSE c0 END AS c0"
    others = ", ".join([first, *(f"c{i}" for i in range(1, len(node.columns)))])
    return f"SELECT {others} FROM ({render_node(node.input, read)}) AS t"


def column_names(positions: tuple[int, ...]) -> str:
    return ", ".join(f"c{p}" for p in positions)


def _values(node: Values) -> str:
    names = ", ".join(f"c{i}" for i in range(len(node.columns)))
    rows = ", ".join("(" + ", ".join(render(item) for item in row) + ")" for row in node.rows)
    return f"SELECT * FROM (VALUES {rows}) AS t({names})"


def _join(node: Join, read: ReadScan) -> str:
    left_width = len(node.left.columns)

    def name_of(index: int) -> str:
        return f"l.c{index}" if index < left_width else f"r.c{index - left_width}"

    outputs = [f"l.c{i} AS c{i}" for i in range(left_width)]
    if node.kind not in ("semi", "anti"):
        outputs += [f"r.c{i} AS c{left_width + i}" for i in range(len(node.right.columns))]
    condition = render(node.condition, name_of) if node.condition is not None else "true"
    left, right = render_node(node.left, read), render_node(node.right, read)
    return f"SELECT {', '.join(outputs)} FROM ({left}) AS l {node.kind.upper()} JOIN ({right}) AS r ON {condition}"


def _top_n(node: TopN, read: ReadScan) -> str:
    sql = f"SELECT * FROM ({render_node(node.input, read)}) AS t"
    return sql + render_order_limit(node.order_by, node.limit, node.offset, node.with_ties)


def render_order_limit(
    order_by: tuple[OrderKey, ...], limit: int | None, offset: int, with_ties: bool, tie_break: tuple[str, ...] = ()
) -> str:
    keys = ", ".join([render_order(key, render) for key in order_by] + list(tie_break))
    if with_ties and limit is not None:
        rank = f"rank() OVER (ORDER BY {', '.join(render_order(key, render) for key in order_by)})"
        return f" QUALIFY {rank} <= {limit} ORDER BY {keys}"
    sql = f" ORDER BY {keys}" if keys else ""
    if limit is not None:
        sql += f" LIMIT {limit}"
    if offset:
        sql += f" OFFSET {offset}"
    return sql
