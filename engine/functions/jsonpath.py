"""SQL/JSON path: `$.a[*] ? (@.b > 1 && exists(@.c)).size()`, lax mode.

A small recursive-descent reader that evaluates as it reads a tree of closures: each takes the items in hand and gives the items
after the step. Left out: `datetime()`.

Source: PostgreSQL documentation, 9.16.2 "The SQL/JSON Path Language"; RisingWave documentation, "JSON functions and operators".
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from engine.functions.native import ValueFault, native
from engine.functions.registry import FunctionTable

Items = list[Any]  # JSON values
Step = Callable[[Items, Any], Items]
"""From the root (in a list) and the current item of a filter to items."""

_TOKEN = re.compile(
    r'\s*(?:("(?:[^"\\]|\\.)*")|(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(\$[A-Za-z_]\w*|\$|@|\?|\.\*\*|&&|\|\||==|!=|<>|<=|>=|[.\[\]()*,<>!+\-/%])|([A-Za-z_][\w]*))'
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b), "!=": lambda a, b: bool(a != b), "<>": lambda a, b: bool(a != b), "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b), ">": lambda a, b: bool(a > b), ">=": lambda a, b: bool(a >= b),
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b, "%": lambda a, b: a % b,
}  # fmt: skip


class _Reader:
    def __init__(self, text: str, variables: str | None = None) -> None:
        self._text = text
        self._variables: Any = json.loads(variables) if variables is not None else {}
        self._strict = False
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise self.wrong()
            self._tokens.append(found[0].strip())
            at = found.end()
        self._at = 0

    def wrong(self) -> ValueFault:
        return ValueFault("42601", f'syntax error in jsonpath: "{self._text}"')

    @property
    def next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, token: str = "") -> str:
        taken = self.next
        if not taken or (token and taken != token):
            raise self.wrong()
        self._at += 1
        return taken

    def accept(self, *tokens: str) -> str:
        return self.take() if self.next in tokens else ""

    def path(self) -> Step:
        self._strict = self.accept("lax", "strict") == "strict"
        step = self.either()
        if self.next:
            raise self.wrong()
        return step

    def either(self) -> Step:
        left = self.both()
        while self.accept("||"):
            left = _logic(left, self.both(), any)
        return left

    def both(self) -> Step:
        left = self.negated()
        while self.accept("&&"):
            left = _logic(left, self.negated(), all)
        return left

    def negated(self) -> Step:
        if self.accept("!"):
            inner = self.negated()
            return lambda root, item: [not _true(inner(root, item))]
        return self.comparison()

    def comparison(self) -> Step:
        if self.accept("exists"):
            self.take("(")
            inner = self.either()
            self.take(")")
            return lambda root, item: [bool(inner(root, item))]
        left = self.sum()
        sign = self.accept(*_COMPARE)
        if sign:
            right = self.sum()
            return lambda root, item: [_compare(sign, left(root, item), right(root, item))]
        if self.accept("starts"):
            self.take("with")
            prefix = json.loads(self.take())
            return lambda root, item: [any(isinstance(x, str) and x.startswith(prefix) for x in left(root, item))]
        if self.accept("like_regex"):
            source = json.loads(self.take())
            flags = json.loads(self.take()) if self.accept("flag") else ""
            pattern = re.compile(source, sum({"i": re.IGNORECASE, "s": re.DOTALL, "m": re.MULTILINE}.get(f, 0) for f in flags))
            return lambda root, item: [any(isinstance(x, str) and pattern.search(x) is not None for x in left(root, item))]
        return left

    def sum(self) -> Step:
        left = self.product()
        while sign := self.accept("+", "-"):
            left = _arithmetic(sign, left, self.product())
        return left

    def product(self) -> Step:
        left = self.unary()
        while sign := self.accept("*", "/", "%"):
            left = _arithmetic(sign, left, self.unary())
        return left

    def unary(self) -> Step:
        if self.accept("-"):
            inner = self.unary()
            return lambda root, item: [-x for x in inner(root, item)]
        step = self.primary()
        while self.next in (".", "[", "?", ".**"):
            step = _then(step, self.accessor())
        return step

    def primary(self) -> Step:
        if self.accept("$"):
            return lambda root, _item: list(root)
        if self.accept("@"):
            return lambda _root, item: [item]
        if self.accept("("):
            inner = self.either()
            self.take(")")
            return inner
        token = self.take()
        if token.startswith("$"):
            return self.variable(token[1:])
        if token[0] not in '"0123456789' and token not in ("true", "false", "null"):
            raise self.wrong()
        constant = json.loads(token)
        return lambda _root, _item: [constant]

    def variable(self, name: str) -> Step:
        if not isinstance(self._variables, dict) or name not in self._variables:
            raise ValueFault("42704", f'could not find jsonpath variable "{name}"')
        value = self._variables[name]
        return lambda _root, _item: [value]

    def accessor(self) -> Step:
        if self.accept("?"):
            self.take("(")
            condition = self.either()
            self.take(")")
            return lambda items, root: [x for x in _unwrap(items) if _true(condition(root, x))]
        if self.accept(".**"):
            return lambda items, _root: [found for x in items for found in _descend(x)]
        if self.accept("["):
            return self.subscripts()
        self.take(".")
        if self.accept("*"):
            return lambda items, _root: [v for x in _unwrap(items) if isinstance(x, dict) for v in x.values()]
        token = self.take()
        name = json.loads(token) if token.startswith('"') else token
        if self.accept("("):
            self.take(")")
            return _method(name, self.wrong())
        if self._strict:
            return lambda items, _root: [_member(x, name) for x in items]
        return lambda items, _root: [x[name] for x in _unwrap(items) if isinstance(x, dict) and name in x]

    def subscripts(self) -> Step:
        if self.accept("*"):
            self.take("]")
            return lambda items, _root: [v for x in items for v in (x if isinstance(x, list) else [x])]
        ranges: list[tuple[Callable[[int], int], Callable[[int], int]]] = []
        while True:
            first = self.position()
            ranges.append((first, self.position() if self.accept("to") else first))
            if not self.accept(","):
                break
        self.take("]")

        def step(items: Items, _root: Any) -> Items:
            out: Items = []
            for x in items:
                values = x if isinstance(x, list) else [x]
                for low, high in ranges:
                    out += values[max(low(len(values)), 0) : high(len(values)) + 1]
            return out

        return step

    def position(self) -> Callable[[int], int]:
        if self.accept("last"):
            back = int(self.take()) if self.accept("-") else 0
            return lambda size: size - 1 - back
        number = self.take()
        if not number.isdigit():
            raise self.wrong()
        return lambda _size: int(number)


def _then(first: Step, second: Step) -> Step:
    """An accessor gets the items before it, and the root for filters."""
    return lambda root, item: second(first(root, item), root)


def _unwrap(items: Items) -> Items:
    """Lax mode: an array stands for its elements."""
    return [v for x in items for v in (x if isinstance(x, list) else [x])]


def _member(value: Any, name: str) -> Any:
    """Strict mode: what is not there is an error."""
    if not isinstance(value, dict):
        raise ValueFault("2203A", "jsonpath member accessor can only be applied to an object")
    if name not in value:
        raise ValueFault("2203A", f'JSON object does not contain key "{name}"')
    return value[name]


def _descend(value: Any) -> Items:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(found for child in children for found in _descend(child))]


def _logic(left: Step, right: Step, both: Callable[[list[bool]], bool]) -> Step:
    return lambda root, item: [both([_true(left(root, item)), _true(right(root, item))])]


def _true(items: Items) -> bool:
    return items == [True] and items[0] is True


def _compare(sign: str, left: Items, right: Items) -> bool:
    for a in _unwrap(left):
        for b in _unwrap(right):
            same_kind = _kind(a) == _kind(b)
            if (
                same_kind
                and (sign in ("==", "!=", "<>") or _kind(a) in ("number", "string", "boolean"))
                and _COMPARE[sign](a, b)
            ):
                return True
            if not same_kind and (a is None or b is None) and sign in ("!=", "<>"):
                return True
    return False


def _arithmetic(sign: str, left: Step, right: Step) -> Step:
    def step(root: Items, item: Any) -> Items:
        a, b = left(root, item), right(root, item)
        if len(a) != 1 or len(b) != 1 or _kind(a[0]) != "number" or _kind(b[0]) != "number":
            raise ValueFault("22038", f"an operand of jsonpath operator {sign} is not a single numeric value")
        if sign in "/%" and b[0] == 0:
            raise ValueFault("22012", "division by zero")
        return [_ARITHMETIC[sign](a[0], b[0])]

    return step


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _method(name: str, wrong: ValueFault) -> Step:
    if name == "type":
        return lambda items, _root: [_kind(x) for x in items]
    if name == "size":
        return lambda items, _root: [len(x) if isinstance(x, list) else 1 for x in items]
    if name == "double":
        return lambda items, _root: [float(x) for x in _unwrap(items)]
    if name in ("ceiling", "floor", "abs"):
        change: Callable[[Any], Any] = {"ceiling": lambda x: -(-x // 1), "floor": lambda x: x // 1, "abs": abs}[name]
        return lambda items, _root: [change(x) for x in _unwrap(items)]
    if name == "keyvalue":
        return lambda items, _root: [{"id": 0, "key": k, "value": v} for x in _unwrap(items) for k, v in x.items()]
    raise wrong


@functools.lru_cache(maxsize=256)
def _compiled(path: str, variables: str | None) -> Step:
    return _Reader(path, variables).path()


def find(document: str, path: str, variables: str | None = None, silent: bool = False) -> Items | None:
    """The items that a path finds in a JSON text; None where a fault of the data is kept silent."""
    step = _compiled(path, variables)
    try:
        return step([json.loads(document)], None)
    except ValueFault:
        if silent:
            return None
        raise


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@native("hr_json_path_exists", "VARCHAR", "VARCHAR", "VARCHAR", "BOOLEAN", returns="BOOLEAN", nulls=True)
def _exists(document: str | None, path: str | None, variables: str | None, silent: bool) -> bool | None:
    if document is None or path is None:
        return None
    items = find(document, path, variables, silent)
    return None if items is None else bool(items)


@native("hr_json_path_match", "VARCHAR", "VARCHAR", "VARCHAR", "BOOLEAN", returns="BOOLEAN", nulls=True)
def _match(document: str | None, path: str | None, variables: str | None, silent: bool) -> bool | None:
    if document is None or path is None:
        return None
    items = find(document, path, variables, silent)
    if items is None or (len(items) == 1 and items[0] is None):
        return None
    if len(items) != 1 or not isinstance(items[0], bool):
        if silent:
            return None
        raise ValueFault("22038", "single boolean result is expected")
    return items[0]


@native("hr_json_path_list", "VARCHAR", "VARCHAR", "VARCHAR", "BOOLEAN", returns="VARCHAR[]", nulls=True)
def _list(document: str | None, path: str | None, variables: str | None, silent: bool) -> list[str] | None:
    if document is None or path is None:
        return None
    return [_text(item) for item in find(document, path, variables, silent) or []]


def declare(t: FunctionTable) -> None:
    for types, variables, silent in (
        ("", "NULL", "false"),
        (", jsonb", "CAST({2} AS VARCHAR)", "false"),
        (", jsonb, bool", "CAST({2} AS VARCHAR)", "{3}"),
    ):
        call = f"(CAST({{0}} AS VARCHAR), {{1}}, {variables}, {silent})"
        t.add("jsonb_path_exists", f"jsonb, varchar{types} -> bool", f"hr_json_path_exists{call}")
        t.add("jsonb_path_match", f"jsonb, varchar{types} -> bool", f"hr_json_path_match{call}")
        array = f"hr_json_path_list{call}"
        t.add("jsonb_path_query_array", f"jsonb, varchar{types} -> jsonb", f"CAST(hr_json_array({array}) AS JSON)")
        t.add("jsonb_path_query_first", f"jsonb, varchar{types} -> jsonb", f"CAST(hr_json_path_list{call}[1] AS JSON)")
    # The operators keep faults of the data to themselves.
    for name, function in (("@?", "exists"), ("@@", "match")):
        t.add(name, "jsonb, varchar -> bool", f"hr_json_path_{function}(CAST({{0}} AS VARCHAR), {{1}}, NULL, true)")
