"""Artifacts from a process beside the server: the same bytes and errors, and no harm when it dies."""

from __future__ import annotations

import os
import time

import pytest

from core.errors import CorruptDataError, NotFoundError, UnavailableError
from udfs.fetching import FetchingProcess


class Local:
    def load_artifact(self, name: str, version: int) -> bytes:
        return b"local"


class Beside:
    """Runs in the process; names say what shall happen."""

    def load_artifact(self, name: str, version: int) -> bytes:
        if name == "absent":
            raise NotFoundError("there is none", where="registry", fix="Register it.")
        if name == "corrupt":
            raise CorruptDataError("changed")
        if name == "down":
            raise OSError("disk is gone")
        if name == "crash":
            os._exit(1)
        if name == "slow":
            time.sleep(60)
        return f"{name}@{version} by {os.getpid()}".encode()


@pytest.fixture
def fetching():
    made = FetchingProcess(Beside, Local(), answer_seconds=2.0)
    assert made.await_ready(60)
    yield made
    made.close()


def test_bytes_come_from_another_process_and_errors_are_what_they_were(fetching):
    answer = fetching.load_artifact("m", 3)
    assert answer.startswith(b"m@3 by ")
    assert not answer.endswith(str(os.getpid()).encode())
    with pytest.raises(NotFoundError, match=r"there is none \(at registry\). Register it."):
        fetching.load_artifact("absent", 1)
    with pytest.raises(CorruptDataError, match="changed"):
        fetching.load_artifact("corrupt", 1)
    with pytest.raises(UnavailableError, match="disk is gone"):
        fetching.load_artifact("down", 1)
    assert fetching.load_artifact("m", 4).startswith(b"m@4"), "the process goes on"


@pytest.mark.parametrize("how", ["crash", "slow"])
def test_a_process_that_ends_or_hangs_is_an_error_to_try_again_and_is_replaced(fetching, how):
    with pytest.raises(UnavailableError, match=f"`{how}@1` cannot be fetched now"):
        fetching.load_artifact(how, 1)
    assert fetching.await_ready(60)
    assert fetching.load_artifact("m", 1).startswith(b"m@1 by ")


def test_until_the_process_is_there_artifacts_are_fetched_here():
    made = FetchingProcess(Beside, Local())
    try:
        assert made.load_artifact("m", 1) == b"local"
    finally:
        made.close()
