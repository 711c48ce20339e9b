"""Rounds of processes that write until they are killed. Run by the tests beside it.

    python kill_rounds.py sink     CATALOG_DB WAREHOUSE ROUNDS SEED
    python kill_rounds.py registry CATALOG_DB WAREHOUSE ROUNDS SEED

Everything is imported once and each writer is a fork, which costs milliseconds. The writer `a` is killed by SIGKILL: in the
first rounds at the 1st, 2nd, 3rd ... step of a commit (before or after a file or folder is synced, or the pointer is swapped),
later after a random time. The writer `b` appends meanwhile and is left to finish. With `registry` one process registers models
and is killed at the 1st, 2nd, 3rd ... step. A writer that ends in another way is an error.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import onnx
import pyarrow as pa

import iceberg.durable_io
from iceberg.catalog import open_catalog
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable
from iceberg.sqlite_catalog import SqliteCatalog

IDENTIFIER = "lake.rows"
SINKS = {name: uuid.UUID(int=number) for number, name in enumerate("ab", start=1)}
STEPS = 40
EPOCHS_OF_B = 2


def rows_of(sink: str, epoch: int) -> pa.Table:
    """The rows of an epoch; the same for every attempt."""
    count = epoch % 4
    return pa.table(
        {
            "tenant_id": pa.array([f"t{n}" for n in range(count)], pa.string()),
            "sink": pa.array([sink] * count, pa.string()),
            "n": pa.array([epoch * 10 + n for n in range(count)], pa.int64()),
        }
    )


def kill_at(step: int) -> None:
    """Make this process kill itself when it reaches the step, counted from now."""
    left = step

    def reached() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            reached()
            answer = real(*args)
            reached()
            return answer

        return wrapped

    iceberg.durable_io.os.fsync = around(os.fsync)  # type: ignore[attr-defined]
    SqliteCatalog._swap = around(SqliteCatalog._swap)  # type: ignore[method-assign]


def write(name: str, catalog_db: str, warehouse: str, step: int | None, epochs: int) -> None:
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{catalog_db}", warehouse)
    sink = ExactlyOnceTable(catalog, IDENTIFIER, SINKS[name])
    epoch = sink.last_epoch()
    if step is not None:
        kill_at(step)
    for _ in range(epochs):
        epoch += 1
        sink.append(epoch, rows_of(name, epoch))


def model(number: int) -> bytes:
    """A model that differs with the number."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Constant", [], ["y"], value_floats=[float(number)])
    graph = onnx.helper.make_graph([node], "constant", [], [value("y", onnx.TensorProto.FLOAT, [1])])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = proto.SerializeToString()
    return content


def register(catalog_db: str, warehouse: str, step: int) -> None:
    catalog = open_catalog("jdbc", f"jdbc:sqlite:{catalog_db}", warehouse)
    registry = Registry(catalog, warehouse)
    kill_at(step)
    while True:
        registry.register(
            "constant",
            model(step),
            kind="constant",
            metrics={},
            tags={},
            training_data={},
            code_hash="",
            duration=timedelta(0),
        )


def fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001  # the last frame of a forked process
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def sink_rounds(catalog_db: str, warehouse: str, rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(rounds):
        # As a rule a commit has some twenty steps; a later step falls into the next epoch, so all kinds are reached.
        step = number if number < STEPS else None
        b = fork(lambda: write("b", catalog_db, warehouse, None, EPOCHS_OF_B))
        a = fork(lambda step=step: write("a", catalog_db, warehouse, step, 1000))  # type: ignore[misc]
        if step is None:
            time.sleep(dice.uniform(0.005, 0.25))
            os.kill(a, signal.SIGKILL)
        expect_killed(a)
        _, status = os.waitpid(b, 0)
        assert status == 0, f"round {number}: writer b ended with {status}"


def registry_rounds(catalog_db: str, warehouse: str, rounds: int, _: int) -> None:
    for number in range(rounds):
        expect_killed(fork(lambda step=number: register(catalog_db, warehouse, step)))  # type: ignore[misc]


def expect_killed(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"writer ended with {status} instead of being killed"
    assert os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    {"sink": sink_rounds, "registry": registry_rounds}[sys.argv[1]](
        sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    )
