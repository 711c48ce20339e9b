"""Type names as written to sqlglot's `DataType`.

| written | tree |
|---|---|
| a built-in scalar | `DataType(this=DType.X)`, with `DataTypeParam` expressions when a length or precision is written |
| `T[]` | `DataType(this=DType.ARRAY, expressions=[T], nested=True)` |
| `STRUCT<a T, ...>` | `DataType(this=DType.STRUCT, expressions=[ColumnDef(this=Identifier, kind=T)], nested=True)` |
| `MAP(K, V)` | `DataType(this=DType.MAP, expressions=[K, V], nested=True)` |
| anything else, e.g. `regclass`, `pg_catalog.text`, `"char"` | `DataType(this=DType.USERDEFINED, kind="folded.name")` |

`type_meaning.parse_type` turns the tree into a `SqlType`.
"""

from __future__ import annotations

from typing import Final

from sqlglot import exp

from engine.sql.parser.stream import TokenStream, mark

DType = exp.DataType.Type

SCALARS: Final = {
    "bool": DType.BOOLEAN, "boolean": DType.BOOLEAN,
    "smallint": DType.SMALLINT, "int2": DType.SMALLINT,
    "int": DType.INT, "integer": DType.INT, "int4": DType.INT,
    "bigint": DType.BIGINT, "int8": DType.BIGINT,
    "numeric": DType.DECIMAL, "decimal": DType.DECIMAL, "dec": DType.DECIMAL,
    "real": DType.FLOAT, "float4": DType.FLOAT,
    "double": DType.DOUBLE, "float8": DType.DOUBLE, "float": DType.DOUBLE,
    "varchar": DType.VARCHAR, "string": DType.VARCHAR, "text": DType.TEXT,
    "char": DType.CHAR, "character": DType.CHAR, "bpchar": DType.CHAR,
    "bytea": DType.VARBINARY,
    "date": DType.DATE, "time": DType.TIME, "timestamp": DType.TIMESTAMP, "timestamptz": DType.TIMESTAMPTZ, "timetz": DType.TIMETZ,
    "interval": DType.INTERVAL,
    "json": DType.JSON, "jsonb": DType.JSONB,
    "serial": DType.SERIAL, "bigserial": DType.BIGSERIAL, "smallserial": DType.SMALLSERIAL,
    "rw_int256": DType.INT256, "uuid": DType.UUID, "vector": DType.VECTOR, "xml": DType.XML, "variant": DType.VARIANT,
    "unknown": DType.UNKNOWN,
}  # fmt: skip

_ZONED: Final = {DType.TIMESTAMP: DType.TIMESTAMPTZ, DType.TIME: DType.TIMETZ}
_REAL_BITS = 24
"""`float(p)` is real up to this binary precision (PostgreSQL documentation, 8.1.3)."""


def type_name(stream: TokenStream) -> exp.DataType:
    """Read one type."""
    first = stream.current
    node = mark(_element(stream), first)
    while True:
        if stream.at_symbol("[") and (
            stream.at_symbol("]", 1) or (stream.peek().kind == "number" and stream.at_symbol("]", 2))
        ):
            stream.advance()
            if stream.current.kind == "number":
                stream.advance()
            stream.expect_symbol("]")
        elif not stream.accept("array"):
            return node
        node = mark(exp.DataType(this=DType.ARRAY, expressions=[node], nested=True), first)


def starts_literal(stream: TokenStream) -> bool:
    """Whether a typed literal is next, such as `DATE '2020-01-01'` or `timestamp with time zone '...'`."""
    token = stream.current
    if token.kind != "word" or token.value not in SCALARS or token.value == "interval":
        return False
    ahead = 1
    if stream.peek().kind == "word" and stream.peek().value in ("precision", "varying", "with", "without"):
        ahead = 2 if stream.peek().value in ("precision", "varying") else 4
    return stream.peek(ahead).kind == "string"


def _element(stream: TokenStream) -> exp.DataType:
    token = stream.current
    if token.kind == "word" and token.value == "struct" and stream.at_symbol("<", 1):
        return _struct(stream)
    if token.kind == "word" and token.value == "map" and stream.at_symbol("(", 1):
        return _map(stream)
    if token.kind == "word" and token.value in SCALARS and not stream.at_symbol(".", 1):
        return _scalar(stream)
    return exp.DataType(this=DType.USERDEFINED, kind=_dotted_name(stream))


def _dotted_name(stream: TokenStream) -> str:
    """A name that is no built-in type; a part that was quoted keeps its quotes: `"char"` is not `char`."""
    parts: list[str] = []
    while True:
        name = stream.label() if parts else stream.identifier()
        parts.append('"' + name.name.replace('"', '""') + '"' if name.args["quoted"] else name.name)
        if not stream.accept_symbol("."):
            return ".".join(parts)


def _scalar(stream: TokenStream) -> exp.DataType:
    word = stream.advance().value
    kind = SCALARS[word]
    if word == "double":
        stream.accept("precision")
    elif kind == DType.CHAR and word != "bpchar" and stream.accept("varying"):
        kind = DType.VARCHAR
    parameters = _parameters(stream)
    if kind in _ZONED:
        if stream.accept("with", "time", "zone"):
            kind = _ZONED[kind]
        else:
            stream.accept("without", "time", "zone")
    if word == "float" and parameters:
        kind = DType.FLOAT if int(parameters[0].name) <= _REAL_BITS else DType.DOUBLE
        parameters = []
    return exp.DataType(this=kind, expressions=parameters) if parameters else exp.DataType(this=kind)


def _parameters(stream: TokenStream) -> list[exp.DataTypeParam]:
    """`(10, 2)` after a type name."""
    if not (stream.at_symbol("(") and stream.peek().kind == "number"):
        return []
    stream.advance()
    parameters = []
    while True:
        token = stream.current
        if token.kind != "number" or not token.value.isdigit():
            raise stream.error()
        parameters.append(exp.DataTypeParam(this=exp.Literal.number(stream.advance().value)))
        if not stream.accept_symbol(","):
            break
    stream.expect_symbol(")")
    return parameters


def _struct(stream: TokenStream) -> exp.DataType:
    stream.advance()
    stream.expect_symbol("<")
    fields: list[exp.Expression] = []
    while not _closes(stream):
        name = stream.label()
        fields.append(exp.ColumnDef(this=name, kind=type_name(stream)))
        if not stream.accept_symbol(","):
            break
    if not fields or not _closes(stream):
        raise stream.error()
    if stream.current.value == ">":
        stream.advance()
    else:
        stream.split_symbol()
    return exp.DataType(this=DType.STRUCT, expressions=fields, nested=True)


def _closes(stream: TokenStream) -> bool:
    return stream.current.kind == "operator" and stream.current.value in (">", ">>", ">=")


def _map(stream: TokenStream) -> exp.DataType:
    stream.advance()
    stream.expect_symbol("(")
    key = type_name(stream)
    stream.expect_symbol(",")
    value = type_name(stream)
    stream.expect_symbol(")")
    return exp.DataType(this=DType.MAP, expressions=[key, value], nested=True)
