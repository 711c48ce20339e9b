"""Functions that take a lambda: `array_transform(array, |x| body)`, `map_filter(map, |k, v| condition)`.

Source: RisingWave documentation, "Array functions and operators", "Map functions and operators".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from engine.sql.binder.scope import position_of
from engine.sql.errors import TypeMismatch
from engine.sql.expressions import Call, Expr, LambdaParameter
from engine.sql.parser.calls import FunctionCall
from engine.sql.types import BOOL, SqlType, list_of

if TYPE_CHECKING:
    from engine.sql.binder.expression import ExpressionBinder

_NAMES = ("array_transform", "map_filter")


def is_lambda_call(call: FunctionCall) -> bool:
    return call.name in _NAMES and len(call.arguments) == 2 and isinstance(call.arguments[1], exp.Lambda)


def bind_lambda_call(binder: ExpressionBinder, call: FunctionCall, node: exp.Expr) -> Expr:
    collection = binder.bind(call.arguments[0])
    function = call.arguments[1]
    assert isinstance(function, exp.Lambda)
    names = [parameter.name for parameter in function.expressions]
    if call.name == "map_filter":
        return _map_filter(binder, collection, names, function, node)
    if collection.type.element is None or len(names) != 1:
        raise TypeMismatch(
            f"array_transform takes an array and a lambda of one parameter, not {collection.type}", position=position_of(node)
        )
    (parameter,) = _parameters(binder, names, [collection.type.element])
    body = binder.known(_body(binder, dict(zip(names, [parameter], strict=True)), function))
    template = f"list_transform({{0}}, lambda {parameter.sql}: {{1}})"
    return Call(list_of(body.type), "array_transform", (collection, body), template)


def _map_filter(binder: ExpressionBinder, pairs: Expr, names: list[str], function: exp.Lambda, node: exp.Expr) -> Expr:
    if pairs.type.name != "map" or len(names) != 2:
        raise TypeMismatch(
            f"map_filter takes a map and a lambda of two parameters, not {pairs.type}", position=position_of(node)
        )
    parameters = _parameters(binder, names, [type_ for _, type_ in pairs.type.fields])
    condition = binder.coerce(_body(binder, dict(zip(names, parameters, strict=True)), function), BOOL)
    # One pair is the parameter of DuckDB's lambda; its parts get their names by a list of one.
    key, value = (parameter.sql for parameter in parameters)
    inner = f"list_transform([m_e.key], lambda {key}: list_transform([m_e.value], lambda {value}: {{1}})[1])[1]"
    return Call(pairs.type, "map_filter", (pairs, condition), f"list_filter({{0}}, lambda m_e: {inner})")


def _parameters(binder: ExpressionBinder, names: list[str], types: list[SqlType]) -> list[LambdaParameter]:
    first = len(binder.lambda_parameters)
    return [LambdaParameter(type_, f"l{first + i}_{name}") for i, (name, type_) in enumerate(zip(names, types, strict=True))]


def _body(binder: ExpressionBinder, parameters: dict[str, LambdaParameter], function: exp.Lambda) -> Expr:
    outer = binder.lambda_parameters
    binder.lambda_parameters = {**outer, **parameters}
    try:
        return binder.bind(function.this)
    finally:
        binder.lambda_parameters = outer
