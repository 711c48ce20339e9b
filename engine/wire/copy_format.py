"""What the options of COPY mean.

Source: PostgreSQL documentation, COPY, "Parameters" and "File Formats".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engine.sql.errors import InvalidParameter, UnsupportedQuery

_KNOWN = frozenset({"format", "delimiter", "null", "header", "quote", "escape", "encoding", "csv", "binary"})
_YES = frozenset({"true", "on", "1", ""})
_NO = frozenset({"false", "off", "0"})


@dataclass(frozen=True)
class CopyFormat:
    """How rows are written in the data of a COPY.

    Attributes:
        kind: text, csv or binary.
        delimiter: between columns, one character.
        null: the text that stands for NULL (unquoted, in csv).
        header: the first line holds column names.
        quote: csv only; a quote inside a value is doubled.
    """

    kind: Literal["text", "csv", "binary"] = "text"
    delimiter: str = "\t"
    null: str = "\\N"
    header: bool = False
    quote: str = '"'

    @property
    def code(self) -> int:
        """Format code of CopyInResponse and CopyOutResponse."""
        return 1 if self.kind == "binary" else 0


def copy_format(options: Mapping[str, str]) -> CopyFormat:
    """The format that the options (any case) ask for.

    Raises:
        InvalidParameter: an option or its value is unknown, or contradicts another.
        UnsupportedQuery: PostgreSQL knows it, and we do not.
    """
    given = {name.lower(): value for name, value in options.items()}
    for name in given.keys() - _KNOWN:
        raise InvalidParameter(f"option `{name}` of COPY not recognized", fix=f"Use one of {', '.join(sorted(_KNOWN))}.")
    kind = given.get("format", "csv" if "csv" in given else "binary" if "binary" in given else "text").lower()
    if given.get("encoding", "utf8").lower().replace("-", "") not in ("utf8", "unicode"):
        raise UnsupportedQuery(f"COPY reads and writes UTF-8 only, not `{given['encoding']}`", fix="Convert the data first.")
    if kind == "binary":
        if given.keys() & {"delimiter", "null", "header", "quote", "escape"}:
            raise InvalidParameter("COPY in binary takes no delimiter, null, header, quote or escape")
        return CopyFormat("binary")
    if kind not in ("text", "csv"):
        raise InvalidParameter(f"COPY format `{kind}` not recognized", fix="Use text, csv or binary.")
    if kind == "text" and given.keys() & {"quote", "escape"}:
        raise InvalidParameter("COPY quote and escape are options of csv")
    csv = kind == "csv"
    found = CopyFormat(
        "csv" if csv else "text",
        _one_byte(given, "delimiter", "," if csv else "\t"),
        given.get("null", "" if csv else "\\N"),
        _boolean(given),
        _one_byte(given, "quote", '"'),
    )
    if _one_byte(given, "escape", found.quote) != found.quote:
        raise UnsupportedQuery("COPY with an escape other than the quote", fix="Double the quotes inside values.")
    if (
        found.delimiter in ("\r", "\n", "\\")
        or "\n" in found.null
        or "\r" in found.null
        or (csv and found.delimiter == found.quote)
    ):
        raise InvalidParameter("COPY delimiter, null and quote must differ and cannot be a line end")
    return found


def _one_byte(given: Mapping[str, str], name: str, default: str) -> str:
    value = given.get(name, default)
    if len(value.encode()) != 1:
        raise InvalidParameter(f"COPY {name} must be a single one-byte character, not `{value}`")
    return value


def _boolean(given: Mapping[str, str]) -> bool:
    value = given.get("header", "false").lower()
    if value not in _YES | _NO:
        raise InvalidParameter(f"COPY header must be true or false, not `{value}`")
    return value in _YES
