"""Consumer groups when members fall silent, with a clock that moves when told."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from kio.schema.errors import ErrorCode

from broker.coordinators.groups import Groups, Joined, JoinRequest, MemberIdRequired
from broker.refusal import Refusal
from core.fakes.clock import ManualClock


def request(
    member_id: str = "", instance_id: str | None = None, protocols: tuple[str, ...] = ("range",), **change: object
) -> JoinRequest:
    fields: dict[str, object] = {
        "group_id": "g",
        "member_id": member_id,
        "instance_id": instance_id,
        "client_id": "c",
        "session_seconds": 10.0,
        "rebalance_seconds": 30.0,
        "protocol_type": "consumer",
        "protocols": dict.fromkeys(protocols, b"m"),
        "needs_id_first": False,
        **change,
    }
    return JoinRequest(**fields)  # type: ignore[arg-type]  # built from a dict to keep the tests short


async def stable(groups: Groups, *joining: JoinRequest) -> list[Joined]:
    """Let members join together and share out."""
    answers = await asyncio.gather(*(groups.join(item) for item in joining))
    newest = max(answer.generation for answer in answers)
    answers = [answer if answer.generation == newest else await groups.join(request(answer.member_id)) for answer in answers]
    leader = next(answer for answer in answers if answer.member_id == answer.leader)
    shares = {member_id: member_id.encode() for member_id, _, _ in leader.members}
    waiting = [
        asyncio.ensure_future(groups.sync("g", answer.generation, answer.member_id, None, shares if answer is leader else {}))
        for answer in answers
    ]
    for answer, share in zip(answers, await asyncio.gather(*waiting), strict=True):
        assert share.assignment == answer.member_id.encode()
    return answers


async def test_a_silent_member_is_removed_and_the_other_told_to_join_again() -> None:
    clock = ManualClock()
    groups = Groups(clock)
    (first,) = await stable(groups, request())
    joining = asyncio.ensure_future(groups.join(request()))
    await asyncio.sleep(0)
    again = asyncio.ensure_future(groups.join(request(first.member_id)))
    leader, second = await again, await joining
    assert {leader.generation, second.generation} == {2}
    shares = {leader.member_id: b"1", second.member_id: b"2"}
    await groups.sync("g", 2, leader.member_id, None, shares)
    clock.advance(timedelta(seconds=9))
    groups.heartbeat("g", 2, leader.member_id, None)
    clock.advance(timedelta(seconds=2))
    groups.expire()
    with pytest.raises(Refusal) as told:
        groups.heartbeat("g", 2, leader.member_id, None)
    assert told.value.code is ErrorCode.rebalance_in_progress
    with pytest.raises(Refusal) as gone:
        groups.heartbeat("g", 2, second.member_id, None)
    assert gone.value.code is ErrorCode.unknown_member_id
    alone = await groups.join(request(leader.member_id))
    assert [member_id for member_id, _, _ in alone.members] == [leader.member_id]


async def test_who_does_not_join_again_in_time_is_left_behind() -> None:
    groups = Groups(ManualClock())
    (first,) = await stable(groups, request(rebalance_seconds=0.05))
    second = await asyncio.wait_for(groups.join(request(rebalance_seconds=0.05)), 5)
    assert [member_id for member_id, _, _ in second.members] == [second.member_id]
    assert first.member_id != second.member_id


async def test_a_first_join_gets_an_id_which_is_forgotten_when_unused() -> None:
    clock = ManualClock()
    groups = Groups(clock)
    with pytest.raises(MemberIdRequired) as answer:
        await groups.join(request(needs_id_first=True))
    assert groups.get("g") is not None
    clock.advance(timedelta(seconds=11))
    groups.expire()
    assert groups.get("g") is None
    with pytest.raises(Refusal) as unknown:
        await groups.join(request(answer.value.member_id, needs_id_first=True))
    assert unknown.value.code is ErrorCode.unknown_member_id


async def test_a_static_member_replaces_its_former_self() -> None:
    groups = Groups(ManualClock())
    (first,) = await stable(groups, request(instance_id="i"))
    second = await groups.join(request(instance_id="i"))
    assert [member_id for member_id, _, _ in second.members] == [second.member_id]
    with pytest.raises(Refusal) as fenced:
        groups.heartbeat("g", first.generation, first.member_id, "i")
    assert fenced.value.code is ErrorCode.fenced_instance_id


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request(group_id=""), ErrorCode.invalid_group_id),
        (request(session_seconds=0.1), ErrorCode.invalid_session_timeout),
        (request(protocols=()), ErrorCode.inconsistent_group_protocol),
        (request(member_id="stranger"), ErrorCode.unknown_member_id),
    ],
)
async def test_a_wrong_join_is_refused_and_leaves_no_group(asked: JoinRequest, code: ErrorCode) -> None:
    groups = Groups(ManualClock())
    with pytest.raises(Refusal) as refused:
        await groups.join(asked)
    assert refused.value.code is code
    assert list(groups.all()) == []


async def test_the_protocol_is_one_that_all_know() -> None:
    groups = Groups(ManualClock())
    (first,) = await stable(groups, request(protocols=("range", "sticky")))
    with pytest.raises(Refusal) as refused:
        await groups.join(request(protocols=("other",)))
    assert refused.value.code is ErrorCode.inconsistent_group_protocol
    joining = asyncio.ensure_future(groups.join(request(protocols=("sticky",))))
    await asyncio.sleep(0)
    answer = await groups.join(request(first.member_id, protocols=("range", "sticky")))
    assert answer.protocol == (await joining).protocol == "sticky"


async def test_closing_sends_everybody_away() -> None:
    groups = Groups(ManualClock())
    await stable(groups, request())
    joining = asyncio.ensure_future(groups.join(request()))
    await asyncio.sleep(0)
    groups.close()
    with pytest.raises(Refusal) as sent_away:
        await joining
    assert sent_away.value.code is ErrorCode.coordinator_not_available
