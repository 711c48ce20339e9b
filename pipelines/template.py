"""Fills the few `${...}` that differ from place to place into SQL, and remembers where each character came from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import InvalidInputError

VARIABLES = ("KAFKA_BOOTSTRAP", "UDF_URL", "CATALOG_TYPE", "CATALOG_URI", "WAREHOUSE")

_PLACEHOLDER = re.compile(r"\$\{([^}\n]*)\}")
_LITERAL_OR_COMMENT = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|(?P<comment>--[^\n]*|/\*.*?\*/)", re.DOTALL)


@dataclass(frozen=True)
class Rendered:
    """SQL with everything filled in.

    Attributes:
        path: the file, as errors name it.
        source: the text of the file.
        text: the text to run.
        shifts: (start in `text`, end in `text`, start in `source`, end in `source`) of each placeholder, in order.
    """

    path: str
    source: str
    text: str
    shifts: tuple[tuple[int, int, int, int], ...] = ()

    def place(self, offset: int) -> str:
        """`file:line:column` in the source of the character at `offset` of the text, both counted from 1."""
        position = offset
        for start, end, source_start, source_end in self.shifts:
            if offset >= end:
                position = offset - end + source_end
            elif offset >= start:
                position = source_start
        before = self.source[:position]
        return f"{self.path}:{before.count(chr(10)) + 1}:{position - before.rfind(chr(10))}"


def render(path: str, source: str, variables: Mapping[str, str]) -> Rendered:
    """Fill in the placeholders, but for those in comments.

    Raises:
        InvalidInputError: a placeholder is none of `VARIABLES`, or has no value.
    """
    parts: list[str] = []
    shifts: list[tuple[int, int, int, int]] = []
    done = length = 0
    comments = [match.span() for match in _LITERAL_OR_COMMENT.finditer(source) if match.group("comment")]
    for match in _PLACEHOLDER.finditer(source):
        if any(start <= match.start() < end for start, end in comments):
            continue
        name = match.group(1)
        if name not in variables:
            place = Rendered(path, source, source).place(match.start())
            if name in VARIABLES:
                raise InvalidInputError(
                    f"`${{{name}}}` has no value", where=place, fix="`headrace config explain` shows the settings."
                )
            nearest = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.0)[0]
            raise InvalidInputError(
                f"unknown placeholder `${{{name}}}`",
                where=place,
                fix=f"Did you mean `${{{nearest}}}`? Known are {', '.join(VARIABLES)}.",
            )
        value = variables[name].replace("'", "''")  # placeholders stand inside string literals
        parts += [source[done : match.start()], value]
        length += match.start() - done
        shifts.append((length, length + len(value), match.start(), match.end()))
        length += len(value)
        done = match.end()
    parts.append(source[done:])
    return Rendered(path, source, "".join(parts), tuple(shifts))
