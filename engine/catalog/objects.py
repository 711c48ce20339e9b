"""What the catalog knows: one frozen dataclass an object.

The catalog stores the SQL text of each object and a few facts that cannot be derived from it (ids, the sink's UUID); a plan
is a function of the catalog, so nothing else is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from engine.sql.expressions import Expr
from engine.sql.statements import Format, WatermarkDefinition
from engine.sql.types import VARCHAR, SqlType, list_of, struct_of

ObjectKind = Literal[
    "table", "source", "materialized view", "view", "sink", "subscription", "function", "index", "system", "secret", "connection"
]  # fmt: skip


@dataclass(frozen=True)
class ColumnInfo:
    name: str
    type: SqlType
    not_null: bool = False
    hidden: bool = False
    default: Expr | None = None
    generated: Expr | None = None
    """Computed from the other columns (by physical position)."""


Shape = tuple[tuple[int, str], ...]
"""Physical position and name of every visible column."""


@dataclass(frozen=True)
class Pins:
    """What the names of a statement meant when it was created, so that it means the same when it is bound again.

    Attributes:
        names: as written (`t`, `s.t`) to object id.
        columns: visible columns by relation; later ones stay unseen, renamed ones keep the old name.
        path: the search path.
    """

    names: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[int, Shape] = field(default_factory=dict)
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class CatalogObject:
    """Anything with a name.

    Attributes:
        id: unique for ever in one data folder; physical tables are named after it.
        database, schema, name: where it is found.
        sql: the statement that made it, as the user wrote it (with the current name).
        depends_on: ids of the objects it is built on.
        pins: what the names in `sql` mean.
    """

    id: int
    database: str
    schema: str
    name: str
    sql: str = ""
    depends_on: tuple[int, ...] = ()

    kind: ObjectKind = "table"
    pins: Pins = field(default_factory=Pins, kw_only=True, compare=False)


@dataclass(frozen=True)
class Relation(CatalogObject):
    """Something one can select from. `columns` are all physical ones (`c0`, `c1` ...), hidden ones last.

    Attributes:
        key: positions of the stream key among `columns`; empty for a view.
        append_only: rows are never changed or removed.
        watermark: positions of columns with a watermark.
    """

    columns: tuple[ColumnInfo, ...] = ()
    key: tuple[int, ...] = ()
    append_only: bool = False
    watermarked: tuple[int, ...] = ()

    @property
    def physical(self) -> str:
        """The DuckDB table that stores it."""
        return f"hr.r{self.id}"

    @property
    def visible(self) -> tuple[ColumnInfo, ...]:
        return tuple(column for column in self.columns if not column.hidden)

    @property
    def shape(self) -> Shape:
        return tuple((i, column.name) for i, column in enumerate(self.columns) if not column.hidden)

    def with_shape(self, shape: Shape) -> Self:
        """The relation as somebody sees it who knows these columns only."""
        names = dict(shape)
        columns = tuple(replace(c, name=names.get(i, c.name), hidden=i not in names) for i, c in enumerate(self.columns))
        return replace(self, columns=columns)


@dataclass(frozen=True)
class Input(Relation):
    """A table or a source: rows come in from clients or from a connector.

    Attributes:
        primary_key: positions of the declared key (empty: a hidden row id is the key).
        include: `(kind, column position)` of INCLUDE columns.
        settings: our own settings of a source (`max_future_skew_us`, `required_columns`).
        version: positions of WITH VERSION COLUMN; a row overwrites one of no greater version only.
    """

    primary_key: tuple[int, ...] = ()
    on_conflict: str = "overwrite"
    watermark: WatermarkDefinition | None = None
    include: tuple[tuple[str, int], ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    format: Format | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    version: tuple[int, ...] = ()

    @property
    def has_connector(self) -> bool:
        return "connector" in self.options

    @property
    def stream(self) -> str:
        """The stream's name in the quarantine: the topic without `events.`, or the object's name."""
        return self.options.get("topic", self.name).removeprefix("events.")


@dataclass(frozen=True)
class MaterializedView(Relation):
    kind: ObjectKind = "materialized view"
    emit_on_window_close: bool = False


@dataclass(frozen=True)
class View(CatalogObject):
    """A named query, expanded where it is used. `columns` renames its outputs."""

    kind: ObjectKind = "view"
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sink(CatalogObject):
    """Sends the changes of `relation` (an object's id, or its own hidden materialized view) to a connector, or into a table.

    Attributes:
        into: the id of the table that it feeds, or 0.
        feed: a value for each physical column of that table over the sink's visible columns; None where the table makes it.
        inserts_only: retractions are left out (`force_append_only`, or the input has none).
    """

    kind: ObjectKind = "sink"
    relation: int = 0
    uuid: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    format: Format | None = None
    into: int = 0
    feed: tuple[Expr | None, ...] = ()
    inserts_only: bool = False

    @property
    def from_now(self) -> bool:
        """Whether it leaves out what was there when it was created (`snapshot = 'false'`)."""
        return self.options.get("snapshot", "true").lower() == "false"

    @property
    def outbox(self) -> str:
        return f"hr.outbox{self.id}"


@dataclass(frozen=True)
class Subscription(CatalogObject):
    kind: ObjectKind = "subscription"
    relation: int = 0
    retention_seconds: float = 86400.0

    @property
    def log(self) -> str:
        return f"hr.log{self.id}"


@dataclass(frozen=True)
class Function(CatalogObject):
    """A user's function.

    Attributes:
        link: where a server has it; `python:<id>` for one that runs in the engine's own worker processes.
        body: source, for LANGUAGE sql and python.
        form: a `table` function returns a list of its rows, an `aggregate` takes a list of structs when it is called.
        columns: of a table function.
    """

    kind: ObjectKind = "function"
    arguments: tuple[tuple[str | None, SqlType], ...] = ()
    returns: SqlType = VARCHAR
    link: str | None = None
    language: str | None = None
    body: str | None = None
    symbol: str = ""
    form: Literal["scalar", "table", "aggregate"] = "scalar"
    columns: tuple[tuple[str, SqlType], ...] = ()

    @property
    def server(self) -> str | None:
        """The address of the server that has it, if one has."""
        return None if self.language == "python" and self.body is not None and self.link == f"python:{self.id}" else self.link

    @property
    def call_types(self) -> tuple[SqlType, ...]:
        """Types of what a call passes: an aggregate gets the rows of its group as one list."""
        types = tuple(type_ for _, type_ in self.arguments)
        if self.form == "aggregate":
            return (list_of(struct_of(*((f"f{i}", type_) for i, type_ in enumerate(types)))),)
        return types


@dataclass(frozen=True)
class Index(CatalogObject):
    """Accepted and remembered; reading needs none here (DuckDB scans columns), so it stores nothing."""

    kind: ObjectKind = "index"
    relation: int = 0
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Secret(CatalogObject):
    """A value that options refer to by `SECRET name`; it lies in the data folder as it is, and no answer shows it."""

    kind: ObjectKind = "secret"
    value: str = field(default="", repr=False)


@dataclass(frozen=True)
class Connection(CatalogObject):
    """Options that sources and sinks share by `connection = name`; secrets among them are not filled in yet."""

    kind: ObjectKind = "connection"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class User:
    """Who may be an owner; whoever may connect at all may do everything here."""

    id: int
    name: str
    superuser: bool = False
    create_db: bool = False
    create_user: bool = False
    login: bool = True


ROOT = User(1, "root", superuser=True, create_db=True, create_user=True)
"""The user that is always there."""
