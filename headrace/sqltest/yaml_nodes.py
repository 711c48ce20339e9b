"""YAML as nodes that know their line, so that every complaint can name it.

Scalars are text here, whatever YAML would make of them: `no` is no boolean and `2026-01-01` no date until a column says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from core.errors import InvalidInputError
from headrace.sqltest.model import Place, shown

Node = yaml.Node


def compose(file: Path, text: str) -> Node:
    """The root node.

    Raises:
        InvalidInputError: this is no YAML, or nothing at all.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{shown(file)}:{mark.line + 1}:{mark.column + 1}" if mark else shown(file)
        what = getattr(error, "problem", None) or "it cannot be read"
        raise InvalidInputError(
            f"this is no YAML: {what}", where=where, fix="Rows and SQL stand in blocks: `key: |`, and below it indented lines."
        ) from error
    if root is None:
        raise InvalidInputError("the file is empty", where=shown(file), fix="Write at least `cases:`.")
    return root


class Reader:
    """Takes nodes of one file apart."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, node: Node) -> Place:
        return Place(self.path, node.start_mark.line + 1)

    def text_place(self, node: Node) -> Place:
        """Of the first line of a scalar's text: below the `|` of a block."""
        block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
        return Place(self.path, node.start_mark.line + (2 if block else 1))

    def bad(self, node: Node, what: str, fix: str | None = None) -> InvalidInputError:
        return InvalidInputError(what, where=str(self.place(node)), fix=fix)

    def mapping(self, node: Node, allowed: Collection[str] | None, what: str) -> dict[str, tuple[Node, Node]]:
        """Key to its own node and that of its value, in order.

        Raises:
            InvalidInputError: it is no mapping, or a key is unknown or there twice.
        """
        if not isinstance(node, yaml.MappingNode):
            raise self.bad(node, f"{what} must be a mapping (`key: value`)")
        found: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            name = self.text(key, "a key")
            if allowed is not None and name not in allowed:
                near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
                meant = f"Did you mean `{near[0]}`? " if near else ""
                raise self.bad(key, f"{what} has no `{name}`", f"{meant}There are {', '.join(f'`{a}`' for a in allowed)}.")
            if name in found:
                raise self.bad(key, f"`{name}` is there twice", "Put both into one.")
            found[name] = (key, value)
        return found

    def sequence(self, node: Node, what: str) -> list[Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self.bad(node, f"{what} must be a list (`- ...`)")
        return list(node.value)

    def text(self, node: Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self.bad(node, f"{what} must be text")
        if node.style == ">":
            raise self.bad(node, f"{what} is a folded block (`>`), which loses its lines", "Begin the block with `|`.")
        return str(node.value)

    def number(self, node: Node, what: str) -> float:
        try:
            return float(self.text(node, what))
        except ValueError:
            raise self.bad(node, f"{what} is no number") from None

    def flag(self, node: Node, what: str) -> bool:
        text = self.text(node, what)
        if text not in ("true", "false"):
            raise self.bad(node, f"{what} is neither `true` nor `false`")
        return text == "true"

    def plain(self, node: Node) -> Any:  # Any: what YAML makes of it
        """The value as YAML has it; for what has no SQL type yet."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(node, deep=True)
        finally:
            loader.dispose()
