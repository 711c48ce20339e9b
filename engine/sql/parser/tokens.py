"""Text to tokens, by PostgreSQL's lexical rules, each token with its place.

sqlglot's tokenizer is not used: it swallows the rest of a statement after EXPLAIN, SHOW or FETCH, reads `($1,$2)` as the
start of a dollar-quoted string, and keeps no reliable character offsets.

Source: PostgreSQL documentation, section 4.1 "Lexical Structure".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from engine.sql.errors import SqlError, SqlSyntaxError, UnsupportedQuery

Kind = Literal["word", "quoted", "string", "number", "parameter", "operator", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: `word` is an unquoted identifier or key word, `quoted` a double-quoted identifier.
        text: the source text.
        value: a word folded to lower case, an identifier or string without quotes and escapes, a number in decimal digits, a
            parameter's number, an operator's text.
        start, end: 0-based character offsets, end exclusive.
    """

    kind: Kind
    text: str
    value: str
    start: int
    end: int

    @property
    def position(self) -> int:
        """1-based character position, as PostgreSQL reports it."""
        return self.start + 1


OPERATORS: Final = (
    "!~~*", "->>", "#>>", "!~~", "!~*", "~~*", "||/", "<->", "<=>", "<#>",
    "::", ":=", "=>", "<=", ">=", "<>", "!=", "->", "#>", "#-", "?|", "?&", "@>", "<@", "@?", "@@", "&&", "||", "|/", "<<", ">>",
    "~~", "~*", "!~", "^@",
    "+", "-", "*", "/", "%", "^", "<", ">", "=", "~", "@", "#", "&", "|", "?",
    "(", ")", "[", "]", "{", "}", ",", ";", ":", ".",
)  # fmt: skip

_SCANNER = re.compile(
    r"(?P<space>\s+|--[^\r\n]*)"
    r"|(?P<comment>/\*)"
    r"|(?P<escape_string>[eE]')"
    r"|(?P<unicode>[uU]&['\"])"
    r"|(?P<bits>[bBxX]')"
    r"|(?P<string>')"
    r"|(?P<quoted>\")"
    r"|(?P<dollar>\$(?:[^\W\d]\w*)?\$)"
    r"|(?P<parameter>\$[0-9]+)"
    r"|(?P<radix>0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0[oO][0-7]+(?:_[0-7]+)*|0[bB][01]+(?:_[01]+)*)"
    r"|(?P<number>(?:[0-9]+(?:_[0-9]+)*(?:\.(?!\.)(?:[0-9]+(?:_[0-9]+)*)?)?|\.[0-9]+(?:_[0-9]+)*)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<word>[^\W\d][\w$]*)"
    r"|(?P<operator>" + "|".join(re.escape(text) for text in OPERATORS) + r")"
)
_STANDARD_STRING = re.compile(r"(?:[^']|'')*'")
_ESCAPE_STRING = re.compile(r"(?:[^'\\]|''|\\.)*'", re.DOTALL)
_QUOTED_IDENTIFIER = re.compile(r'(?:[^"]|"")*"')
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|''", re.DOTALL)
_UNICODE_ESCAPE = re.compile(r"\\(?:\+([0-9a-fA-F]{6})|([0-9a-fA-F]{4})|(\\))")
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UPPER_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_NEAR_LIMIT = 60


def fold(name: str) -> str:
    """An unquoted identifier as PostgreSQL folds it: ASCII letters only."""
    return name.translate(_UPPER_TO_LOWER)


def tokenize(sql: str) -> list[Token]:
    """Split a text into tokens; the last one is always the `end` token.

    Raises:
        SqlSyntaxError: an unterminated string, identifier or comment, or a character that starts no token.
    """
    tokens: list[Token] = []
    place, length = 0, len(sql)
    while place < length:
        match = _SCANNER.match(sql, place)
        if match is None:
            raise _near("syntax error", sql, place, place + 1)
        kind, end = match.lastgroup, match.end()
        if kind == "space":
            place = end
            continue
        if kind == "comment":
            place = _skip_comment(sql, place)
            continue
        token = _token(sql, kind or "", place, end)
        previous = tokens[-1] if tokens else None
        if token.kind == "string" and previous is not None and previous.kind == "string" and "\n" in sql[previous.end : place]:
            # Two literals with a line break between them are one literal (SQL standard).
            merged = previous.value + token.value
            tokens[-1] = Token("string", sql[previous.start : token.end], merged, previous.start, token.end)
        else:
            tokens.append(token)
        place = token.end
    tokens.append(Token("end", "", "", length, length))
    return tokens


