"""What the handlers of requests work with: the one broker of this cluster and its parts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from broker.coordinators.groups import Groups
from broker.coordinators.offsets import Offsets
from broker.coordinators.producer_ids import ProducerIds
from broker.coordinators.transactions import Transactions
from broker.topics import Topics
from core.settings import BrokerSettings

NODE_ID = 1


@dataclass(slots=True)
class Node:
    """The parts of a running broker; `host` and `port` are what clients are told."""

    cluster_id: str
    host: str
    port: int
    settings: BrokerSettings
    topics: Topics
    producer_ids: ProducerIds
    offsets: Offsets
    transactions: Transactions
    groups: Groups
    # Requests whose client has left are carried to their end all the same: half a decision is none.
    unfinished: set[asyncio.Task[object]] = field(default_factory=set)
