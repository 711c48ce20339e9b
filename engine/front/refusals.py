"""The last touch of an error before a client sees it: a SQLSTATE, the place in the statement where one is known, a remedy.

Whoever raises knows best; what is left open is filled in here by the kind of error. An error that is not ours becomes one
that a client can read, and never `XX000` for something that the statement caused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from core.errors import HeadraceError, UnavailableError
from engine.runtime.duckdb_errors import to_sql_error
from engine.sql.errors import SqlError
from engine.sql.statements import Delete, Flush, Insert, ObjectName, QueryStatement, Statement, Update, Wait

logger = logging.getLogger(__name__)

_REMEDIES = {
    "0A000": "See docs/reference/sql.md for what is supported, or run the statement on a RisingWave cluster.",
    "22003": "Use a wider type, for example bigint or double precision.",
    "21000": "Add a condition, an aggregate or LIMIT 1 to the subquery.",
    "22007": "Write it as `2024-12-31`, `12:34:56` or `2024-12-31 12:34:56`.",
    "22008": "Dates go from 4713 BC to 5874897; look at month, day and hour.",
    "22012": "Guard the divisor: `a / nullif(b, 0)`.",
    "22023": "See docs/reference/sql.md for the values that are allowed.",
    "22P02": "Write the value as the type asks for it.",
    "22P03": "Send the value in the format that was announced.",
    "2BP01": "Drop the dependents first, or write CASCADE.",
    "3D000": "SHOW DATABASES lists them.",
    "3F000": "SHOW SCHEMAS lists them.",
    "42601": "See docs/reference/sql.md for the form of the statement.",
    "42701": "Give every column a name of its own.",
    "42703": "DESCRIBE shows the columns of a relation.",
    "42704": "Look at its spelling; SHOW lists what exists.",
    "42803": "Aggregate the column, add it to GROUP BY, or move the condition to HAVING.",
    "42804": "Add a cast.",
    "42809": "Use the statement for that kind of object.",
    "42846": "Cast in two steps, for example through varchar.",
    "42883": "Look at the name and add casts to the arguments; docs/reference/sql.md lists the functions.",
    "42P01": "SHOW TABLES, SHOW MATERIALIZED VIEWS and SHOW SOURCES list the relations.",
    "42P02": "Bind as many parameters as the statement numbers, from $1 on.",
    "42P06": "Choose another name.",
    "42P10": "Count the columns of the SELECT list from 1.",
    "42P17": "See docs/reference/sql.md for the rules of this definition.",
    "42P18": "Add a cast, so that the type is known.",
    "38000": "Try the function on that row alone; the engine's log has more.",
    "53200": "Raise the engine's memory limit, or make the query smaller.",
}
_OTHERWISE = "See docs/reference/sql.md for what is supported."
# DuckDB's errors of execution that the values cause, whatever their class.
_VALUE_ERRORS = (duckdb.Error, pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)


@contextmanager
def readable_errors(statement: Statement) -> Iterator[None]:
    """Run something for a client; what it raises is an error that the client can read."""
    try:
        yield
    except SqlError as error:
        raise completed(error, statement) from error.__cause__
    except UnavailableError as error:
        raise SqlError(error.what, where=error.where, fix=error.fix or "Try again later.", sqlstate="58000") from error
    except HeadraceError as error:
        raise completed(SqlError(error.what, where=error.where, fix=error.fix, sqlstate="22023"), statement) from error
    except RecursionError as error:
        fix = "Nest fewer parentheses or subqueries."
        raise SqlError("stack depth limit exceeded", sqlstate="54001", fix=fix) from error
    except _VALUE_ERRORS as error:
        logger.warning("statement failed in the store", extra={"error": str(error)})
        known = (
            to_sql_error(error)
            if isinstance(error, duckdb.Error)
            else SqlError("a value does not fit its type", sqlstate="22000")
        )
        raise completed(known, statement) from error


def completed(error: SqlError, statement: Statement) -> SqlError:
    """The error with a SQLSTATE, a position and a remedy, as far as they can be known."""
    if error.sqlstate == "XX000":
        # An epoch that fails is no fault of FLUSH; what DuckDB refuses of any other statement cannot be done here.
        error.sqlstate = "58000" if isinstance(statement, (Flush, Wait)) else "0A000"
    of_values = error.sqlstate[:2] in ("22", "53", "57", "58") and isinstance(
        statement, (QueryStatement, Insert, Update, Delete)
    )
    if error.position is None and not of_values:
        error.position = _place_of(statement)
    return with_remedy(error)


def with_remedy(error: SqlError) -> SqlError:
    """The error on one line, with what to do about its kind where nobody said it better."""
    error.what = " ".join(error.what.splitlines())
    if error.fix is None:
        error.fix = _REMEDIES.get(error.sqlstate, _OTHERWISE)
    return error


def _place_of(statement: Statement) -> int | None:
    """Where the statement names its object."""
    for part in ("name", "table", "subscription"):
        named = getattr(statement, part, None)
        if isinstance(named, ObjectName):
            return named.position
    return None
