"""`connector = 'blackhole'`: takes everything and keeps nothing; for measuring what the rest costs."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from engine.connectors.options import refuse_unknown_options

_OPTIONS = ("connector", "type", "force_append_only", "primary_key")


class BlackholeSink:
    """A `SinkWriter` without memory: a restart begins at epoch 0, which costs nothing."""

    def __init__(self, options: Mapping[str, str]) -> None:
        refuse_unknown_options(options, _OPTIONS, what="the blackhole sink")

    def open(self) -> int:
        return 0

    def deliver(self, epoch: int, rows: pa.Table) -> None:
        pass

    def close(self) -> None:
        pass
