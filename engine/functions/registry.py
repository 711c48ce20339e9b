"""Built-in functions: a name, argument types, a result type and a DuckDB template, found as PostgreSQL finds them.

A signature is written as text, `"varchar, int4 -> varchar"`. A type name ending in `...` may repeat. `any` stands for every
type, `anytext` for every type, turned into its text, `anyelement` and `anyarray` for one element type and its list; the result
may use the same words.

Source of the resolution rules: PostgreSQL documentation, chapter 10 (type conversion).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.functions.casts import can_cast_implicitly, common_type
from engine.sql.errors import UndefinedFunction
from engine.sql.types import INT256, SCALARS, UNKNOWN, VARCHAR, SqlType, list_of

_BY_NAME = {type_.name: type_ for type_ in (*SCALARS, INT256)}
_ANY = SqlType("any")
_ANYELEMENT = SqlType("anyelement")
_ANYARRAY = SqlType("anyarray")
_POLYMORPHIC = {"any": _ANY, "anyelement": _ANYELEMENT, "anyarray": _ANYARRAY}
_ANYTEXT = SqlType("anytext")
_ANYSTRUCT = SqlType("anystruct")
_POLYMORPHIC |= {"anytext": _ANYTEXT, "anystruct": _ANYSTRUCT}
_PREFERRED = frozenset({"float8", "timestamptz", "interval"})
"""Of several types of one category that fit, the one that is taken."""
Template = str | Callable[[tuple[SqlType, ...]], str]
"""DuckDB SQL with one `{i}` an argument, or a function that writes it for the actual argument types."""


@dataclass(frozen=True)
class Function:
    """One overload."""

    name: str
    args: tuple[SqlType, ...]
    variadic: bool
    returns: SqlType
    template: str
    volatile: bool = False
    write: Callable[[tuple[SqlType, ...]], str] | None = None
    """Writes the template once the argument types are known; then `template` is empty."""


@dataclass(frozen=True)
class Resolved:
    """An overload applied to actual argument types: cast the arguments to `args`, then fill the template."""

    function: Function
    args: tuple[SqlType, ...]
    returns: SqlType


class FunctionTable:
    """All overloads by name."""

    def __init__(self) -> None:
        self._overloads: dict[str, list[Function]] = {}

    def add(self, name: str, signature: str, template: Template, *, volatile: bool = False) -> None:
        arguments, _, returns = signature.partition("->")
        names = [part.strip() for part in arguments.split(",") if part.strip()]
        variadic = bool(names) and names[-1].endswith("...")
        args = tuple(_parse_type(part.removesuffix("...")) for part in names)
        text, write = (template, None) if isinstance(template, str) else ("", template)
        function = Function(name, args, variadic, _parse_type(returns.strip()), text, volatile, write)
        self._overloads.setdefault(name, []).append(function)

    def __contains__(self, name: str) -> bool:
        return name in self._overloads

    def names(self) -> list[str]:
        return sorted(self._overloads)

    def signatures(self) -> dict[str, list[str]]:
        """How each function may be called, by name: `substr(character varying, integer) -> character varying`."""
        return {name: [f"{_show(f)} -> {_shown(f.returns)}" for f in self._overloads[name]] for name in self.names()}

    def resolve(self, name: str, types: list[SqlType], position: int | None = None) -> Resolved:
        """Choose the overload for these argument types.

        Raises:
            UndefinedFunction: no overload takes them.
        """
        types = self._as_the_other_side(name, types)
        best: tuple[tuple[int, int, int, int, int], Resolved] | None = None
        for order, function in enumerate(self._overloads.get(name, [])):
            resolved = _match(function, types)
            if resolved is None:
                continue
            pairs = list(zip(types, resolved.args, strict=True))
            # Most exact matches, then most preferred types where a cast is needed, then the nearest types.
            exact = sum(a == b for a, b in pairs)
            preferred = sum(a != b and a != UNKNOWN and b.name in _PREFERRED for a, b in pairs)
            # A text constant is read as an array only where nothing else fits.
            guessed = sum(a == UNKNOWN and b.name == "list" for a, b in pairs)
            cost = (guessed, -exact, -preferred, sum(_cast_cost(a, b) for a, b in pairs), order)
            if best is None or cost < best[0]:
                best = (cost, resolved)
        if best is None:
            shown = ", ".join(type_.sql for type_ in types)
            fix = f"Known: {', '.join(_show(f) for f in self._overloads[name])}." if name in self._overloads else None
            raise UndefinedFunction(f"function `{name}({shown})` does not exist", position=position, fix=fix)
        resolved = best[1]
        if resolved.function.write is not None:
            written = replace(resolved.function, template=resolved.function.write(resolved.args), write=None)
            return replace(resolved, function=written)
        return resolved

    def _as_the_other_side(self, name: str, types: list[SqlType]) -> list[SqlType]:
        """A constant without a type beside an operator is taken for what stands on the other side, if the operator has that."""
        if name[0].isalnum() or len(types) != 2 or types.count(UNKNOWN) != 1:
            return types
        known = types[0] if types[1] == UNKNOWN else types[1]
        return [known, known] if any(f.args == (known, known) for f in self._overloads.get(name, ())) else types


def _parse_type(name: str) -> SqlType:
    if name in _POLYMORPHIC:
        return _POLYMORPHIC[name]
    if name.endswith("[]"):
        return list_of(_parse_type(name[:-2]))
    return _BY_NAME[name]


def _match(function: Function, types: list[SqlType]) -> Resolved | None:
    formal = list(function.args)
    if function.variadic:
        if len(types) < len(formal) - 1:
            return None
        formal = formal[:-1] + [formal[-1]] * (len(types) - len(formal) + 1)
    if len(formal) != len(types):
        return None
    element: SqlType | None = None
    elements = [actual for want, actual in zip(formal, types, strict=True) if want == _ANYELEMENT]
    for want, actual in zip(formal, types, strict=True):
        if want == _ANYARRAY and actual != UNKNOWN:
            if actual.name != "list" or actual.element is None:
                return None
            elements.append(actual.element)
    if elements:
        element = common_type(elements)
        if element is None:
            return None
    args: list[SqlType] = []
    for want, actual in zip(formal, types, strict=True):
        target = _substitute(want, element, actual)
        if want == _ANYSTRUCT and actual.name != "struct":
            return None
        if want != _ANYTEXT and not can_cast_implicitly(actual, target):
            return None
        args.append(target)
    returns = _substitute(function.returns, element, args[0] if args else VARCHAR)
    return Resolved(function, tuple(args), returns)


def _substitute(type_: SqlType, element: SqlType | None, actual: SqlType) -> SqlType:
    if type_ == _ANYTEXT:
        return VARCHAR
    if type_ in (_ANY, _ANYSTRUCT):
        return VARCHAR if actual == UNKNOWN else actual
    if type_ == _ANYELEMENT:
        return element or VARCHAR
    if type_ == _ANYARRAY:
        return list_of(element or VARCHAR)
    return type_


def _cast_cost(actual: SqlType, target: SqlType) -> int:
    if actual == target:
        return 0
    if actual == UNKNOWN:
        return 1 if target == VARCHAR else 2 if target.name in _PREFERRED else 3
    if actual.is_numeric and target.is_numeric:
        # PostgreSQL prefers float8 among floats, and the nearest wider integer otherwise.
        return 1 + target.rank - actual.rank
    return 10


def _show(function: Function) -> str:
    args = [_shown(type_) for type_ in function.args]
    if function.variadic and args:
        args[-1] += " ..."
    return f"{function.name}({', '.join(args)})"


def _shown(type_: SqlType) -> str:
    return type_.name if type_.name in _POLYMORPHIC else type_.sql