def _token(sql: str, kind: str, start: int, end: int) -> Token:
    text = sql[start:end]
    if kind == "word":
        return Token("word", text, fold(text), start, end)
    if kind == "operator":
        return Token("operator", text, text, start, end)
    if kind == "parameter":
        return Token("parameter", text, text[1:], start, end)
    if kind in ("number", "radix"):
        return _number(sql, kind, start, end)
    if kind == "string":
        end = _end(_STANDARD_STRING, sql, end, start, "unterminated quoted string")
        return Token("string", sql[start:end], sql[start + 1 : end - 1].replace("''", "'"), start, end)
    if kind == "escape_string":
        end = _end(_ESCAPE_STRING, sql, end, start, "unterminated quoted string")
        return Token("string", sql[start:end], _unescape(sql[start + 2 : end - 1], start), start, end)
    if kind == "quoted":
        end = _end(_QUOTED_IDENTIFIER, sql, end, start, "unterminated quoted identifier")
        if end - start == 2:
            raise _near("zero-length delimited identifier", sql, start, end)
        return Token("quoted", sql[start:end], sql[start + 1 : end - 1].replace('""', '"'), start, end)
    if kind == "dollar":
        close = sql.find(text, end)
        if close < 0:
            raise _near("unterminated dollar-quoted string", sql, start, len(sql))
        return Token("string", sql[start : close + len(text)], sql[end:close], start, close + len(text))
    if kind == "unicode":
        return _unicode(sql, start, end)
    raise UnsupportedQuery(
        f"bit and hexadecimal string literals such as `{text}...` are not supported",
        position=start + 1,
        fix=r"Write bytes as '\x...'::bytea and integers as 0x... or 0b...",
    )


def _number(sql: str, kind: str, start: int, end: int) -> Token:
    if end < len(sql) and (sql[end] == "_" or sql[end].isalpha()):
        junk = re.compile(r"\w*").match(sql, end)
        raise _near("trailing junk after numeric literal", sql, start, junk.end() if junk else end)
    text = sql[start:end].replace("_", "")
    return Token("number", sql[start:end], str(int(text, 0)) if kind == "radix" else text, start, end)


def _unicode(sql: str, start: int, end: int) -> Token:
    """`U&'...'` and `U&"..."`, with the standard escape character only."""
    is_string = sql[end - 1] == "'"
    pattern, what = (_STANDARD_STRING, "string") if is_string else (_QUOTED_IDENTIFIER, "identifier")
    end = _end(pattern, sql, end, start, f"unterminated quoted {what}")
    body = sql[start + 3 : end - 1]
    body = body.replace("''", "'") if is_string else body.replace('""', '"')

    def character(match: re.Match[str]) -> str:
        return "\\" if match[3] else _character(int(match[1] or match[2], 16), start)

    value = _UNICODE_ESCAPE.sub(character, body)
    return Token("string" if is_string else "quoted", sql[start:end], value, start, end)


def _unescape(body: str, start: int) -> str:
    """The value of an `E'...'` literal; octal and hexadecimal escapes are bytes of UTF-8."""
    parts: list[bytes] = []
    place = 0
    for match in _ESCAPE.finditer(body):
        parts.append(body[place : match.start()].encode("utf-8", "surrogatepass"))
        octal, hexadecimal, short, long, other = match.groups()
        if octal or hexadecimal:
            parts.append(bytes([int(octal, 8) & 0xFF if octal else int(hexadecimal, 16)]))
        elif short or long:
            parts.append(_character(int(short or long, 16), start).encode("utf-8", "surrogatepass"))
        else:
            parts.append((_CONTROL.get(other, other) if other else "'").encode("utf-8", "surrogatepass"))
        place = match.end()
    parts.append(body[place:].encode("utf-8", "surrogatepass"))
    try:
        # Two escaped halves of a UTF-16 pair are one character.
        text = b"".join(parts).decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeError as error:
        raise SqlError('invalid byte sequence for encoding "UTF8"', position=start + 1, sqlstate="22021") from error
    if "\x00" in text:
        raise SqlError('invalid byte sequence for encoding "UTF8": 0x00', position=start + 1, sqlstate="22021")
    return text


def _character(code: int, start: int) -> str:
    if code == 0 or code > 0x10FFFF:
        raise SqlSyntaxError("invalid Unicode escape value", position=start + 1)
    return chr(code)


def _skip_comment(sql: str, start: int) -> int:
    """The offset after a block comment; they nest."""
    depth, place = 0, start
    for match in re.compile(r"/\*|\*/").finditer(sql, start):
        depth += 1 if match[0] == "/*" else -1
        place = match.end()
        if depth == 0:
            return place
    raise _near("unterminated /* comment", sql, start, len(sql))


def _end(pattern: re.Pattern[str], sql: str, body: int, start: int, what: str) -> int:
    match = pattern.match(sql, body)
    if match is None:
        raise _near(what, sql, start, len(sql))
    return match.end()


def _near(what: str, sql: str, start: int, end: int) -> SqlSyntaxError:
    near = sql[start:end]
    if len(near) > _NEAR_LIMIT:
        near = near[:_NEAR_LIMIT] + "..."
    return SqlSyntaxError(f'{what} at or near "{near}"', position=start + 1)
