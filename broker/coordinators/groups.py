"""Consumer groups, the classic protocol: members agree on a generation, one of them shares out the partitions.

```
 empty --join--> preparing --all have joined--> completing --leader has sent the shares--> stable
                     ^------------- a member joins, leaves, changes or falls silent -------------'
```
Membership lives in memory: after a restart every member is told that it is unknown, joins again, and goes on at the
committed offset. The broker does not look into the members' metadata and shares.

Source: KIP-62, KIP-345 (static members), KIP-394 (a member id before the first join).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from kio.schema.errors import ErrorCode

from broker.refusal import Refusal
from core.clock import Clock

logger = logging.getLogger(__name__)

State = Literal["Empty", "PreparingRebalance", "CompletingRebalance", "Stable"]
# Kafka's group.min.session.timeout.ms and group.max.session.timeout.ms.
MIN_SESSION_SECONDS, MAX_SESSION_SECONDS = 6.0, 1800.0


class Joined(NamedTuple):
    """The answer to a join; `members` is filled for the leader only: member id, instance id, metadata."""

    generation: int
    protocol_type: str
    protocol: str
    leader: str
    member_id: str
    members: list[tuple[str, str | None, bytes]]


class Share(NamedTuple):
    """The answer to a sync."""

    protocol_type: str
    protocol: str
    assignment: bytes


@dataclass(slots=True)
class Member:
    """One client of a group. While `joining` or `syncing` is set it waits for us, so silence is no fault."""

    member_id: str
    client_id: str
    instance_id: str | None
    session_seconds: float
    rebalance_seconds: float
    protocols: dict[str, bytes]
    assignment: bytes = b""
    deadline: float = 0.0
    joining: asyncio.Future[Joined] | None = None
    syncing: asyncio.Future[Share] | None = None


@dataclass(slots=True)
class Group:
    """A group while it has members."""

    group_id: str
    state: State = "Empty"
    generation: int = 0
    protocol_type: str = ""
    protocol: str = ""
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    announced: dict[str, float] = field(default_factory=dict)  # ids we gave out for a first join, until when
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What a member says when it joins; times in seconds."""

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    session_seconds: float
    rebalance_seconds: float
    protocol_type: str
    protocols: Mapping[str, bytes]
    needs_id_first: bool


class MemberIdRequired(Refusal):
    """A first join without an id: the client shall come again with `member_id` (KIP-394)."""

    def __init__(self, member_id: str) -> None:
        super().__init__(ErrorCode.member_id_required, f"join again as `{member_id}`")
        self.member_id = member_id


