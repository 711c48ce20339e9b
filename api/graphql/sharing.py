"""Executes and encodes each frame once for all clients that ask the same of it.

A channel hands one frame to every client's queue. What GraphQL makes of the frame depends on the query's text and not on
the client, as long as no variable is used below the root field: so the first client's result, and its JSON text, are
kept with the frame for the others. Frames that were folded for a slow client are its own and are executed for it.

A result that needed waiting (a field with a look-up of its own) is not shared: it may be read anew for each client.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import lru_cache
from typing import Any

from graphql import (
    ExecutionResult,
    FieldNode,
    OperationDefinitionNode,
    Visitor,
    parse,
    visit,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from api.live.frames import Frame


class SharedData(dict[str, Any]):  # Any: JSON
    """The `data` of a result that several clients are sent; encoded when the first of them is."""

    _text: str | None = None

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = encode(dict(self))
        return self._text


def encode(value: object) -> str:
    """JSON as it is sent."""
    return json.dumps(value, separators=(",", ":"))


def encode_message(message: object) -> str:
    """Encode a message of a socket, with data that is shared taken as it is."""
    if isinstance(message, dict) and message.get("type") == "next" and message["payload"].keys() == {"data"}:
        data = message["payload"]["data"]
        if isinstance(data, SharedData):
            return f'{{"id":{encode(message["id"])},"type":"next","payload":{{"data":{data.text}}}}}'
    return encode(message)


class SharingExecutor(StrawberryGraphQLCoreExecutionContext):
    """Keeps the result of a frame with the frame."""

    _question: Hashable | None = None
    _question_known = False

    def build_per_event_executor(self, payload: Any) -> Any:  # Any: as graphql-core declares them
        if not self._question_known:
            self._question = question_of(self.operation)
            self._question_known = True
        return super().build_per_event_executor(payload)

    def execute_operation(self, serially: bool | None = None) -> Any:  # Any: as graphql-core declares it
        frame = getattr(self.root_value, "frame", None)
        if self._question is None or not isinstance(frame, Frame):
            return super().execute_operation(serially)
        known = frame.memo.get(self._question)
        if known is not None:
            return known
        result = super().execute_operation(serially)
        if isinstance(result, ExecutionResult) and result.data is not None and not result.errors:
            result = ExecutionResult(SharedData(result.data), None)
            frame.memo[self._question] = result
        return result


def question_of(operation: OperationDefinitionNode) -> Hashable | None:
    """What makes two operations the same question of a frame, or None if the answer depends on more than the text."""
    if operation.loc is None or len(operation.selection_set.selections) != 1:
        return None
    root = operation.selection_set.selections[0]
    if not isinstance(root, FieldNode) or root.directives:
        return None
    text = operation.loc.source.body
    at_root = frozenset(argument.loc.start for argument in root.arguments or () if argument.loc)
    if _needs_variables_below(text, at_root):
        return None
    return text, operation.name.value if operation.name else None


@lru_cache(maxsize=256)
def _needs_variables_below(text: str, root_arguments: frozenset[int]) -> bool:
    """Whether a variable is used anywhere but in the root field's arguments, which begin at those characters."""
    finder = _VariableFinder(root_arguments)
    visit(parse(text), finder)
    return finder.found


class _VariableFinder(Visitor):
    def __init__(self, skipped_arguments: frozenset[int]) -> None:
        super().__init__()
        self._skipped_arguments = skipped_arguments
        self.found = False

    def enter_variable_definition(self, *_: Any) -> bool:
        return False  # names of variables, no uses

    def enter_argument(self, node: Any, *_: Any) -> bool | None:
        return False if node.loc is not None and node.loc.start in self._skipped_arguments else None

    def enter_variable(self, *_: Any) -> None:
        self.found = True
