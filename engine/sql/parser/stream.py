"""The tokens of one text with a cursor, and the errors that name a place in it."""

from __future__ import annotations

from typing import Final, TypeVar

from sqlglot import exp

from engine.sql.errors import SqlSyntaxError, UnsupportedQuery
from engine.sql.parser.keywords import NOT_A_BARE_LABEL, NOT_A_TABLE_ALIAS, RESERVED
from engine.sql.parser.tokens import Token, tokenize
from engine.sql.statements import ObjectName

Node = TypeVar("Node", bound=exp.Expression)

_TOO_MANY_PARTS: Final = "improper qualified name (too many dotted names): {name}"


def mark(node: Node, token: Token) -> Node:
    """Give a tree node the place of a token: `node.meta["position"]`, 1-based."""
    node.meta["position"] = token.position
    return node


class TokenStream:
    """A cursor over the tokens of one text."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._tokens = tokenize(sql)
        self._index = 0
        self._closing = _matching_parentheses(self._tokens)

    @property
    def current(self) -> Token:
        return self._tokens[self._index]

    @property
    def previous(self) -> Token:
        """The token read last; only valid after the first `advance`."""
        return self._tokens[self._index - 1]

    @property
    def at_end(self) -> bool:
        return self.current.kind == "end"

    @property
    def index(self) -> int:
        return self._index

    def rewind(self, index: int) -> None:
        """Go back to an `index` read earlier."""
        self._index = index

    def peek(self, ahead: int = 1) -> Token:
        return self._tokens[min(self._index + ahead, len(self._tokens) - 1)]

    def advance(self) -> Token:
        token = self.current
        if token.kind != "end":
            self._index += 1
        return token

    def at(self, *words: str) -> bool:
        """Whether the next tokens are these unquoted words."""
        return all(self._is_word(self.peek(ahead), word) for ahead, word in enumerate(words))

    def at_any(self, *words: str) -> bool:
        return self.current.kind == "word" and self.current.value in words

    def accept(self, *words: str) -> bool:
        """Read these words if they are next."""
        if not self.at(*words):
            return False
        self._index += len(words)
        return True

    def expect(self, *words: str) -> Token:
        """Read these words, or raise; returns the last of them."""
        for word in words:
            if not self.at(word):
                raise self.error()
            self._index += 1
        return self.previous

    def at_symbol(self, symbol: str, ahead: int = 0) -> bool:
        token = self.peek(ahead)
        return token.kind == "operator" and token.value == symbol

    def accept_symbol(self, symbol: str) -> bool:
        if not self.at_symbol(symbol):
            return False
        self._index += 1
        return True

    def expect_symbol(self, symbol: str) -> Token:
        if not self.at_symbol(symbol):
            raise self.error()
        return self.advance()

    def split_symbol(self) -> None:
        """Take the first character off the current symbol: `>>` closes two type brackets."""
        token = self.current
        rest = Token("operator", token.text[1:], token.value[1:], token.start + 1, token.end)
        self._tokens[self._index] = rest

    def closing(self, ahead: int = 0) -> Token | None:
        """The token after the parenthesis that closes the one at `ahead`, or None when it is never closed."""
        index = self._closing.get(self._index + ahead)
        return None if index is None else self._tokens[index + 1]

    def error(self, token: Token | None = None) -> SqlSyntaxError:
        """PostgreSQL's syntax error at a token, by default the next one."""
        token = token or self.current
        if token.kind == "end":
            return SqlSyntaxError("syntax error at end of input", position=token.position)
        return SqlSyntaxError(f'syntax error at or near "{token.text}"', position=token.position)

    def unsupported(self, what: str, *, fix: str, token: Token | None = None) -> UnsupportedQuery:
        return UnsupportedQuery(what, position=(token or self.current).position, fix=fix)

    def slice(self, first: Token) -> str:
        """The exact source from a token to the one read last."""
        return self.sql[first.start : self.previous.end]

    # Names

    def at_name(self) -> bool:
        token = self.current
        return token.kind == "quoted" or (token.kind == "word" and token.value not in RESERVED)

    def identifier(self) -> exp.Identifier:
        """A name that is no reserved word."""
        if not self.at_name():
            raise self.error()
        return _identifier(self.advance())

    def label(self) -> exp.Identifier:
        """A name after AS or a dot: any word."""
        if self.current.kind not in ("word", "quoted"):
            raise self.error()
        return _identifier(self.advance())

    def qualified_label(self) -> exp.Identifier:
        """The last part of a dotted name; any words."""
        name = self.label()
        while self.accept_symbol("."):
            name = self.label()
        return name

    def bare_label(self) -> exp.Identifier | None:
        """A column label without AS, if one is next."""
        token = self.current
        if token.kind == "quoted" or (token.kind == "word" and token.value not in NOT_A_BARE_LABEL):
            return _identifier(self.advance())
        return None

    def table_alias(self) -> exp.Identifier | None:
        """A table alias, with or without AS, if one is next."""
        if self.accept("as"):
            return self.identifier()
        token = self.current
        if token.kind == "word" and token.value == "asof" and self.peek().value in ("join", "inner", "left"):
            return None  # `a ASOF JOIN b`
        if token.kind == "quoted" or (token.kind == "word" and token.value not in NOT_A_TABLE_ALIAS):
            return _identifier(self.advance())
        return None

    def name(self) -> str:
        return self.identifier().name

    def object_name(self) -> ObjectName:
        """`[[database.]schema.]name`."""
        first = self.current
        parts = [self.name()]
        while self.accept_symbol("."):
            parts.append(self.label().name)
        if len(parts) > 3:
            raise SqlSyntaxError(_TOO_MANY_PARTS.format(name=".".join(parts)), position=first.position)
        database, schema, name = [None] * (3 - len(parts)) + parts
        assert name is not None
        return ObjectName(name, schema, database, first.position)

    def names_in_parentheses(self) -> tuple[str, ...]:
        self.expect_symbol("(")
        names = [self.name()]
        while self.accept_symbol(","):
            names.append(self.name())
        self.expect_symbol(")")
        return tuple(names)

    def string(self) -> str:
        if self.current.kind != "string":
            raise self.error()
        return self.advance().value

    @staticmethod
    def _is_word(token: Token, word: str) -> bool:
        return token.kind == "word" and token.value == word


def _identifier(token: Token) -> exp.Identifier:
    return mark(exp.Identifier(this=token.value, quoted=token.kind == "quoted"), token)


def _matching_parentheses(tokens: list[Token]) -> dict[int, int]:
    closing: dict[int, int] = {}
    opened: list[int] = []
    for index, token in enumerate(tokens):
        if token.kind != "operator":
            continue
        if token.value == "(":
            opened.append(index)
        elif token.value == ")" and opened:
            closing[opened.pop()] = index
    return closing
