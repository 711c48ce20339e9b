"""What the guard refuses, each with a file that is really of that kind."""

from __future__ import annotations

import gzip
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from core.errors import InvalidInputError
from iceberg.onnx_guard import Tensor, check_onnx


def graph_model(node_type: str = "Relu", domain: str = "") -> ModelProto:
    """x: float32[batch, 2] -> y of the same shape, by one operator."""
    graph = helper.make_graph(
        [helper.make_node(node_type, ["x"], ["y"], domain=domain)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    )
    imports = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def with_weight(weight: TensorProto) -> ModelProto:
    model = graph_model("Add")
    model.graph.node[0].input.append("w")
    model.graph.initializer.append(weight)
    return model


def in_a_branch(weight: TensorProto) -> ModelProto:
    """The weight lies in the then-branch of an If, not in the main graph."""
    constant = helper.make_node("Constant", [], ["c"], value=weight)
    out = helper.make_tensor_value_info("c", TensorProto.FLOAT, [2])
    branch = helper.make_graph([constant], "branch", [], [out])
    plain = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]))
    other = helper.make_graph([plain], "other", [], [out])
    graph = helper.make_graph(
        [helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=other)],
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def external(location: str) -> TensorProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    return weight


def fitted() -> LogisticRegression:
    features = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    return LogisticRegression().fit(features, [0, 1, 0, 1])


def test_a_plain_model_passes_and_its_signature_is_read() -> None:
    found = check_onnx(graph_model().SerializeToString(), "m")
    assert found.inputs == (Tensor("x", "float32", (-1, 2)),)
    assert found.outputs == (Tensor("y", "float32", (-1, 2)),)


def test_a_scikit_learn_classifier_passes_without_zipmap_and_its_text_labels_are_objects() -> None:
    model = fitted()
    model.classes_ = np.array(["no", "yes"])
    content = to_onnx(model, np.zeros((1, 2), np.float32), options={"zipmap": False}).SerializeToString()
    found = check_onnx(content, "m")
    assert [(output.name, output.dtype) for output in found.outputs] == [("label", "object"), ("probabilities", "float32")]


def zip_file() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.zeros(3))
    return buffer.getvalue()


def bomb() -> onnx.ModelProto:
    """A hundred bytes that unfold to 40 GB: a constant of a shape that two constants give."""
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    plain = graph_model()
    constants = [numpy_helper.from_array(np.array([100_000], np.int64), name) for name in ("a", "b")]
    graph = helper.make_graph(nodes, "bomb", list(plain.graph.input), list(plain.graph.output), constants)
    return helper.make_model(graph, opset_imports=plain.opset_import, ir_version=plain.ir_version)


def not_typed() -> bytes:
    model = graph_model()
    model.graph.node[0].op_type = "Relux"
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pickle.dumps(fitted()), "a Python pickle"),
        (zip_file, "a ZIP archive"),
        (lambda: gzip.compress(graph_model().SerializeToString()), "a gzip file"),
        (lambda: b"", "is empty"),
        (lambda: b"name,value\n1,2\n" * 20, "not an ONNX file"),
        (lambda: graph_model().SerializeToString()[:-7], "not (an|valid) ONNX"),
        (lambda: pickle.dumps({"w": [1, 2]}, protocol=0), "not an ONNX file"),
        (lambda: graph_model("Frobnicate", "com.example").SerializeToString(), "`com.example::Frobnicate`"),
        (lambda: graph_model("Gelu", "com.microsoft").SerializeToString(), "`com.microsoft::Gelu`"),
        (lambda: with_weight(external("../../etc/passwd")).SerializeToString(), "weights `w` lie in another file"),
        (lambda: in_a_branch(external("weights.bin")).SerializeToString(), "weights `w` lie in another file"),
        (not_typed, "not valid ONNX"),
        (lambda: bomb().SerializeToString(), "unfolds `huge` to 40000000000 bytes"),
        (lambda: to_onnx(fitted(), np.zeros((1, 2), np.float32)).SerializeToString(), "is no tensor"),
    ],
)
def test_anything_else_is_refused_by_name_with_a_remedy(make: Callable[[], bytes], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        check_onnx(make(), "models/m.onnx")
    assert caught.value.where == "models/m.onnx"
    assert caught.value.fix


def test_the_pickle_is_not_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Evil:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return (Path.touch, (trap,))

    with pytest.raises(InvalidInputError, match="pickle"):
        check_onnx(pickle.dumps(Evil()), "m")
    assert not trap.exists()


def test_oversize_files_are_refused_before_they_are_parsed() -> None:
    content = graph_model().SerializeToString()
    with pytest.raises(InvalidInputError, match=f"has {len(content)} bytes, the limit is {len(content) - 1}"):
        check_onnx(content, "m", max_bytes=len(content) - 1)


def test_a_function_of_the_models_own_is_no_foreign_operator() -> None:
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model = graph_model("Twice", "own")
    model.functions.append(function)
    onnx.checker.check_model(model)
    assert check_onnx(model.SerializeToString(), "m").outputs[0].name == "y"
