"""The text forms of arrays and rows, read back into their parts.

Source: PostgreSQL documentation, 8.15.6 "Array Input and Output Syntax" and 8.16.6 "Composite Type Input and Output Syntax".
"""

from __future__ import annotations

_MAX_DEPTH = 6
"""PostgreSQL's own limit of array dimensions."""
_SPACE = " \t\n\v\f\r"
"""What PostgreSQL skips as white space: these, and nothing else that Unicode calls so."""


def parse_array(text: str) -> list[object]:
    """The elements of `{a,"b c",NULL,{d}}`: str, None or a list each.

    Raises:
        ValueError: the text is no array; the message says what is wrong.
    """
    at = 0
    text = text.strip(_SPACE)
    if not text.startswith("{"):
        raise ValueError("an array begins with `{`")
    elements, at = _array(text, at, 1)
    if at != len(text):
        raise ValueError("there is text after the closing `}`")
    return elements


def _array(text: str, at: int, depth: int) -> tuple[list[object], int]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"an array has at most {_MAX_DEPTH} dimensions")
    elements: list[object] = []
    at = _skip_space(text, at + 1)
    if text[at : at + 1] == "}":
        return elements, at + 1
    while True:
        at = _skip_space(text, at)
        first = text[at : at + 1]
        element: object
        if first == "{":
            element, at = _array(text, at, depth + 1)
        elif first == '"':
            element, at = _quoted(text, at)
        else:
            element, at = _bare(text, at, ",}", "{}")
            element = None if str(element).upper() == "NULL" else element
            if element == "":
                raise ValueError("an element is empty; write it as two quotes")
        elements.append(element)
        at = _skip_space(text, at)
        closing = text[at : at + 1]
        if closing == "}":
            return elements, at + 1
        if closing != ",":
            raise ValueError("elements are separated by `,` and the array ends with `}`")
        at += 1


def parse_row(text: str) -> list[str | None]:
    """The columns of `(a,,"b c")`; nothing between two commas is NULL.

    Raises:
        ValueError: the text is no row; the message says what is wrong.
    """
    text = text.strip(_SPACE)
    if not text.startswith("(") or not text.endswith(")"):
        raise ValueError("a row is written in parentheses")
    columns: list[str | None] = []
    at = 1
    while True:
        start, pieces = at, []
        while text[at : at + 1] not in (",", ")", ""):
            if text[at] == '"':
                piece, at = _quoted(text, at)
            else:
                piece, at = _bare(text, at, ',)"', "(", trim=False)
            pieces.append(piece)
        columns.append("".join(pieces) if at > start else None)
        if text[at : at + 1] == ")":
            if at + 1 != len(text):
                raise ValueError("there is text after the closing `)`")
            return columns
        if at >= len(text):
            raise ValueError("the row has no closing `)`")
        at += 1


def _quoted(text: str, at: int) -> tuple[str, int]:
    """A piece in double quotes, `\\x` or a doubled quote inside standing for itself; the position after it."""
    found: list[str] = []
    at += 1
    while at < len(text):
        character = text[at]
        if character == "\\" and at + 1 < len(text):
            found.append(text[at + 1])
            at += 2
        elif character == '"':
            if text[at + 1 : at + 2] != '"':
                return "".join(found), at + 1
            found.append('"')
            at += 2
        else:
            found.append(character)
            at += 1
    raise ValueError("a quoted element has no closing quote")


def _bare(text: str, at: int, ends: str, refused: str, *, trim: bool = True) -> tuple[str, int]:
    found: list[str] = []
    kept = 0
    while at < len(text) and text[at] not in ends:
        character = text[at]
        if character in refused:
            raise ValueError(f"`{character}` must be quoted here")
        if character == "\\" and at + 1 < len(text):
            found.append(text[at + 1])
            kept = len(found)
            at += 2
            continue
        found.append(character)
        kept = kept if character in _SPACE else len(found)
        at += 1
    return "".join(found[:kept] if trim else found), at


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
