"""Rows that a real sender sends one day: broken, mistyped, incomplete, from the future, late.

Each is a copy of a good event with one thing wrong, put between the good ones, which all stay as they are. So nothing that
is right may be missing in the end, and nothing that is wrong may have left a trace but in the quarantine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from headrace.demo.records import Record, encode

type_event = Mapping[str, object]

LATE_BY = timedelta(minutes=2)  # beyond the five seconds that every source waits
EARLY_BY = timedelta(days=1)  # beyond the five minutes that our sources tolerate


def _shifted(event: type_event, by: timedelta) -> bytes:
    moment = event["event_time"]
    assert isinstance(moment, datetime)
    return encode({**event, "event_time": moment + by})


def _broken(event: type_event) -> bytes:
    whole = encode(event)
    return whole[: len(whole) // 2]


KINDS: Mapping[str, Callable[[type_event], bytes]] = {
    "broken": _broken,
    "mistyped": lambda event: encode({**event, "event_time": "yesterday"}),
    "incomplete": lambda event: encode({name: value for name, value in event.items() if name != "entity_id"}),
    "early": lambda event: _shifted(event, EARLY_BY),
    "late": lambda event: _shifted(event, -LATE_BY),
}


def mix_in(
    events: Sequence[tuple[float, type_event]],
    *,
    each: int,
    seed: int,
    from_seconds: float,
    payloads: Sequence[bytes] | None = None,
) -> tuple[tuple[Record, ...], Counter[str]]:
    """Encode events and put bad rows between them.

    Args:
        events: (when to send in seconds, event) in the order of sending.
        payloads: one raw payload an event, if the good ones are to be uploaded; the bad ones are Kafka records always.
        each: how many bad rows of each kind.
        seed: decides where they stand.
        from_seconds: none before this moment, so that there is a watermark to be late against.
    """
    rng = np.random.default_rng(seed)
    candidates = np.flatnonzero([at >= from_seconds for at, _ in events])
    chosen = rng.choice(candidates, size=min(each * len(KINDS), len(candidates)), replace=False)
    kind_at = {int(position): list(KINDS)[i % len(KINDS)] for i, position in enumerate(chosen)}
    records: list[Record] = []
    for position, (at, event) in enumerate(events):
        tenant, entity, moment = str(event["tenant_id"]), str(event["entity_id"]), event["event_time"]
        if payloads is None:
            records.append(Record(at, tenant, entity, encode(event)))
        else:
            assert isinstance(moment, datetime)
            records.append(Record(at, tenant, entity, payloads[position], moment))
        if position in kind_at:
            records.append(Record(at, tenant, entity, KINDS[kind_at[position]](event)))
    return tuple(records), Counter(kind_at.values())
