"""JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and what administrators ask about groups."""

from __future__ import annotations

from typing import Any

from kio.schema.errors import ErrorCode

from broker.coordinators.groups import Group, Joined, JoinRequest, Member, MemberIdRequired
from broker.node import Node
from broker.refusal import Refusal
from broker.wire import Fields, Request
from core.errors import UnavailableError

_NEEDS_ID_FIRST_FROM = 4
_SEVERAL_MEMBERS_FROM = 3
_TYPE_IS_NULLABLE_FROM = 7


async def join(node: Node, request: Request) -> Fields:
    body = request.body
    session_seconds = body.session_timeout.total_seconds()
    rebalance_seconds = body.rebalance_timeout.total_seconds() if hasattr(body, "rebalance_timeout") else -1.0
    asked = JoinRequest(
        group_id=body.group_id,
        member_id=body.member_id,
        instance_id=getattr(body, "group_instance_id", None),
        client_id=request.client_id,
        session_seconds=session_seconds,
        rebalance_seconds=rebalance_seconds if rebalance_seconds > 0 else session_seconds,
        protocol_type=body.protocol_type,
        protocols={item.name: item.metadata for item in body.protocols},
        needs_id_first=request.version >= _NEEDS_ID_FIRST_FROM,
    )
    try:
        return _joined(await node.groups.join(asked))
    except MemberIdRequired as refusal:
        return _not_joined(request, refusal.code, refusal.member_id)
    except Refusal as refusal:
        return _not_joined(request, refusal.code, body.member_id)


def _joined(answer: Joined) -> Fields:
    return {
        "error_code": ErrorCode.none,
        "generation_id": answer.generation,
        "protocol_type": answer.protocol_type,
        "protocol_name": answer.protocol,
        "leader": answer.leader,
        "member_id": answer.member_id,
        "members": [
            {"member_id": member_id, "group_instance_id": instance_id, "metadata": metadata}
            for member_id, instance_id, metadata in answer.members
        ],
    }


def _not_joined(request: Request, code: ErrorCode, member_id: str) -> Fields:
    name = None if request.version >= _TYPE_IS_NULLABLE_FROM else ""
    return {"error_code": code, "generation_id": -1, "protocol_name": name, "leader": "", "member_id": member_id, "members": []}


async def sync(node: Node, request: Request) -> Fields:
    body = request.body
    shares = {item.member_id: item.assignment for item in body.assignments}
    try:
        share = await node.groups.sync(body.group_id, body.generation_id, body.member_id, _instance(body), shares)
    except Refusal as refusal:
        return {"error_code": refusal.code, "assignment": b""}
    return {
        "error_code": ErrorCode.none,
        "protocol_type": share.protocol_type,
        "protocol_name": share.protocol,
        "assignment": share.assignment,
    }


async def heartbeat(node: Node, request: Request) -> Fields:
    body = request.body
    try:
        node.groups.heartbeat(body.group_id, body.generation_id, body.member_id, _instance(body))
    except Refusal as refusal:
        return {"error_code": refusal.code}
    return {"error_code": ErrorCode.none}


async def leave(node: Node, request: Request) -> Fields:
    body = request.body
    several = request.version >= _SEVERAL_MEMBERS_FROM
    leaving = [(item.member_id, item.group_instance_id) for item in body.members] if several else [(body.member_id, None)]
    results: list[dict[str, Any]] = []
    for member_id, instance_id in leaving:
        code = ErrorCode.none
        try:
            node.groups.leave(body.group_id, member_id, instance_id)
        except Refusal as refusal:
            code = refusal.code
        results.append({"member_id": member_id, "group_instance_id": instance_id, "error_code": code})
    return {"error_code": ErrorCode.none if several else results[0]["error_code"], "members": results}


async def list_groups(node: Node, request: Request) -> Fields:
    wanted = {state.lower() for state in getattr(request.body, "states_filter", ())}
    found = {group.group_id: (group.protocol_type, group.state) for group in node.groups.all()}
    for name in node.offsets.groups():
        found.setdefault(name, ("", "Empty"))
    return {
        "error_code": ErrorCode.none,
        "groups": [
            {"group_id": name, "protocol_type": protocol_type, "group_state": state}
            for name, (protocol_type, state) in sorted(found.items())
            if not wanted or state.lower() in wanted
        ],
    }


async def describe_groups(node: Node, request: Request) -> Fields:
    return {"groups": [_described(node, name) for name in request.body.groups]}


def _described(node: Node, name: str) -> dict[str, Any]:
    group = node.groups.get(name)
    if group is None:
        # A group that has only offsets is there and empty; one that has nothing is dead, as Kafka calls it.
        state = "Empty" if node.offsets.committed(name) else "Dead"
        group = Group(name)
    else:
        state = group.state
    stable = state == "Stable"
    return {
        "error_code": ErrorCode.none,
        "group_id": name,
        "group_state": state,
        "protocol_type": group.protocol_type,
        "protocol_data": group.protocol if stable else "",
        "members": [_member(group, member, stable=stable) for member in group.members.values()],
    }


def _member(group: Group, member: Member, *, stable: bool) -> dict[str, Any]:
    return {
        "member_id": member.member_id,
        "group_instance_id": member.instance_id,
        "client_id": member.client_id,
        "client_host": "",
        "member_metadata": member.protocols.get(group.protocol, b"") if stable else b"",
        "member_assignment": member.assignment if stable else b"",
    }


async def delete_groups(node: Node, request: Request) -> Fields:
    results = []
    for name in request.body.groups_names:
        group = node.groups.get(name)
        code = ErrorCode.none
        if group is not None and group.members:
            code = ErrorCode.non_empty_group
        elif not node.offsets.committed(name):
            code = ErrorCode.group_id_not_found
        else:
            try:
                await node.offsets.forget(name)
            except UnavailableError:
                code = ErrorCode.coordinator_not_available
        results.append({"group_id": name, "error_code": code})
    return {"results": results}


def _instance(body: Any) -> str | None:
    value: str | None = getattr(body, "group_instance_id", None)
    return value
