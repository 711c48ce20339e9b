"""Committed offsets of consumer groups, and those that wait for the end of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

from broker.coordinators.store import Statement, Store

Place = tuple[str, int]  # topic, partition


class CommittedOffset(NamedTuple):
    """Where a group goes on reading; `leader_epoch` is -1 if the client did not say."""

    offset: int
    leader_epoch: int
    metadata: str | None


_UPSERT = (
    "INSERT INTO offsets (group_id, topic, number, committed, leader_epoch, metadata) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (group_id, topic, number) DO UPDATE SET"
    " committed = excluded.committed, leader_epoch = excluded.leader_epoch, metadata = excluded.metadata"
)
_UPSERT_PENDING = (
    "INSERT INTO pending_offsets (producer_id, group_id, topic, number, committed, leader_epoch, metadata)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (producer_id, group_id, topic, number) DO UPDATE SET"
    " committed = excluded.committed, leader_epoch = excluded.leader_epoch, metadata = excluded.metadata"
)
_PUBLISH = (
    "INSERT INTO offsets (group_id, topic, number, committed, leader_epoch, metadata)"
    " SELECT group_id, topic, number, committed, leader_epoch, metadata FROM pending_offsets WHERE producer_id = ?"
    " ON CONFLICT (group_id, topic, number) DO UPDATE SET"
    " committed = excluded.committed, leader_epoch = excluded.leader_epoch, metadata = excluded.metadata"
)
_DROP_PENDING = "DELETE FROM pending_offsets WHERE producer_id = ?"


class Offsets:
    """What groups have committed. In memory for reading, in the store for keeping."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._groups: dict[str, dict[Place, CommittedOffset]] = {}
        self._pending: dict[int, dict[str, dict[Place, CommittedOffset]]] = {}
        for row in store.load("SELECT group_id, topic, number, committed, leader_epoch, metadata FROM offsets"):
            group, place, value = _row(row)
            self._groups.setdefault(group, {})[place] = value
        for producer_id, *rest in store.load(
            "SELECT producer_id, group_id, topic, number, committed, leader_epoch, metadata FROM pending_offsets"
        ):
            group, place, value = _row(tuple(rest))
            self._pending.setdefault(cast("int", producer_id), {}).setdefault(group, {})[place] = value

    def groups(self) -> Iterable[str]:
        return list(self._groups)

    def committed(self, group: str) -> Mapping[Place, CommittedOffset]:
        return self._groups.get(group, {})

    def is_unstable(self, group: str, place: Place) -> bool:
        """True while an open transaction wants to move this offset."""
        return any(place in groups.get(group, {}) for groups in self._pending.values())

    async def commit(self, group: str, offsets: Mapping[Place, CommittedOffset]) -> None:
        """Keep offsets durably.

        Raises:
            UnavailableError: the disk is full or broken.
        """
        await self._store.write(*((_UPSERT, (group, topic, number, *value)) for (topic, number), value in offsets.items()))
        self._groups.setdefault(group, {}).update(offsets)

    async def commit_pending(self, producer_id: int, group: str, offsets: Mapping[Place, CommittedOffset]) -> None:
        """Keep offsets durably that hold only if the producer's transaction commits."""
        await self._store.write(
            *((_UPSERT_PENDING, (producer_id, group, topic, number, *value)) for (topic, number), value in offsets.items())
        )
        self._pending.setdefault(producer_id, {}).setdefault(group, {}).update(offsets)

    async def forget(self, group: str, places: Iterable[Place] | None = None) -> None:
        """Drop a group's offsets, all of them unless `places` are named."""
        known = self._groups.get(group, {})
        gone = list(known if places is None else (place for place in places if place in known))
        await self._store.write(
            *(("DELETE FROM offsets WHERE group_id = ? AND topic = ? AND number = ?", (group, *place)) for place in gone)
        )
        for place in gone:
            del known[place]
        if not known:
            self._groups.pop(group, None)

    async def forget_topic(self, topic: str) -> None:
        """Drop all offsets of a topic that was deleted."""
        await self._store.write(
            ("DELETE FROM offsets WHERE topic = ?", (topic,)), ("DELETE FROM pending_offsets WHERE topic = ?", (topic,))
        )
        kept = [*self._groups.values(), *(offsets for groups in self._pending.values() for offsets in groups.values())]
        for offsets in kept:
            for place in [place for place in offsets if place[0] == topic]:
                del offsets[place]

    def end_statements(self, producer_id: int, *, commit: bool) -> tuple[Statement, ...]:
        """What the store must do when the transaction is decided; `end` follows when it is done."""
        drop: Statement = (_DROP_PENDING, (producer_id,))
        return ((_PUBLISH, (producer_id,)), drop) if commit else (drop,)

    def end(self, producer_id: int, *, commit: bool) -> None:
        for group, offsets in self._pending.pop(producer_id, {}).items():
            if commit:
                self._groups.setdefault(group, {}).update(offsets)


def _row(row: tuple[object, ...]) -> tuple[str, Place, CommittedOffset]:
    group, topic, number, offset, leader_epoch, metadata = cast("tuple[str, str, int, int, int, str | None]", row)  # our schema
    return group, (topic, number), CommittedOffset(offset, leader_epoch, metadata)
