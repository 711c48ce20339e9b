"""The brokers of the crash matrix are those of the broker's contract."""

from tests.contract.broker.conftest import kafka_cluster

__all__ = ["kafka_cluster"]
