"""Gathers lines until a statement is whole: it ends with `;` outside of quotes, comments and dollar quotes."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?P<tag>\$[A-Za-z_]*\$).*?(?P=tag)|--[^\n]*|/\*.*?\*/|(?P<end>;)|(?P<open>['"]|\$[A-Za-z_]*\$|/\*)|.""",
    re.DOTALL,
)


class Gatherer:
    """Takes lines and gives whole statements."""

    def __init__(self) -> None:
        self._text = ""

    @property
    def waiting(self) -> bool:
        """Whether a statement was begun and not ended."""
        return bool(self._text.strip())

    def add(self, line: str) -> list[str]:
        """The statements that this line completes."""
        self._text += line if line.endswith("\n") else line + "\n"
        done, begin = [], 0
        for token in _TOKEN.finditer(self._text):
            if token["open"]:
                break  # the rest is inside something that has not ended yet
            if token["end"]:
                done.append(self._text[begin : token.start()].strip())
                begin = token.end()
        self._text = self._text[begin:]
        return [statement for statement in done if statement]

    def rest(self) -> str:
        """What is left at the end of the input; it is run although no `;` ends it."""
        text, self._text = self._text.strip(), ""
        return text

    def forget(self) -> None:
        self._text = ""
