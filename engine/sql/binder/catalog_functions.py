"""Functions about objects of the catalog: their text, their names, the session's settings. Answered while binding, from the
snapshot that the statement is bound against.

Source: PostgreSQL documentation, section 9.27 "System Information Functions".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.catalog.catalog import SYSTEM_SCHEMAS
from engine.catalog.indexes import index_keys
from engine.catalog.objects import Function, Index, Input, MaterializedView, Relation, View
from engine.catalog.pg_catalog import schema_oid
from engine.catalog.text import quote_name
from engine.sql.binder.scope import Environment
from engine.sql.errors import SqlError, UndefinedFunction, UndefinedObject, UndefinedTable
from engine.sql.expressions import Call, Case, Cast, Expr, Literal, Parameter
from engine.sql.statements import ObjectName
from engine.sql.types import BOOL, INT4, INT8, SCALARS, UNKNOWN, VARCHAR, list_of

_KEY_INDEX = 1_000_000_000
_KEY_CONSTRAINT = 1_500_000_000


def catalog_call(name: str, args: Sequence[Expr], environment: Environment) -> Expr | None:
    """The bound call, or None if the function is not one of these.

    Raises:
        SqlError: it is, and its arguments are wrong.
    """
    if not args and name in environment.constants:
        return Literal(VARCHAR, environment.constants[name])
    if name == "pg_get_indexdef" and len(args) == 3:
        return _index_part(args, environment)
    texts = _TEXTS.get(name)
    if texts is not None and args:
        return _by_id(args[0], texts(environment))
    special = _SPECIAL.get(name)
    if special is not None and not args:
        raise UndefinedFunction(f"function `{name}()` does not exist", fix="Pass it an argument.")
    return special(args, environment) if special is not None else None


def _by_id(value: Expr, texts: Mapping[int, str]) -> Expr:
    """CASE value WHEN 1001 THEN '...' END."""
    number = value if value.type.is_numeric else Cast(INT4, value)
    branches = tuple(
        (Call(BOOL, "=", (number, Literal(INT4, key)), "({0} = {1})"), Literal(VARCHAR, text)) for key, text in texts.items()
    )
    return Case(VARCHAR, branches, Literal(VARCHAR, None)) if branches else Literal(VARCHAR, None)


def _view_texts(environment: Environment) -> dict[int, str]:
    found = environment.catalog.in_database(environment.database)
    return {o.id: _query_text(o.sql) for o in found if isinstance(o, (View, MaterializedView))}


def _query_text(sql: str) -> str:
    """What stands behind the first AS of a CREATE statement."""
    from engine.sql.parser.tokens import tokenize

    for token in tokenize(sql):
        if token.kind == "word" and token.value == "as":
            return sql[token.end :].strip()
    return sql


def _index_texts(environment: Environment) -> dict[int, str]:
    texts = {}
    for found in environment.catalog.in_database(environment.database):
        if isinstance(found, Index):
            texts[found.id] = found.sql
        elif isinstance(found, Input) and found.primary_key:
            keys = ", ".join(quote_name(found.columns[p].name) for p in found.primary_key)
            texts[_KEY_INDEX + found.id] = f"CREATE UNIQUE INDEX {found.name}_pkey ON {found.schema}.{quote_name(found.name)} USING btree ({keys})"  # fmt: skip
    return texts


def _index_part(args: Sequence[Expr], environment: Environment) -> Expr:
    """pg_get_indexdef(index, column, pretty): the column's name; the whole text for column 0."""
    branches = []
    for found in environment.catalog.in_database(environment.database):
        names: Sequence[str] = ()
        number = found.id
        if isinstance(found, Index):
            names = found.columns
        elif isinstance(found, Input):
            names = [found.columns[p].name for p in found.primary_key]
            number = _KEY_INDEX + found.id
        for place, name in enumerate(names, start=1):
            values = (args[0], Literal(INT4, number), args[1], Literal(INT4, place))
            branches.append((Call(BOOL, "=", values, "({0} = {1} AND {2} = {3})"), Literal(VARCHAR, quote_name(name))))
    whole = _by_id(args[0], _index_texts(environment))
    if not branches:
        return whole
    first = Call(BOOL, "=", (args[1], Literal(INT4, 0)), "({0} = {1})")
    return Case(VARCHAR, ((first, whole), *branches), Literal(VARCHAR, None))


def _constraint_texts(environment: Environment) -> dict[int, str]:
    return {
        _KEY_CONSTRAINT + o.id: f"PRIMARY KEY ({', '.join(quote_name(o.columns[p].name) for p in o.primary_key)})"
        for o in environment.catalog.in_database(environment.database)
        if isinstance(o, Input) and o.primary_key
    }


