"""What all tests share: how services are required, and where the recorded data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time: whether a change is good does not hang on luck. The nightly tests draw fresh ones.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def services_required() -> bool:
    """Whether a missing service fails a test instead of skipping it, as in CI."""
    return os.environ.get("HEADRACE_SERVICES") == "required"


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """The folder of real recordings (SKAB, NAB); skips with a reason where it does not lie beside the checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the recordings of SKAB and NAB are not beside this checkout")
    return folder
