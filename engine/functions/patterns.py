"""LIKE, SIMILAR TO and regular expressions.

Regular expressions are read by Python's `re`, whose syntax covers what RisingWave's engine has in common with PostgreSQL's.

Source: RisingWave documentation, "String functions and operators", regexp_*; PostgreSQL documentation, 9.7.
"""

from __future__ import annotations

import functools
import re

from engine.functions.native import ValueFault, native
from engine.functions.registry import FunctionTable

_CLASSES = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s", "word": r"\w",
    "xdigit": "0-9a-fA-F", "punct": r"!-/:-@\[-`{-~", "blank": r" \t",
}  # fmt: skip
_BACK = re.compile(r"\\(\d|&|\\)")


@functools.lru_cache(maxsize=256)
def compile_pattern(pattern: str, flags: str = "") -> re.Pattern[str]:
    """Raises ValueFault: 2201B, it is no regular expression; 22023, a flag is unknown."""
    options = re.NOFLAG
    for flag in flags:
        if flag == "i":
            options |= re.IGNORECASE
        elif flag == "n" or flag == "m":
            options |= re.MULTILINE
        elif flag == "s":
            options |= re.DOTALL
        elif flag == "x":
            options |= re.VERBOSE
        elif flag not in "cg":
            raise ValueFault("22023", f'invalid regular expression option: "{flag}"')
    text = re.sub(r"\[:(\w+):\]", lambda found: _CLASSES.get(found[1], found[0]), pattern)
    text = re.sub(r"\(\?<(\w+)>", r"(?P<\1>", text)
    try:
        return re.compile(text, options)
    except re.error as error:
        raise ValueFault("2201B", f"invalid regular expression: {error}") from error


@native("hr_regexp_like", "VARCHAR", "VARCHAR", "VARCHAR", returns="BOOLEAN")
def _like(text: str, pattern: str, flags: str) -> bool:
    return compile_pattern(pattern, flags).search(text) is not None


@native("hr_regexp_match", "VARCHAR", "VARCHAR", "VARCHAR", returns="VARCHAR[]")
def _match(text: str, pattern: str, flags: str) -> list[str | None] | None:
    if "g" in flags:
        raise ValueFault("22023", "regexp_match() does not support the global option", "Use regexp_matches instead.")
    found = compile_pattern(pattern, flags).search(text)
    if found is None:
        return None
    return list(found.groups()) if found.re.groups else [found[0]]


@native("hr_regexp_matches", "VARCHAR", "VARCHAR", "VARCHAR", returns="VARCHAR[][]")
def _matches(text: str, pattern: str, flags: str) -> list[list[str | None]]:
    """The captured groups of every match, as if the flag `g` always stood there; without groups the whole match."""
    found = compile_pattern(pattern, flags).finditer(text)
    return [list(one.groups()) if one.re.groups else [one[0]] for one in found]


@native("hr_regexp_substr", "VARCHAR", "VARCHAR", returns="VARCHAR")
def _substr(text: str, pattern: str) -> str | None:
    found = compile_pattern(pattern).search(text)
    return None if found is None else found[1] if found.re.groups else found[0]


@native("hr_regexp_count", "VARCHAR", "VARCHAR", "INTEGER", "VARCHAR", returns="BIGINT")
def _count(text: str, pattern: str, start: int, flags: str) -> int:
    if start < 1:
        raise ValueFault("22023", f"invalid value for parameter start: {start}")
    return sum(1 for _ in compile_pattern(pattern, flags).finditer(text[start - 1 :]))


@native("hr_regexp_split", "VARCHAR", "VARCHAR", "VARCHAR", returns="VARCHAR[]")
def _split(text: str, pattern: str, flags: str) -> list[str]:
    parts, at = [], 0
    for found in compile_pattern(pattern, flags).finditer(text):
        if found.start() == found.end() and found.start() in (0, len(text)):
            continue
        parts.append(text[at : found.start()])
        at = found.end()
    return [*parts, text[at:]]


@native("hr_regexp_replace", "VARCHAR", "VARCHAR", "VARCHAR", "INTEGER", "INTEGER", "VARCHAR", returns="VARCHAR")
def _replace(text: str, pattern: str, new: str, start: int, number: int, flags: str) -> str:
    """`number`: which match is replaced, 0 for all."""
    if start < 1 or number < 0:
        raise ValueFault(
            "22023", f"invalid value for parameter {'start' if start < 1 else 'n'}: {start if start < 1 else number}"
        )
    head, tail = text[: start - 1], text[start - 1 :]
    count = 0

    def fill(found: re.Match[str]) -> str:
        nonlocal count
        count += 1
        if number and count != number:
            return found[0]
        return _BACK.sub(lambda back: _reference(found, back[1]), new)

    return head + compile_pattern(pattern, flags).sub(fill, tail)


def _reference(found: re.Match[str], name: str) -> str:
    if name == "\\":
        return "\\"
    if name == "&":
        return found[0]
    return (found[int(name)] or "") if int(name) <= found.re.groups else ""


