"""Loading models: beside those that serve, once, and never in silence."""

from __future__ import annotations

import threading
from datetime import timedelta

import numpy as np
import pytest
from onnx import TensorProto, helper

from core.errors import CorruptDataError, UnavailableError
from core.fakes import ManualClock
from udfs.route import ModelKey, RowError
from udfs.sessions import LoadedModel, ModelSessions


def test_a_model_is_fetched_once_however_many_ask_at_the_same_time(artifacts):
    sessions = ModelSessions(artifacts)
    barrier = threading.Barrier(8)
    found = []

    def ask() -> None:
        barrier.wait()
        found.append(sessions.get(ModelKey("sick", 1)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert artifacts.fetched == ["sick@1"]
    assert all(model is found[0] for model in found)


def test_a_model_that_cannot_be_loaded_leaves_the_others_serving(artifacts):
    sessions = ModelSessions(artifacts)
    good = sessions.get(ModelKey("sick", 1))
    bad = sessions.get(ModelKey("pickled", 1))
    assert isinstance(bad, RowError)
    assert bad.code == "model_rejected"
    assert "pickle" in bad.message
    assert sessions.get(ModelKey("sick", 1)) is good
    assert sessions.loaded() == ["sick@1"]


def test_a_version_that_is_registered_later_is_found_later(artifacts, make_linear):
    clock = ManualClock()
    sessions = ModelSessions(artifacts, clock=clock)
    assert isinstance(sessions.get(ModelKey("late", 1)), RowError)
    artifacts.stored["late", 1] = make_linear(np.eye(2), ("a", "b"), "b")
    assert isinstance(sessions.get(ModelKey("late", 1)), RowError)
    assert artifacts.fetched == ["late@1"], "a failure is not looked up again for every batch"
    clock.advance(timedelta(seconds=1))
    assert isinstance(sessions.get(ModelKey("late", 1)), LoadedModel)


@pytest.mark.parametrize("problem", [UnavailableError("the catalog does not answer"), OSError("disk"), RuntimeError("locked")])
def test_a_registry_that_does_not_answer_decides_nothing_about_the_model(artifacts, problem):
    class Flaky:
        def load_artifact(self, name: str, version: int) -> bytes:
            if not artifacts.fetched:
                artifacts.fetched.append("failed")
                raise problem
            return artifacts.load_artifact(name, version)

    sessions = ModelSessions(Flaky())
    with pytest.raises(UnavailableError):
        sessions.get(ModelKey("sick", 1))
    assert isinstance(sessions.get(ModelKey("sick", 1)), LoadedModel)


def test_bytes_that_are_not_those_registered_are_refused(artifacts):
    class Corrupt:
        def load_artifact(self, name: str, version: int) -> bytes:
            raise CorruptDataError(f"artifact of `{name}@{version}` does not have the SHA-256 that was registered")

    answer = ModelSessions(Corrupt()).get(ModelKey("sick", 1))
    assert isinstance(answer, RowError)
    assert answer.code == "model_rejected"


def test_the_least_used_session_leaves_when_there_are_too_many(artifacts):
    sessions = ModelSessions(artifacts, capacity=1)
    for version in (1, 2, 1):
        assert isinstance(sessions.get(ModelKey("sick", version)), LoadedModel)
    assert artifacts.fetched == ["sick@1", "sick@2", "sick@1"]
    assert sessions.loaded() == ["sick@1"]


def _model(inputs=(("features", TensorProto.FLOAT, ["batch", 2]),), domain="", **properties: str) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Identity", [inputs[0][0]], ["probabilities"], domain=domain)],
        "identity",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    helper.set_model_props(model, properties)
    return model.SerializeToString()


GOOD = {"headrace.classes": '["a", "b"]', "headrace.positive": "b"}


def test_the_smallest_model_of_the_right_signature_is_served(artifacts):
    artifacts.stored["m", 1] = _model(**GOOD)
    assert isinstance(ModelSessions(artifacts).get(ModelKey("m", 1)), LoadedModel)


@pytest.mark.parametrize(
    ("artifact", "part_of_the_reason"),
    [
        (b"", "empty"),
        (b"PK\x03\x04torch", "ZIP"),
        (b"no model at all", "not an ONNX"),
        (_model(domain="com.evil", **GOOD), "com.evil"),
        (_model(inputs=[("x", TensorProto.FLOAT, ["batch", 2])], **GOOD), "inputs ['x']"),
        (_model(inputs=[("features", TensorProto.FLOAT, [1, 2])], **GOOD), "float32[1, 2]"),
        (_model(inputs=[("features", TensorProto.FLOAT, ["batch", "n"])], **GOOD), "float32[-1, -1]"),
        (_model(), "does not name its classes"),
        (_model(**{"headrace.classes": "[1, 2]", "headrace.positive": "1"}), "no list of names"),
        (_model(**{"headrace.classes": '["a", "b"]'}), "headrace.positive"),
        (_model(**{"headrace.classes": '["a", "b"]', "headrace.positive": "c"}), "headrace.positive"),
        (_model(**{"headrace.classes": '["a", "b", "c"]'}), "answers float32[2, 2]"),
    ],
)
def test_what_is_no_model_of_ours_is_refused_with_the_reason(artifacts, artifact, part_of_the_reason):
    artifacts.stored["m", 1] = artifact
    answer = ModelSessions(artifacts).get(ModelKey("m", 1))
    assert isinstance(answer, RowError)
    assert answer.code == "model_rejected"
    assert part_of_the_reason in answer.message
