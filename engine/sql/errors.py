"""SQL errors as PostgreSQL reports them: SQLSTATE, position, remedy.

Source of the codes: PostgreSQL documentation, appendix A.
"""

from __future__ import annotations

from core.errors import HeadraceError


class SqlError(HeadraceError):
    """A statement was refused or failed.

    Attributes:
        sqlstate: five characters.
        position: 1-based character position in the statement text, or None.
    """

    sqlstate = "XX000"

    def __init__(
        self,
        what: str,
        *,
        position: int | None = None,
        fix: str | None = None,
        where: str | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.position = position
        if sqlstate is not None:
            self.sqlstate = sqlstate


def too_deep() -> SqlError:
    """For a query whose tree is deeper than our recursion."""
    return SqlError(
        "stack depth limit exceeded", sqlstate="54001", fix="Nest fewer expressions or subqueries, or split the query."
    )


class SqlSyntaxError(SqlError):
    """The text is not SQL."""

    sqlstate = "42601"


class UnsupportedQuery(SqlError):
    """SQL that RisingWave knows and we cannot do (yet), or that it refuses too."""

    sqlstate = "0A000"


class UndefinedObject(SqlError):
    sqlstate = "42704"


class UndefinedTable(SqlError):
    sqlstate = "42P01"


class UndefinedColumn(SqlError):
    sqlstate = "42703"


class AmbiguousColumn(SqlError):
    sqlstate = "42702"


class UndefinedFunction(SqlError):
    sqlstate = "42883"


class DuplicateObject(SqlError):
    sqlstate = "42P07"


class TypeMismatch(SqlError):
    sqlstate = "42804"


class InvalidDefinition(SqlError):
    sqlstate = "42P17"


class InvalidParameter(SqlError):
    sqlstate = "22023"


class GroupingError(SqlError):
    sqlstate = "42803"


class DependentObjects(SqlError):
    sqlstate = "2BP01"


class UndefinedCursor(SqlError):
    sqlstate = "34000"


class QueryCanceled(SqlError):
    sqlstate = "57014"
