"""Answers V2 requests, whichever way they came: one input `features`, outputs `probabilities` and `label`.

The protocol has no errors of single rows, so one bad row fails its request, and the answer says which row and why. Nothing is
recorded: for predictions that are kept, labelled and routed there is `/predict`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from api.inference.batcher import Batcher, Steps
from api.inference.rows import MAX_ROWS
from api.v2.models import Models, Named
from api.v2.tensors import Array, Output, datatype_of
from core.errors import InvalidInputError, UnavailableError
from core.ids import TenantId
from udfs.columns import text_column

INPUT, PROBABILITIES, LABEL = "features", "probabilities", "label"
OUTPUTS = (PROBABILITIES, LABEL)
PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("binary_tensor_data",)
NAME = "headrace"

_OURS = frozenset({"model_rejected", "model_not_found", "model_failed", "non_finite_score", "deadline"})


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model; -1 is a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelInfo:
    """What the metadata of a model say."""

    name: str
    version: str
    versions: Sequence[str]
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]


@dataclass(frozen=True)
class Inferred:
    """The outputs of a request, and which version made them."""

    named: Named
    outputs: Sequence[Output]

    @property
    def parameters(self) -> Mapping[str, str]:
        """What the answer rests on."""
        version = self.named.version
        return {
            "artifact_sha256": version.artifact_sha256,
            "signature_hash": version.signature_hash,
            "code_hash": version.code_hash,
        }


class V2:
    """The protocol without its transport."""

    def __init__(self, models: Models, udf_url: str) -> None:
        self._models = models
        steps: Steps[_InferJob, None, pa.StructArray] = Steps(_encode, _decode, _finish)
        self._infer: Batcher[_InferJob, None, pa.StructArray] = Batcher(
            udf_url, "infer", ("model", "version", "features"), steps
        )

    def close(self) -> None:
        """Let go of the UDF server; blocks."""
        self._infer.close()

    async def describe(self, tenant: TenantId, name: str, version: str | None) -> ModelInfo:
        """What a model takes and gives.

        Raises:
            NotFoundError, UnavailableError: see `Models.must_find`.
        """
        named = await self._models.must_find(tenant, name, version)
        signature = named.version.signature
        outputs = [TensorInfo(each.name, datatype_of(each.dtype), each.shape) for each in signature.outputs]
        label = [TensorInfo(LABEL, "BYTES", (-1,))] if named.classes else []
        return ModelInfo(
            name,
            str(named.version.version),
            [str(each) for each in named.versions],
            [TensorInfo(each.name, datatype_of(each.dtype), each.shape) for each in signature.inputs],
            [each for each in outputs if each.name == PROBABILITIES] + label,
        )

    async def is_ready(self, tenant: TenantId, name: str, version: str | None) -> bool:
        """Whether the model can be asked now: it is loaded, and has answered a row.

        Raises:
            NotFoundError: there is no such model.
        """
        named = await self._models.must_find(tenant, name, version)
        width = named.version.signature.inputs[0].shape[-1]
        try:
            await self._ask(named, np.zeros((1, max(width, 1)), np.float32))
        except (InvalidInputError, UnavailableError):
            return False
        return True

    async def infer(
        self, tenant: TenantId, name: str, version: str | None, inputs: Mapping[str, Array], wanted: Sequence[str] | None
    ) -> Inferred:
        """Run a model.

        Args:
            tenant: whose aliases hold.
            name: of the model.
            version: None means the alias `production`, else the newest.
            inputs: must be `features`, [rows, n] of any numeric type.
            wanted: names of outputs; None for all.

        Raises:
            InvalidInputError: the inputs are not what the model takes.
            NotFoundError: there is no such model.
            UnavailableError: the UDF server does not answer.
        """
        named = await self._models.must_find(tenant, name, version)
        known = OUTPUTS if named.classes else (PROBABILITIES,)
        for each in wanted or ():
            if each not in known:
                raise InvalidInputError(f"model `{name}` has no output `{each}`", fix=f"It has {', '.join(known)}.")
        if set(inputs) != {INPUT}:
            raise InvalidInputError(f"model `{name}` got inputs {sorted(inputs)}", fix=f"It takes one, `{INPUT}`.")
        features = inputs[INPUT]
        if features.ndim != 2 or not 1 <= len(features) <= MAX_ROWS:
            raise InvalidInputError(
                f"`{INPUT}` has shape {list(features.shape)}", fix=f"Send [rows, features], 1 to {MAX_ROWS} rows."
            )
        probabilities = await self._ask(named, features)
        made = {PROBABILITIES: Output(PROBABILITIES, probabilities)}
        if named.classes:
            best = np.array(named.classes, object)[probabilities.argmax(axis=1)]
            made[LABEL] = Output(LABEL, best)
        return Inferred(named, [made[each] for each in (wanted or known)])

    async def _ask(self, named: Named, features: Array) -> Array:
        rows = len(features)
        job = _InferJob(named, features, asyncio.get_running_loop().create_future())
        probabilities, errors = (await self._infer.call(job)).flatten()
        told = text_column(errors)
        if told.null_count < rows:
            row, error = next((row, json.loads(each)) for row, each in enumerate(told.to_pylist()) if each is not None)
            kind: Any = UnavailableError if error["code"] in _OURS else InvalidInputError  # Any: either class
            raise kind(f"row {row}: {error['message']}", where=error["code"])
        found: Array = probabilities.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(rows, -1)
        return found


@dataclass(eq=False)
class _InferJob:
    """One request on its way through a batch."""

    named: Named
    features: Array
    answer: asyncio.Future[pa.StructArray]

    @property
    def rows(self) -> int:
        return len(self.features)


def _encode(jobs: list[_InferJob]) -> tuple[Sequence[pa.Array], None]:
    models = [job.named.version.name for job in jobs for _ in range(job.rows)]
    versions = [job.named.version.version for job in jobs for _ in range(job.rows)]
    lengths = np.concatenate([np.full(job.rows, job.features.shape[1], np.int32) for job in jobs])
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    values = np.concatenate([job.features.astype(np.float64).ravel() for job in jobs])
    features = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
    return (pa.array(models, pa.string()), pa.array(versions, pa.int32()), features), None


def _decode(_jobs: list[_InferJob], _encoded: None, answer: pa.StructArray) -> pa.StructArray:
    return answer


async def _finish(jobs: list[_InferJob], answer: pa.StructArray) -> None:
    start = 0
    for job in jobs:
        if not job.answer.done():  # its caller may have gone
            job.answer.set_result(answer.slice(start, job.rows))
        start += job.rows
