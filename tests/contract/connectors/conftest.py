"""The brokers that the connectors' contract runs on."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def bootstrap() -> str:
    """Address of a running broker that speaks the Kafka protocol."""
    address = os.environ.get("HEADRACE_TEST_KAFKA")
    if address is None:
        pytest.skip("no broker: set HEADRACE_TEST_KAFKA to host:port")
    return address
