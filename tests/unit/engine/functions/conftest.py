"""One engine for all tests of functions: they keep nothing in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.engine.functions.expressions import Expressions


@pytest.fixture(scope="package")
def engine() -> Iterator[Expressions]:
    one = Expressions()
    yield one
    one.close()
