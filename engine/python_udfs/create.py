"""CREATE FUNCTION and CREATE AGGREGATE in LANGUAGE python: from the statement to the object of the catalog."""

from __future__ import annotations

from engine.catalog.objects import Function
from engine.python_udfs.program import Form, Program
from engine.sql.errors import InvalidDefinition
from engine.sql.statements import CreateFunction
from engine.sql.types import SqlType, list_of, struct_of

LINK = "python:"


def python_function(statement: CreateFunction, number: int, database: str, schema: str) -> Function:
    """The function; its source is compiled but not run.

    Raises:
        InvalidDefinition: the body is no Python or lacks the function, or a type is missing.
    """
    position = statement.name.position
    form: Form = "aggregate" if statement.aggregate else "table" if statement.returns_table else "scalar"
    returns = _rows(statement.returns_table) if statement.returns_table else statement.returns
    if returns is None:
        raise InvalidDefinition(
            "a function in LANGUAGE python must say what it returns", position=position, fix="Add RETURNS.", sqlstate="42P13"
        )
    name = statement.name.name
    Program(statement.body or "", name, form).check(position)
    return Function(
        number,
        database,
        schema,
        name,
        statement.text,
        (),
        "function",
        statement.arguments,
        returns,
        f"{LINK}{number}",
        "python",
        statement.body,
        name,
        form,
        statement.returns_table,
    )


def program_of(function: Function) -> Program:
    return Program(function.body or "", function.symbol, function.form)


def _rows(columns: tuple[tuple[str, SqlType], ...]) -> SqlType:
    """What a table function returns: a list of values, or of structs where it has several columns."""
    return list_of(columns[0][1] if len(columns) == 1 else struct_of(*columns))