def _functions(environment: Environment) -> list[Function]:
    return [o for o in environment.catalog.in_database(environment.database) if isinstance(o, Function)]


def _argument_texts(environment: Environment) -> dict[int, str]:
    return {f.id: ", ".join(f"{name} {t.sql}" if name else t.sql for name, t in f.arguments) for f in _functions(environment)}


def _to_regclass(args: Sequence[Expr], environment: Environment) -> Expr:
    text = _constant(args, 0, "to_regclass")
    found = environment.catalog.find(_object_name(text), environment.database)
    return Literal(INT4, found.id if found is not None else None)


def _regclass(args: Sequence[Expr], environment: Environment) -> Expr:
    """`'name'::regclass` is the object's id, `id::regclass` its name."""
    if not isinstance(args[0], Literal) or not isinstance(args[0].value, str):
        names = {o.id: quote_name(o.name) for o in environment.catalog.objects.values()}
        return _by_id(args[0], names)
    text = args[0].value
    if text.isdigit():
        return Literal(INT4, int(text))
    found = environment.catalog.find(_object_name(text), environment.database)
    if found is None:
        raise UndefinedTable(f"relation `{text}` does not exist", fix="See SHOW TABLES.")
    return Literal(INT4, found.id)


def special_cast(type_name: str, value: Expr, environment: Environment) -> Expr | None:
    """`value::regclass` and its kin; None if the type is none of them.

    A text becomes an object's id, an id its name.
    """
    bare = type_name.removeprefix("pg_catalog.")
    if isinstance(value, Parameter) and bare.startswith("reg"):
        environment.parameter_types.setdefault(value.number, VARCHAR)
        return Literal(INT4, None)  # only while the statement is prepared
    if bare == "regclass":
        return _regclass([value], environment)
    if bare == "regnamespace":
        schemas = (*environment.catalog.databases[environment.database], *SYSTEM_SCHEMAS)
        return _by_name_or_id(value, {schema: schema_oid(schema) for schema in schemas}, "schema")
    if bare in ("regproc", "regprocedure"):
        if isinstance(value, Literal) and value.value in ("array_in", "pg_catalog.array_in"):
            return Literal(VARCHAR, "array_in")  # as pg_type.typinput has it
        return _by_name_or_id(value, {f.name: f.id for f in _functions(environment)}, "function")
    if bare == "regtype":
        types = {t.sql: t.oid for t in SCALARS if t.name not in ("unknown", "serial")}
        return _by_name_or_id(value, {**{t.name: t.oid for t in SCALARS}, **types}, "type")
    return None


def _by_name_or_id(value: Expr, ids: Mapping[str, int], what: str) -> Expr:
    if not isinstance(value, Literal) or not isinstance(value.value, str):
        return _by_id(value, {number: name for name, number in ids.items()})
    bare = value.value.rpartition(".")[2].partition("(")[0].strip('"')
    if bare.isdigit():
        return Literal(INT4, int(bare))
    if bare not in ids:
        raise UndefinedObject(f"{what} `{value.value}` does not exist", fix=f"Known: {', '.join(sorted(ids)[:8])}.")
    return Literal(INT4, ids[bare])


def _is_visible(args: Sequence[Expr], environment: Environment) -> Expr:
    schemas = {*environment.catalog.path, "pg_catalog"}
    found = environment.catalog.objects.values()
    ids = [o.id for o in found if o.schema in schemas and o.database in ("", environment.database)]
    keys = [_KEY_INDEX + i for i in ids]
    return Call(BOOL, "pg_table_is_visible", (args[0],), f"({{0}} IN ({', '.join(map(str, [0, *ids, *keys]))}))")


def _object_name(text: str) -> ObjectName:
    parts = [part.strip('"') for part in text.split(".")]
    schema = parts[-2] if len(parts) > 1 else None
    return ObjectName(parts[-1], schema, parts[-3] if len(parts) > 2 else None)


def _current_schemas(args: Sequence[Expr], environment: Environment) -> Expr:
    implicit = isinstance(args[0], Literal) and args[0].value is True if args else False
    schemas = [*(("pg_catalog",) if implicit else ()), *environment.catalog.path]
    return Literal(list_of(VARCHAR), schemas)


def _current_setting(args: Sequence[Expr], environment: Environment) -> Expr:
    name = _constant(args, 0, "current_setting")
    value = environment.settings.get(name.lower())
    if value is None and len(args) < 2:
        raise SqlError(f"unrecognized configuration parameter `{name}`", sqlstate="42704", fix="SHOW ALL lists them.")
    return Literal(VARCHAR, value)


