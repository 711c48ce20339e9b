"""How fast models answer, as the UDF server tells in its health."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pyarrow as pa

from learning.routing.guards import Latency
from udfs.client import UdfClient

logger = logging.getLogger(__name__)


def udf_latencies(url: str) -> Callable[[], Mapping[str, Latency]]:
    """A function that asks the server; one that does not answer has no latencies, and guards judge by the rest."""

    def ask() -> Mapping[str, Latency]:
        try:
            with UdfClient(url, timeout_seconds=2.0) as client:
                told = client.health().get("latency", {})
        except (pa.ArrowException, OSError) as error:
            logger.warning("udf server tells no latencies", extra={"reason": str(error)})
            return {}
        return {name: Latency(int(each["calls"]), float(each["p99_ms"])) for name, each in told.items()}

    return ask
