"""What one model may take: its turn among the threads, memory, and time."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.errors import UnavailableError
from learning.models.kind import seal
from udfs.predict import predict
from udfs.route import ModelKey, RowError
from udfs.sessions import LoadedModel, ModelSessions

CLASSES = ("no", "yes")


def _model(nodes: list, **constants: np.ndarray) -> bytes:
    """Nodes that lead from `features` [batch, 3] to the scalar `extra`, which is added to zeros."""
    last = [
        helper.make_node("MatMul", ["features", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "extra"], ["probabilities"]),
    ]
    weights = {"zeros": np.zeros((3, 2), np.float32), **constants}
    graph = helper.make_graph(
        [*nodes, *last],
        "greedy",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return seal(model, CLASSES, "yes")


def memory_bomb(elements_of_a_value: int) -> bytes:
    """A tensor whose shape only the run tells: elements_of_a_value for every feature of the batch."""
    return _model(
        [
            helper.make_node("Shape", ["features"], ["shape"]),
            helper.make_node("ReduceProd", ["shape"], ["values"], keepdims=1),
            helper.make_node("Mul", ["values", "times"], ["huge_shape"]),
            helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["extra"], keepdims=0),
        ],
        times=np.array([elements_of_a_value], np.int64),
    )


def time_bomb(rounds: int) -> bytes:
    """A loop that goes on while features are summed: one round for two rows of zeros, `rounds` for any other batch."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["so_far"], ["more"]),
            helper.make_node("Identity", ["condition"], ["condition_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("so_far", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, []),
        ],
    )
    return _model(
        [
            helper.make_node("ReduceSum", ["features"], ["total"], keepdims=0),
            helper.make_node("Cast", ["total"], ["total_int"], to=TensorProto.INT64),
            helper.make_node("Mul", ["total_int", "rounds"], ["times"]),
            helper.make_node("Loop", ["times", "go", "zero"], ["extra"], body=body),
        ],
        rounds=np.array(rounds, np.int64),
        go=np.array(True),
        zero=np.array(0.0, np.float32),
    )


def test_a_model_that_unfolds_in_memory_is_refused_and_the_process_stays_small(artifacts):
    import resource

    artifacts.stored["bomb", 1] = memory_bomb(10**9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = ModelSessions(artifacts).get(ModelKey("bomb", 1))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert isinstance(answer, RowError)
    assert answer.code == "model_rejected"
    assert "memory" in answer.message
    assert grown < 500 * 1024 * 1024


def test_a_model_that_does_not_end_is_ended_and_its_rows_say_so(artifacts, make_route):
    artifacts.stored["endless", 1] = time_bomb(10**12)
    sessions = ModelSessions(artifacts, call_seconds=0.3)
    begun = time.monotonic()
    route = make_route(("endless", 1, "champion", 1.0))
    (late,) = predict(pa.array([route]), pa.array(["k"]), pa.array([[1.0, 1.0, 1.0]]), sessions).to_pylist()
    assert late["error"]["code"] == "deadline"
    assert late["score"] is None
    assert time.monotonic() - begun < 10
    beside = make_route(("endless", 1, "champion", 1.0), ("sick", 1, "champion", 1.0))
    (row,) = predict(pa.array([beside]), pa.array(["k"]), pa.array([[1.0, 1.0, 1.0]]), sessions).to_pylist()
    assert row["score"] is not None
    assert [each.get("error", {}).get("code") for each in row["members"]] == ["deadline", None]


def test_a_model_that_does_not_end_on_zeros_is_refused(artifacts):
    artifacts.stored["endless", 1] = _model(
        [helper.make_node("Cast", ["one"], ["extra_or_so"], to=TensorProto.FLOAT), *_endless_nodes()],
        one=np.array(1.0, np.float32),
        times=np.array(10**12, np.int64),
        go=np.array(True),
    )
    answer = ModelSessions(artifacts, call_seconds=0.3).get(ModelKey("endless", 1))
    assert isinstance(answer, RowError)
    assert "takes too long" in answer.message


def _endless_nodes() -> list:
    body = helper.make_graph(
        [helper.make_node("Identity", ["so_far"], ["more"]), helper.make_node("Identity", ["condition"], ["condition_out"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("so_far", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, []),
        ],
    )
    return [helper.make_node("Loop", ["times", "go", "extra_or_so"], ["extra"], body=body)]


class Counting:
    """A session that counts how many run at the same time."""

    def __init__(self, session: object, running: list[int], most: list[int], lock: threading.Lock) -> None:
        self._session, self._running, self._most, self._lock = session, running, most, lock

    def run(self, *arguments: object) -> object:
        with self._lock:
            self._running[0] += 1
            self._most[0] = max(self._most[0], self._running[0])
        try:
            time.sleep(0.002)  # long enough that others would join
            return self._session.run(*arguments)  # type: ignore[attr-defined]
        finally:
            with self._lock:
                self._running[0] -= 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_all_sessions_share_one_budget_of_threads(artifacts, make_linear, threads):
    rng = np.random.default_rng(0)
    for number in range(8):
        artifacts.stored[f"m{number}", 1] = make_linear(rng.normal(size=(3, 2)), CLASSES, "yes")
    sessions = ModelSessions(artifacts, threads=threads)
    running, most, lock = [0], [0], threading.Lock()
    models = []
    for number in range(8):
        loaded = sessions.get(ModelKey(f"m{number}", 1))
        assert isinstance(loaded, LoadedModel)
        models.append(LoadedModel(loaded.key, loaded.signature, Counting(loaded.session, running, most, lock)))
    rows = np.zeros((4, 3), np.float32)
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda number: sessions.run(models[number % 8], rows), range(160)))
    assert most[0] == threads


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_sessions_bring_no_threads_of_their_own(artifacts, make_linear):
    rng = np.random.default_rng(0)
    for number in range(20):
        artifacts.stored[f"m{number}", 1] = make_linear(rng.normal(size=(3, 2)), CLASSES, "yes")
    sessions = ModelSessions(artifacts)
    first = sessions.get(ModelKey("m0", 1))
    assert isinstance(first, LoadedModel)
    sessions.run(first, np.zeros((4, 3), np.float32))
    before = len(os.listdir("/proc/self/task"))
    for number in range(1, 20):
        model = sessions.get(ModelKey(f"m{number}", 1))
        assert isinstance(model, LoadedModel)
        sessions.run(model, np.zeros((4000, 3), np.float32))
    # One may be new, which watches over deadlines, and others may be of the test run; sessions would bring one each at least.
    assert len(os.listdir("/proc/self/task")) < before + 10


def test_who_gets_no_turn_in_time_is_told_to_come_again(artifacts):
    sessions = ModelSessions(artifacts, threads=1, call_seconds=0.2)
    model = sessions.get(ModelKey("sick", 1))
    assert isinstance(model, LoadedModel)
    entered, leave = threading.Event(), threading.Event()

    class Held:
        def run(self, *_arguments: object) -> list[np.ndarray]:
            entered.set()
            leave.wait(30)
            return [np.zeros((1, 2), np.float32)]

    holding = threading.Thread(target=sessions.run, args=(LoadedModel(model.key, model.signature, Held()), np.zeros((1, 3))))
    holding.start()
    assert entered.wait(30)
    with pytest.raises(UnavailableError, match="no thread"):
        sessions.run(model, np.zeros((1, 3), np.float32))
    leave.set()
    holding.join()
    assert sessions.run(model, np.zeros((1, 3), np.float32)).shape == (1, 2)
