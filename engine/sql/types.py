"""RisingWave's SQL types, and how each is stored in DuckDB.

Three decisions matter everywhere else:

- `timestamp with time zone` is stored as a plain DuckDB TIMESTAMP in UTC; the time zone is put on at the edges (wire,
  Arrow to a UDF, sinks). So arithmetic on it is exact, and a session's time zone cannot leak into a view.
- `numeric` is stored as a HUGEINT key that sorts as the value does and keeps its scale (`engine.sql.numeric`): never add or
  compare keys as if they were the values.
- `jsonb` is stored as JSON text; the wire writes it in PostgreSQL's normal form (sorted keys, a space after `:` and `,`).
- `rw_int256` is stored as 32 big-endian bytes whose sign bit is turned over, so that bytes sort as the numbers do.
- `map(K, V)` is stored as a list of structs `(key, value)`, in the order in which the keys came.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class SqlType:
    """A type of RisingWave's SQL; scalars are the module constants, the rest is built by `list_of`, `struct_of` and `map_of`.

    Attributes:
        name: canonical short name, PostgreSQL's internal one where there is one (`int4`, `varchar`, `timestamptz`).
        element: the element type of a list.
        fields: `(name, type)` of each struct field; of a map `key` and `value`.
        zone: how a client wants its instants written; no part of the type.
    """

    name: str
    element: SqlType | None = None
    fields: tuple[tuple[str, SqlType], ...] = ()
    zone: str = field(default="", compare=False)

    @property
    def sql(self) -> str:
        """The name that RisingWave shows (`character varying`, `double precision[]`, `struct<a integer>`)."""
        if self.name == "list":
            assert self.element is not None
            return f"{self.element.sql}[]"
        if self.name == "struct":
            return "struct<" + ", ".join(f"{name} {type_.sql}" for name, type_ in self.fields) + ">"
        if self.name == "map":
            return f"map({self.fields[0][1].sql},{self.fields[1][1].sql})"
        return _DISPLAY[self.name]

    @property
    def duckdb(self) -> str:
        """The DuckDB type that stores it."""
        if self.name == "list":
            assert self.element is not None
            return f"{self.element.duckdb}[]"
        if self.name == "struct":
            return "STRUCT(" + ", ".join(f'"{name}" {type_.duckdb}' for name, type_ in self.fields) + ")"
        if self.name == "map":
            return f"{self.entries.duckdb}[]"
        return _DUCKDB[self.name]

    @property
    def oid(self) -> int:
        """PostgreSQL's type oid, as RisingWave reports it on the wire (a struct is `record`)."""
        if self.name == "list":
            assert self.element is not None
            return _ARRAY_OID.get(self.element.name, 1015)
        return _OID[self.name]

    @property
    def entries(self) -> SqlType:
        """The struct that a map has one of for each key."""
        return SqlType("struct", fields=self.fields)

    def in_zone(self, zone: str) -> SqlType:
        """The same type, its instants to be written in `zone`."""
        element = self.element.in_zone(zone) if self.element is not None else None
        return replace(self, zone=zone, element=element, fields=tuple((n, t.in_zone(zone)) for n, t in self.fields))

    @property
    def is_numeric(self) -> bool:
        return self.name in _NUMERIC_RANK

    @property
    def rank(self) -> int:
        """Order of implicit numeric promotion: int2 < int4 < int8 < numeric < float4 < float8."""
        return _NUMERIC_RANK[self.name]

    def __str__(self) -> str:
        return self.sql


_DISPLAY = {
    "bool": "boolean", "int2": "smallint", "int4": "integer", "int8": "bigint", "numeric": "numeric", "float4": "real",
    "float8": "double precision", "varchar": "character varying", "bytea": "bytea", "date": "date",
    "time": "time without time zone", "timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone",
    "interval": "interval", "jsonb": "jsonb", "serial": "serial", "unknown": "unknown", "int256": "rw_int256",
}  # fmt: skip
_DUCKDB = {
    "bool": "BOOLEAN", "int2": "SMALLINT", "int4": "INTEGER", "int8": "BIGINT", "numeric": "HUGEINT", "float4": "FLOAT",
    "float8": "DOUBLE", "varchar": "VARCHAR", "bytea": "BLOB", "date": "DATE", "time": "TIME", "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP", "interval": "INTERVAL", "jsonb": "JSON", "serial": "BIGINT", "unknown": "VARCHAR",
    "int256": "BLOB",
}  # fmt: skip
_OID = {
    "bool": 16, "bytea": 17, "int8": 20, "int2": 21, "int4": 23, "float4": 700, "float8": 701, "varchar": 1043, "date": 1082,
    "time": 1083, "timestamp": 1114, "timestamptz": 1184, "interval": 1186, "numeric": 1700, "jsonb": 3802, "serial": 20,
    "struct": 2249, "unknown": 705, "int256": 1301, "map": 1043,
}  # fmt: skip
_ARRAY_OID = {
    "bool": 1000, "bytea": 1001, "int2": 1005, "int4": 1007, "varchar": 1015, "int8": 1016, "serial": 1016, "float4": 1021,
    "float8": 1022, "timestamp": 1115, "date": 1182, "time": 1183, "timestamptz": 1185, "interval": 1187, "numeric": 1231,
    "jsonb": 3807, "struct": 2287, "int256": 1302, "map": 1015,
}  # fmt: skip
_NUMERIC_RANK = {"int2": 1, "int4": 2, "int8": 3, "serial": 3, "numeric": 4, "float4": 5, "float8": 6}

BOOL = SqlType("bool")
INT2 = SqlType("int2")
INT4 = SqlType("int4")
INT8 = SqlType("int8")
NUMERIC = SqlType("numeric")
FLOAT4 = SqlType("float4")
FLOAT8 = SqlType("float8")
VARCHAR = SqlType("varchar")
BYTEA = SqlType("bytea")
DATE = SqlType("date")
TIME = SqlType("time")
TIMESTAMP = SqlType("timestamp")
TIMESTAMPTZ = SqlType("timestamptz")
INTERVAL = SqlType("interval")
JSONB = SqlType("jsonb")
SERIAL = SqlType("serial")
INT256 = SqlType("int256")
UNKNOWN = SqlType("unknown")
"""The type of a string literal or parameter before the context decides."""

SCALARS = (BOOL, INT2, INT4, INT8, NUMERIC, FLOAT4, FLOAT8, VARCHAR, BYTEA, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL, JSONB)


def list_of(element: SqlType) -> SqlType:
    return SqlType("list", element=element)


def struct_of(*fields: tuple[str, SqlType]) -> SqlType:
    return SqlType("struct", fields=fields)


def map_of(key: SqlType, value: SqlType) -> SqlType:
    return SqlType("map", fields=(("key", key), ("value", value)))
