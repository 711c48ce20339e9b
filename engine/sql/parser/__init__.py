"""RisingWave's SQL to statements.

`parse` is the door. Statements are the dataclasses of `engine.sql.statements`; queries and expressions inside them are
sqlglot trees, built by our own grammar because sqlglot's is tolerant by design: it accepts what PostgreSQL refuses, renames
functions, rewrites operands and loses places. The trees stay sqlglot's, so its generator, walkers and optimizer work on them
(`engine.sql.dialect.RisingWave` writes them back).

What a reader of the trees meets:

- **Names** are folded: `exp.Identifier.this` is the folded text, `quoted` tells whether it was quoted.
- **Places**: identifiers, columns, tables, calls, literals, casts and operators have `node.meta["position"]`, the 1-based
  character position in the whole text.
- **Columns**: `exp.Column(this, table, db, catalog)`; `t.*` is a Column whose `this` is `exp.Star`; `* EXCEPT (a)` is
  `exp.Star(except_=[...])`. A struct field needs parentheses: `(x).f` is `exp.Dot(this=Paren, expression=Identifier)`, `(x).*` has
  `exp.Star` in its place.
- **Calls**: always `exp.Anonymous`; see `calls.py`, whose `read_call` takes a call with its DISTINCT, ORDER BY, FILTER,
  WITHIN GROUP and OVER apart. `coalesce`, `nullif`, `greatest`, `now`, `current_date`, aggregates: all of them are calls.
- **Literals**: `exp.Literal`, `exp.Boolean`, `exp.Null`; `E'..'`, `$$..$$` and `U&'..'` are plain string literals. `DATE '...'` is
  `exp.Cast(this=Literal)`; `INTERVAL '...' [DAY]` is `exp.Interval(this=Literal, unit=Var | IntervalSpan | None)`, text as written;
  `$1` is `exp.Parameter(this=Literal)`.
- **Operators**: `And Or Not EQ NEQ LT LTE GT GTE Add Sub Mul Div Mod Pow Neg DPipe BitwiseAnd BitwiseOr BitwiseXor BitwiseNot
  BitwiseLeftShift BitwiseRightShift Like ILike SimilarTo RegexpLike RegexpILike Escape Between In Exists Is NullSafeEQ NullSafeNEQ
  (IS [NOT] DISTINCT FROM) Any All AtTimeZone Collate`. Every other operator (`-> ->> #> #>> #- ? ?| ?& @> <@ @? @@ && ^@`) is
  `exp.Operator(this, operator="->", expression)`. Negated forms are wrapped in `exp.Not`. `|/ ||/ @` are calls of sqrt, cbrt, abs.
- **Constructors**: `exp.Array` (`ARRAY(query)` has the query as its only expression and `meta["subquery"]`), `exp.Tuple` for
  `ROW(...)` and `(a, b)`, `exp.Map(keys=Array, values=Array)`, `exp.Lambda(this=body, expressions=[Identifier])`.
- **Subscripts**: `exp.Bracket(this, expressions=[index])`, 1-based as written; `a[1:2]` has one `exp.Slice`.
- **Parentheses** are kept as `exp.Paren`; a scalar subquery is `exp.Subquery(this=query)`; `Exists`, `Any`, `All` hold the query
  itself, `In` has it in `query` as a Subquery.
- **Queries**: `exp.Select`, `exp.Union | Except | Intersect` (`distinct`, `by_name` and `on` for CORRESPONDING), or
  `exp.Subquery` where parentheses matter; VALUES alone is `SELECT *` from `exp.Values`. ORDER BY, LIMIT, OFFSET and WITH hang on
  the outermost node. FROM and joins: `relations.py`. GROUP BY, FETCH and windows: `queries.py`, `calls.py`.
"""

from __future__ import annotations

from engine.sql.parser.calls import FunctionCall, read_call
from engine.sql.parser.statement import parse, parse_expression, parse_query

__all__ = ["FunctionCall", "parse", "parse_expression", "parse_query", "read_call"]
