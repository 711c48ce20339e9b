"""Lets only plain ONNX graphs into the registry.

A model file is input from outside. Refused are: pickles and archives (loading them runs code), graphs whose weights lie in
other files (a path out of the registry, and half of an immutable artifact), functions and operators outside the standard
domains (they need native libraries), files too large to be loaded safely, and small files that unfold into tensors as large.
Shapes that only a run tells are bounded where models run (`udfs.runtime`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError

from core.errors import InvalidInputError

MAX_BYTES = 512 * 1024 * 1024  # below protobuf's limit of 2 GiB, above any model that this platform serves from memory

MAX_TENSOR_BYTES = 1024 * 1024 * 1024  # of one value inside a graph, for one row

# The two domains of the ONNX standard: neural operators, and classical models (trees, SVM, scalers).
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_FIX = "Export the model with skl2onnx, onnx.helper or torch.onnx, with weights inside the file."

_FOREIGN = (
    (b"\x80", "a Python pickle"),
    (b"PK\x03\x04", "a ZIP archive (torch.save, Keras, NumPy .npz)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"BZh", "a bzip2 file"),
)


@dataclass(frozen=True)
class Tensor:
    """An input or output of a model: `shape` has -1 for a free dimension; `dtype` is NumPy's name (`object` for text)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GraphSignature:
    """What a graph takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def check_onnx(artifact: bytes, where: str, max_bytes: int = MAX_BYTES) -> GraphSignature:
    """Check that the bytes are a plain, complete, valid ONNX model, and read its signature.

    Raises:
        InvalidInputError: they are not; says what they are instead and what to do.
    """
    if len(artifact) > max_bytes:
        raise InvalidInputError(f"model has {len(artifact)} bytes, the limit is {max_bytes}", where=where, fix=_FIX)
    if not artifact:
        raise InvalidInputError("model file is empty", where=where, fix=_FIX)
    for magic, what in _FOREIGN:
        if artifact.startswith(magic):
            raise InvalidInputError(f"model is {what}, not ONNX", where=where, fix=_FIX)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(artifact)
    except DecodeError as error:
        raise InvalidInputError("model is not an ONNX file", where=where, fix=_FIX) from error
    if not model.graph.node:
        raise InvalidInputError("model is not an ONNX file, or its graph is empty", where=where, fix=_FIX)
    _refuse_foreign_operators(model, where)
    _refuse_external_data(model, where)
    try:
        onnx.checker.check_model(artifact, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise InvalidInputError(f"model is not valid ONNX: {str(error).strip()}", where=where, fix=_FIX) from error
    _refuse_bombs(model, where)
    weights = {tensor.name for tensor in model.graph.initializer}
    return GraphSignature(
        inputs=tuple(_tensor(value, where) for value in model.graph.input if value.name not in weights),
        outputs=tuple(_tensor(value, where) for value in model.graph.output),
    )


def _refuse_foreign_operators(model: onnx.ModelProto, where: str) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    foreign = {
        f"{node.domain}::{node.op_type}"
        for node in nodes_of(model)
        if node.domain not in STANDARD_DOMAINS and (node.domain, node.op_type) not in own
    }
    if foreign:
        raise InvalidInputError(
            f"model uses operators outside the ONNX standard: `{', '.join(sorted(foreign))}`", where=where, fix=_FIX
        )


def _refuse_external_data(model: onnx.ModelProto, where: str) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InvalidInputError(f"weights `{tensor.name}` lie in another file", where=where, fix=_FIX)


def _refuse_bombs(model: onnx.ModelProto, where: str) -> None:
    """Refuse values whose shape is known and huge, constants among the shapes followed; a free dimension counts as 1."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    sizes = [
        (value.name, value.type.tensor_type.elem_type, [axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim])
        for graph in _graphs(inferred)
        for value in [*graph.value_info, *graph.input, *graph.output]
        if value.type.HasField("tensor_type")
    ]
    for graph in _graphs(model):
        sizes += [(each.values.name, each.values.data_type, list(each.dims)) for each in graph.sparse_initializer]
    for node in nodes_of(model):
        sparse = [attribute.sparse_tensor for attribute in node.attribute if attribute.HasField("sparse_tensor")]
        sizes += [(node.output[0], each.values.data_type, list(each.dims)) for each in sparse]
    for name, element, dims in sizes:
        size = math.prod(dims) * (onnx.helper.tensor_dtype_to_np_dtype(element).itemsize if element else 1)
        if size > MAX_TENSOR_BYTES:
            raise InvalidInputError(
                f"model unfolds `{name}` to {size} bytes, the limit is {MAX_TENSOR_BYTES}",
                where=where,
                fix="Keep every value of the graph below that for one row.",
            )


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and those inside If, Loop and Scan, at any depth, also in functions."""
    waiting = [model.graph]
    for function in model.functions:
        waiting += [graph for node in function.node for graph in _subgraphs(node)]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [inner for node in graph.node for inner in _subgraphs(node)]


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes: of functions, of the main graph, and of those inside others."""
    for function in model.functions:
        yield from function.node
    for graph in _graphs(model):
        yield from graph.node


def operators_of(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator is used; `DOMAIN::NAME`, the name alone for ONNX's own."""
    return Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in nodes_of(model))


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
    for node in nodes_of(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor.values
                yield attribute.sparse_tensor.indices


def _tensor(value: onnx.ValueInfoProto, where: str) -> Tensor:
    kind = value.type
    if not kind.HasField("tensor_type"):
        # skl2onnx's default for classifiers: probabilities as a list of maps, which no columnar caller can take.
        raise InvalidInputError(
            f"`{value.name}` is no tensor but a {kind.WhichOneof('value') or 'value without type'}",
            where=where,
            fix="With skl2onnx pass `options={'zipmap': False}`.",
        )
    tensor = kind.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
    return Tensor(value.name, "object" if tensor.elem_type == onnx.TensorProto.STRING else dtype.name, shape)