def _constant(args: Sequence[Expr], index: int, function: str) -> str:
    value = args[index] if index < len(args) else None
    if isinstance(value, Cast):
        value = value.arg
    if not isinstance(value, Literal) or not isinstance(value.value, str):
        raise SqlError(f"`{function}` takes a constant text here", sqlstate="0A000", fix="Write the name as a constant.")
    return value.value


def _described(args: Sequence[Expr], environment: Environment) -> Expr:
    """`col_description(relation, column)` and, of the relation itself, `obj_description(relation[, catalog])`."""
    comments = environment.catalog.comments
    column = args[1].value if len(args) > 1 and isinstance(args[1], Literal) and isinstance(args[1].value, int) else None
    if column is None and len(args) > 1 and args[1].type.is_numeric:
        numbers = sorted({number for number, _ in comments})
        by_column = {n: _by_id(args[1], {c: text for (o, c), text in comments.items() if o == n}) for n in numbers}
        branches = tuple((_equals(args[0], n), by_column[n]) for n in numbers)
        return Case(VARCHAR, branches, Literal(VARCHAR, None)) if branches else Literal(VARCHAR, None)
    return _by_id(args[0], {number: text for (number, c), text in comments.items() if c == (column or 0)})


def _equals(value: Expr, number: int) -> Expr:
    left = value if value.type.is_numeric else Cast(INT4, value)
    return Call(BOOL, "=", (left, Literal(INT4, number)), "({0} = {1})")


def _user_name(args: Sequence[Expr], environment: Environment) -> Expr:
    return _by_id(args[0], {user.id: user.name for user in environment.catalog.users.values()})


def _column_of_index(args: Sequence[Expr], environment: Environment) -> Expr:
    """`pg_index_column_has_property(index, column, 'asc')`."""
    if len(args) != 3:
        raise UndefinedFunction("pg_index_column_has_property takes an index, a column's number and a property")
    number, property_ = args[0], _constant(args, 2, "pg_index_column_has_property").lower()
    column = args[1].value if isinstance(args[1], Literal) else None
    answers: dict[int, bool] = {}
    for found in environment.catalog.in_database(environment.database):
        keys = index_keys(found) if isinstance(found, Index) else ()
        if isinstance(column, int) and 1 <= column <= len(keys) and property_ in keys[column - 1].properties:
            answers[found.id] = keys[column - 1].properties[property_]
    branches = tuple((_equals(number, n), Literal(BOOL, answer)) for n, answer in answers.items())
    return Case(BOOL, branches, Literal(BOOL, None)) if branches else Literal(BOOL, None)


def _stored_size(args: Sequence[Expr], environment: Environment) -> Expr:
    """Bytes of the relation's rows as text; 0 where it stores none, or where only its number is known while reading."""
    given = args[0].arg if isinstance(args[0], Cast) else args[0]
    found = None
    if isinstance(given, Literal) and isinstance(given.value, str):
        found = environment.catalog.must_find(_object_name(given.value), environment.database)
    elif isinstance(given, Literal) and isinstance(given.value, int):
        found = environment.catalog.objects.get(given.value)
    if not isinstance(found, Relation) or found.kind not in ("table", "materialized view"):
        return Literal(INT8, 0)
    size = f"(SELECT CAST(coalesce(sum(strlen(CAST(t AS VARCHAR))), 0) AS BIGINT) FROM {found.physical} AS t)"
    return Call(INT8, "pg_relation_size", (), size)


_TEXTS: Mapping[str, Callable[[Environment], dict[int, str]]] = {
    "pg_get_viewdef": _view_texts,
    "pg_get_indexdef": _index_texts,
    "pg_get_constraintdef": _constraint_texts,
    "pg_get_function_arguments": _argument_texts,
    "pg_get_function_identity_arguments": _argument_texts,
    "pg_get_function_result": lambda environment: {f.id: f.returns.sql for f in _functions(environment)},
    "pg_get_functiondef": lambda environment: {f.id: f.sql for f in _functions(environment)},
}
_SPECIAL: Mapping[str, Callable[[Sequence[Expr], Environment], Expr | None]] = {
    "pg_typeof": lambda args, _environment: Literal(VARCHAR, "unknown") if args[0].type == UNKNOWN else None,
    "pg_get_expr": lambda args, _environment: args[0],  # the catalogs hold the text itself
    "pg_table_is_visible": _is_visible,
    "to_regclass": _to_regclass,
    "regclass": _regclass,
    "current_schemas": _current_schemas,
    "pg_relation_size": _stored_size,
    "pg_table_size": _stored_size,
    "pg_total_relation_size": _stored_size,
    "col_description": _described,
    "obj_description": _described,
    "pg_get_userbyid": _user_name,
    "pg_index_column_has_property": _column_of_index,
    "current_setting": _current_setting,
}
