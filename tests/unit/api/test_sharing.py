"""A frame is executed once for all who ask the same, and never for somebody who asks something else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.graphql.context import Context
from api.graphql.predictions import PredictionFrame
from api.graphql.sharing import SharedData, encode_message
from api.identity.identity import Identity
from api.live.changes import Position
from api.live.frames import Frame, fold
from api.schema import build_schema
from core.ids import TenantId
from core.settings import Settings
from tests.unit.api.doubles import NOWHERE, authenticator_of

ROW = dict.fromkeys(("pipeline", "endpoint", "entity_id", "feature_start", "feature_end", "features", "route_epoch", "label")) | {
    "prediction_id": "p1", "tenant_id": "acme", "score": 0.5, "members": None, "error": None,
}  # fmt: skip


class _Hub:
    """Gives every subscriber the same frames."""

    def __init__(self, *frames: Frame) -> None:
        self.frames = frames

    def subscribe(self, *_: object, **__: object) -> _Subscription:
        return _Subscription(self.frames)


class _Subscription:
    def __init__(self, frames: tuple[Frame, ...]) -> None:
        self._frames = frames

    async def __aiter__(self) -> AsyncIterator[Frame]:
        for frame in self._frames:
            yield frame

    def close(self) -> None:
        pass


class _Services:
    def __init__(self, hub: _Hub) -> None:
        self.prediction_hub = hub
        self.authenticator = AUTHENTICATOR


AUTHENTICATOR = authenticator_of(Settings(database_url=f"postgresql://root@{NOWHERE}/dev"))
IDENTITY = Identity(TenantId("acme"), "viewer", "development")


def _frame(seq: int = 1) -> Frame:
    return Frame(seq=seq, cursor=Position(1, seq), total=1, rows=(ROW,))


async def _ask(hub: _Hub, text: str, **variables: object) -> list[Any]:
    context = Context(_Services(hub), IDENTITY)  # type: ignore[arg-type]  # what the resolver reaches of them
    results = await SCHEMA.stream(text, variable_values=variables, context_value=context)
    collected = []
    async for result in results:
        assert result.errors is None, result.errors
        collected.append(result.data)
    return collected


SCHEMA = build_schema()
TEXT = "subscription($after: Cursor, $n: Int! = 4) { predictions(after: $after, buffer: $n) { seq rows { id score } } }"


async def test_clients_that_ask_the_same_share_the_result_and_its_text() -> None:
    hub = _Hub(_frame(1), _frame(2))
    first = await _ask(hub, TEXT, n=1)
    second = await _ask(hub, TEXT, n=2)  # a variable of the root field makes no difference to a frame
    assert first == second == [{"predictions": {"seq": seq, "rows": [{"id": "p1", "score": 0.5}]}} for seq in (1, 2)]
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, True]
    assert all(isinstance(data, SharedData) for data in first)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("subscription { predictions { seq } }", {"predictions": {"seq": 1}}),
        ("subscription { alias: predictions { seq } }", {"alias": {"seq": 1}}),
        ("subscription { predictions { number: seq rows { ...F } } } fragment F on Prediction { tenant }",
         {"predictions": {"number": 1, "rows": [{"tenant": "acme"}]}}),
        ("subscription { predictions { number: seq rows { ...F } } } fragment F on Prediction { id }",
         {"predictions": {"number": 1, "rows": [{"id": "p1"}]}}),
    ],
)  # fmt: skip
async def test_another_question_gets_its_own_answer(other: str, expected: dict[str, Any]) -> None:
    hub = _Hub(_frame())
    await _ask(hub, TEXT)
    await _ask(hub, "subscription { predictions { number: seq rows { ...F } } } fragment F on Prediction { score }")
    assert await _ask(hub, other) == [expected]


async def test_operations_of_one_document_are_told_apart() -> None:
    hub = _Hub(_frame())
    text = "subscription A { predictions { seq } } subscription B { predictions { total } }"
    context = Context(_Services(hub), IDENTITY)  # type: ignore[arg-type]  # what the resolver reaches of them
    found = {}
    for name in ("A", "B"):
        async for result in await SCHEMA.stream(text, context_value=context, operation_name=name):
            found[name] = result.data
    assert found == {"A": {"predictions": {"seq": 1}}, "B": {"predictions": {"total": 1}}}


async def test_a_variable_below_the_root_is_never_shared() -> None:
    hub = _Hub(_frame())
    text = "subscription($rows: Boolean!) { predictions { seq rows @include(if: $rows) { id } } }"
    assert await _ask(hub, text, rows=True) == [{"predictions": {"seq": 1, "rows": [{"id": "p1"}]}}]
    assert await _ask(hub, text, rows=False) == [{"predictions": {"seq": 1}}]


async def test_a_variable_in_a_fragment_is_never_shared() -> None:
    hub = _Hub(_frame())
    text = "subscription($rows: Boolean!) { predictions { seq ...F } } fragment F on PredictionFrame { rows @include(if: $rows) { id } }"
    assert await _ask(hub, text, rows=False) == [{"predictions": {"seq": 1}}]
    assert await _ask(hub, text, rows=True) == [{"predictions": {"seq": 1, "rows": [{"id": "p1"}]}}]


def test_a_folded_frame_begins_without_what_was_made_of_its_parts() -> None:
    older, newer = _frame(1), _frame(2)
    PredictionFrame.of(newer)
    folded = fold(older, newer, keep_rows=True)
    assert newer.memo
    assert not folded.memo
    assert PredictionFrame.of(folded).total == 2


def test_a_shared_message_reads_the_same_as_any_other() -> None:
    data = {"predictions": {"seq": 1, "label": 'a "quoted" ü'}}
    for payload in ({"data": SharedData(data)}, {"data": data}, {"data": SharedData(data), "errors": []}):
        for id_ in ("1", 'with "quotes"'):
            message = {"id": id_, "type": "next", "payload": payload}
            assert json.loads(encode_message(message)) == message
    assert json.loads(encode_message({"type": "pong"})) == {"type": "pong"}