class Groups:
    """All groups with members. Used from the event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._groups: dict[str, Group] = {}
        self._closed = False

    def get(self, group_id: str) -> Group | None:
        return self._groups.get(group_id)

    def all(self) -> Iterable[Group]:
        return list(self._groups.values())

    # -- what members ask for

    async def join(self, request: JoinRequest) -> Joined:
        """Take part in the next generation, or be told of this one; waits for the others.

        Raises:
            Refusal: invalid_group_id, invalid_session_timeout, inconsistent_group_protocol, unknown_member_id,
                fenced_instance_id, coordinator_not_available (the broker stops); MemberIdRequired.
        """
        _check_join(request, self._closed)
        group = self._groups.get(request.group_id) or Group(request.group_id)
        _check_protocols(group, request)
        member = self._member_for(group, request)
        same = member.protocols == request.protocols
        member.protocols, member.client_id = dict(request.protocols), request.client_id
        member.session_seconds, member.rebalance_seconds = request.session_seconds, request.rebalance_seconds
        if same and (group.state == "CompletingRebalance" or (group.state == "Stable" and member.member_id != group.leader)):
            # It has missed our answer. A leader that joins again when all is stable wants to share out anew.
            self._touch(member)
            return _joined(group, member)
        if member.joining is not None and not member.joining.done():
            member.joining.cancel()  # the client has asked again on another connection
        member.joining = asyncio.get_running_loop().create_future()
        waiting = member.joining
        self._rebalance(group)
        return await waiting

    async def sync(
        self, group_id: str, generation: int, member_id: str, instance_id: str | None, shares: Mapping[str, bytes]
    ) -> Share:
        """Bring (the leader) or wait for (the others) the shares of a generation.

        Raises:
            Refusal: unknown_member_id, illegal_generation, fenced_instance_id, rebalance_in_progress.
        """
        group, member = self._must_get(group_id, generation, member_id, instance_id)
        self._touch(member)
        if group.state == "PreparingRebalance":
            raise Refusal(ErrorCode.rebalance_in_progress, f"group `{group_id}` is gathering its next generation")
        if group.state == "Stable":
            return Share(group.protocol_type, group.protocol, member.assignment)
        if member_id == group.leader:
            for other in group.members.values():
                other.assignment = shares.get(other.member_id, b"")
            group.state = "Stable"
            for other in group.members.values():
                if other.syncing is not None and not other.syncing.done():
                    other.syncing.set_result(Share(group.protocol_type, group.protocol, other.assignment))
                other.syncing = None
                self._touch(other)
            return Share(group.protocol_type, group.protocol, member.assignment)
        member.syncing = asyncio.get_running_loop().create_future()
        return await member.syncing

    def heartbeat(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> None:
        """Say that a member lives.

        Raises:
            Refusal: as `sync`; rebalance_in_progress tells it to join again.
        """
        group, member = self._must_get(group_id, generation, member_id, instance_id)
        self._touch(member)
        if group.state == "PreparingRebalance":
            raise Refusal(ErrorCode.rebalance_in_progress, f"group `{group_id}` is gathering its next generation")

    def leave(self, group_id: str, member_id: str, instance_id: str | None) -> None:
        """Leave at once, without waiting for the session to end.

        Raises:
            Refusal: unknown_member_id.
        """
        group = self._groups.get(group_id)
        if group is not None and not member_id and instance_id is not None:
            member_id = next((m.member_id for m in group.members.values() if m.instance_id == instance_id), "")
        if group is not None and member_id in group.announced:
            group.announced.pop(member_id, None)
            self._drop_if_empty(group)
        elif group is None or member_id not in group.members:
            raise Refusal(ErrorCode.unknown_member_id, f"group `{group_id}` has no member `{member_id}`")
        else:
            self._remove(group, group.members[member_id], "left")

    def check_commit(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> None:
        """Say whether offsets may be committed: by a member of the generation, or by anybody while the group has no members.

        Raises:
            Refusal: as `sync`.
        """
        group = self._groups.get(group_id)
        if generation < 0 and (group is None or not group.members):
            return
        group, member = self._must_get(group_id, generation, member_id, instance_id)
        self._touch(member)
        if group.state == "CompletingRebalance":
            raise Refusal(ErrorCode.rebalance_in_progress, f"group `{group_id}` is sharing out its partitions")

    # -- time

    def expire(self) -> None:
        """Remove members that were silent for longer than their session."""
        now = self._clock.monotonic_seconds()
        for group in list(self._groups.values()):
            for member_id in [member_id for member_id, until in group.announced.items() if now > until]:
                del group.announced[member_id]
            self._drop_if_empty(group)
            for member in list(group.members.values()):
                if member.joining is None and member.syncing is None and now > member.deadline:
                    self._remove(group, member, "was silent")

    def close(self) -> None:
        """Send everybody away who waits; they find the next broker by themselves."""
        self._closed = True
        refusal = Refusal(ErrorCode.coordinator_not_available, "the broker stops")
        for group in self._groups.values():
            if group.timer is not None:
                group.timer.cancel()
            for member in group.members.values():
                for waiting in (member.joining, member.syncing):
                    if waiting is not None and not waiting.done():
                        waiting.set_exception(refusal)

    # -- steps

    def _member_for(self, group: Group, request: JoinRequest) -> Member:
        """Find the member that asks, or make it."""
        known = next((m for m in group.members.values() if m.instance_id and m.instance_id == request.instance_id), None)
        if request.member_id in group.members:
            member = group.members[request.member_id]
            if known is not None and known is not member:
                raise Refusal(ErrorCode.fenced_instance_id, f"`{request.instance_id}` is another member by now")
            return member
        if known is not None:
            if request.member_id:
                raise Refusal(ErrorCode.fenced_instance_id, f"`{request.instance_id}` is another member by now")
            self._remove(group, known, "was replaced by its next start")
        elif request.member_id and request.member_id not in group.announced:
            raise Refusal(ErrorCode.unknown_member_id, f"group `{group.group_id}` has no member `{request.member_id}`")
        member_id = request.member_id or f"{request.instance_id or request.client_id or 'member'}-{uuid.uuid4()}"
        if not request.member_id and request.needs_id_first and request.instance_id is None:
            group.announced[member_id] = self._clock.monotonic_seconds() + request.session_seconds
            self._groups[group.group_id] = group
            raise MemberIdRequired(member_id)
        group.announced.pop(member_id, None)
        self._groups[group.group_id] = group
        group.protocol_type = request.protocol_type
        member = Member(
            member_id, request.client_id, request.instance_id, request.session_seconds, request.rebalance_seconds, {}
        )
        group.members[member_id] = member
        return member

    def _rebalance(self, group: Group) -> None:
        """Begin to gather the next generation, or see whether it is complete."""
        if group.state != "PreparingRebalance":
            group.state = "PreparingRebalance"
            for member in group.members.values():
                if member.syncing is not None and not member.syncing.done():
                    member.syncing.set_exception(
                        Refusal(ErrorCode.rebalance_in_progress, f"group `{group.group_id}` is gathering its next generation")
                    )
                member.syncing = None
                self._touch(member)
            longest = max((member.rebalance_seconds for member in group.members.values()), default=0.0)
            group.timer = asyncio.get_running_loop().call_later(longest, self._complete, group)
        if all(member.joining is not None for member in group.members.values()):
            self._complete(group)

    def _complete(self, group: Group) -> None:
        """Begin the generation with those who have joined."""
        if group.timer is not None:
            group.timer.cancel()
            group.timer = None
        for member in [member for member in group.members.values() if member.joining is None]:
            logger.info("group member did not join in time", extra={"group": group.group_id, "member": member.member_id})
            del group.members[member.member_id]
        if not group.members:
            group.state = "Empty"
            self._drop_if_empty(group)
            return
        group.generation += 1
        group.state = "CompletingRebalance"
        group.protocol = _vote(group)
        if group.leader not in group.members:
            group.leader = next(iter(group.members))
        logger.info(
            "group generation", extra={"group": group.group_id, "generation": group.generation, "members": len(group.members)}
        )
        for member in group.members.values():
            waiting, member.joining = member.joining, None
            member.assignment = b""
            self._touch(member)
            if waiting is not None and not waiting.done():
                waiting.set_result(_joined(group, member))

    def _remove(self, group: Group, member: Member, why: str) -> None:
        logger.info("group member removed", extra={"group": group.group_id, "member": member.member_id, "why": why})
        del group.members[member.member_id]
        for waiting in (member.joining, member.syncing):
            if waiting is not None and not waiting.done():
                waiting.set_exception(Refusal(ErrorCode.unknown_member_id, f"`{member.member_id}` {why}"))
        if group.members:
            self._rebalance(group)
            return
        if group.timer is not None:
            group.timer.cancel()
            group.timer = None
        group.state, group.leader = "Empty", ""
        self._drop_if_empty(group)

    def _drop_if_empty(self, group: Group) -> None:
        if not group.members and not group.announced:
            self._groups.pop(group.group_id, None)

    def _touch(self, member: Member) -> None:
        member.deadline = self._clock.monotonic_seconds() + member.session_seconds

    def _must_get(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> tuple[Group, Member]:
        group = self._groups.get(group_id)
        member = group.members.get(member_id) if group is not None else None
        if group is not None and instance_id is not None:
            known = next((m for m in group.members.values() if m.instance_id == instance_id), None)
            if known is not None and known is not member:
                raise Refusal(ErrorCode.fenced_instance_id, f"`{instance_id}` is another member by now")
        if group is None or member is None:
            raise Refusal(ErrorCode.unknown_member_id, f"group `{group_id}` has no member `{member_id}`")
        if generation != group.generation:
            raise Refusal(
                ErrorCode.illegal_generation, f"group `{group_id}` is at generation `{group.generation}`, not `{generation}`"
            )
        return group, member


def _check_join(request: JoinRequest, closed: bool) -> None:
    if closed:
        raise Refusal(ErrorCode.coordinator_not_available, "the broker stops")
    if not request.group_id:
        raise Refusal(ErrorCode.invalid_group_id, "a group needs a name")
    if not MIN_SESSION_SECONDS <= request.session_seconds <= MAX_SESSION_SECONDS:
        raise Refusal(
            ErrorCode.invalid_session_timeout,
            f"a session lasts {MIN_SESSION_SECONDS} to {MAX_SESSION_SECONDS} s, not `{request.session_seconds}`",
        )


def _check_protocols(group: Group, request: JoinRequest) -> None:
    others = [member for member in group.members.values() if member.member_id != request.member_id]
    common = set(request.protocols).intersection(*(member.protocols for member in others))
    if not request.protocol_type or not common or (others and request.protocol_type != group.protocol_type):
        raise Refusal(
            ErrorCode.inconsistent_group_protocol, f"no protocol is common to all members of group `{group.group_id}`"
        )


def _vote(group: Group) -> str:
    """Each member votes for the first protocol of its list that all know; the most votes win."""
    members = list(group.members.values())
    common = set(members[0].protocols).intersection(*(member.protocols for member in members))
    votes: dict[str, int] = {}
    for member in members:
        choice = next(name for name in member.protocols if name in common)
        votes[choice] = votes.get(choice, 0) + 1
    return max(votes, key=lambda name: votes[name])


def _joined(group: Group, member: Member) -> Joined:
    leads = member.member_id == group.leader
    members = [(m.member_id, m.instance_id, m.protocols[group.protocol]) for m in group.members.values()] if leads else []
    return Joined(group.generation, group.protocol_type, group.protocol, group.leader, member.member_id, members)