@native("hr_ends_open", "VARCHAR", "VARCHAR", returns="BOOLEAN")
def _ends_open(pattern: str, escape: str) -> bool:
    """Whether the pattern ends in an escape character that escapes nothing."""
    return (len(pattern) - len(pattern.rstrip(escape))) % 2 == 1


@native("hr_similar", "VARCHAR", "VARCHAR", "VARCHAR", returns="BOOLEAN")
def _similar(text: str, pattern: str, escape: str) -> bool:
    return re.fullmatch(_similar_pattern(pattern, escape), text, re.DOTALL) is not None


@functools.lru_cache(maxsize=256)
def _similar_pattern(pattern: str, escape: str) -> str:
    out, quoted, bracket = [], False, False
    for character in pattern:
        if quoted:
            out.append(re.escape(character))
            quoted = False
        elif escape and character == escape:
            quoted = True
        elif bracket or character == "[":
            bracket = character != "]"
            out.append(character)
        elif character in "%_":
            out.append(".*" if character == "%" else ".")
        elif character in "|*+?{}()":
            out.append(character)
        else:
            out.append(re.escape(character))
    return "".join(out)


def declare(t: FunctionTable) -> None:
    # DuckDB's own error about such a pattern could not be caught.
    fault = "CAST(hr_fail('22025', 'LIKE pattern must not end with escape character') AS BOOLEAN)"
    for name in ("like", "ilike"):
        matched = f"({{0}} {name.upper()} {{1}} ESCAPE"
        open_end = "suffix({1}, '\\') AND hr_ends_open({1}, '\\')"
        t.add(name, "varchar, varchar -> bool", f"(CASE WHEN {open_end} THEN {fault} ELSE {matched} '\\') END)")
        open_end = "length({2}) > 1 OR (length({2}) = 1 AND suffix({1}, {2}) AND hr_ends_open({1}, {2}))"
        t.add(name, "varchar, varchar, varchar -> bool", f"(CASE WHEN {open_end} THEN {fault} ELSE {matched} {{2}}) END)")
    t.add("like", "bytea, bytea -> bool", "(hex({0}) LIKE hex({1}))")
    t.add("similar to", "varchar, varchar -> bool", "hr_similar({0}, {1}, '\\')")
    t.add("similar to", "varchar, varchar, varchar -> bool", "hr_similar({0}, {1}, {2})")
    t.add("~", "varchar, varchar -> bool", "hr_regexp_like({0}, {1}, '')")
    t.add("~*", "varchar, varchar -> bool", "hr_regexp_like({0}, {1}, 'i')")
    t.add("regexp_like", "varchar, varchar -> bool", "hr_regexp_like({0}, {1}, '')")
    t.add("regexp_like", "varchar, varchar, varchar -> bool", "hr_regexp_like({0}, {1}, {2})")
    t.add("regexp_match", "varchar, varchar -> varchar[]", "hr_regexp_match({0}, {1}, '')")
    t.add("regexp_match", "varchar, varchar, varchar -> varchar[]", "hr_regexp_match({0}, {1}, {2})")
    t.add("regexp_substr", "varchar, varchar -> varchar", "hr_regexp_substr({0}, {1})")
    for arity, extra in ((2, "1, ''"), (3, "{2}, ''"), (4, "{2}, {3}")):
        types = ("varchar", "varchar", "int4", "varchar")[:arity]
        t.add("regexp_count", f"{', '.join(types)} -> int8", f"hr_regexp_count({{0}}, {{1}}, {extra})")
    t.add("regexp_split_to_array", "varchar, varchar -> varchar[]", "hr_regexp_split({0}, {1}, '')")
    t.add("regexp_split_to_array", "varchar, varchar, varchar -> varchar[]", "hr_regexp_split({0}, {1}, {2})")
    three = "varchar, varchar, varchar"
    first = "hr_regexp_replace({0}, {1}, {2}"
    t.add("regexp_replace", f"{three} -> varchar", f"{first}, 1, 1, '')")
    t.add(
        "regexp_replace",
        f"{three}, varchar -> varchar",
        f"{first}, 1, CASE WHEN contains({{3}}, 'g') THEN 0 ELSE 1 END, {{3}})",
    )
    t.add("regexp_replace", f"{three}, int4 -> varchar", f"{first}, {{3}}, 1, '')")
    t.add("regexp_replace", f"{three}, int4, int4 -> varchar", f"{first}, {{3}}, {{4}}, '')")
    t.add("regexp_replace", f"{three}, int4, int4, varchar -> varchar", f"{first}, {{3}}, {{4}}, {{5}})")
    t.add(
        "regexp_replace",
        f"{three}, int4, varchar -> varchar",
        f"{first}, {{3}}, CASE WHEN contains({{4}}, 'g') THEN 0 ELSE 1 END, {{4}})",
    )
