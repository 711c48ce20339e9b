"""A torch module as a model kind: its logits, softmax behind them, exported to the common ONNX shell.

torch is an extra (`pip install 'headrace[torch]'`) and is imported here only, when a module is wrapped; what is served needs no
torch. The module takes float32[batch, n_features] and gives logits float32[batch, classes]; preprocessing belongs into it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from core.errors import InvalidInputError, NotFoundError
from learning.models.kind import OPSET, Float32, seal


@dataclass(frozen=True)
class TorchModel:
    """A trained module; build it with `wrap_torch`."""

    classes: tuple[str, ...]
    positive: str | None
    module: Any  # torch is not there when this is type-checked
    n_features: int
    kind: str = "torch"

    def probabilities(self, features: Float32) -> Float32:
        torch = load_torch()
        with torch.no_grad():
            answer: Float32 = torch.softmax(self.module(torch.from_numpy(features)), dim=1).numpy()
        return answer

    def to_onnx(self) -> bytes:
        """Export the module; raises InvalidInputError when torch cannot, or the graph is not the common shell's."""
        torch = load_torch()
        shell = torch.nn.Sequential(self.module, torch.nn.Softmax(dim=1)).eval()
        rows = torch.zeros((2, self.n_features), dtype=torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            try:
                torch.onnx.export(
                    shell,
                    (rows,),
                    str(path),
                    input_names=["features"],
                    output_names=["probabilities"],
                    dynamic_axes={"features": {0: "batch"}, "probabilities": {0: "batch"}},
                    opset_version=OPSET,
                    dynamo=False,  # the scripted exporter keeps the batch free without constraints on the module
                )
            except Exception as problem:  # torch raises many kinds
                raise InvalidInputError(
                    f"torch cannot export the module: {str(problem).splitlines()[0]}",
                    fix="Use operators that ONNX has, and no control flow that depends on values.",
                ) from problem
            model = onnx.load(path)  # weights that lie beside it are read into it
        model.graph.name = self.kind
        model.ir_version = min(model.ir_version, 9)
        return seal(model, self.classes, self.positive)


def wrap_torch(module: Any, *, n_features: int, classes: tuple[str, ...], positive: str | None) -> TorchModel:  # Any: as above
    """Take a trained module, check that it gives logits for each class, and put it into evaluation mode.

    Raises:
        NotFoundError: torch is not installed.
        InvalidInputError: the module gives something else.
    """
    torch = load_torch()
    module = module.eval()
    with torch.no_grad():
        logits = module(torch.zeros((2, n_features), dtype=torch.float32))
    if tuple(logits.shape) != (2, len(classes)) or logits.dtype != torch.float32:
        raise InvalidInputError(
            f"the module gives {logits.dtype}{list(logits.shape)} for 2 rows of {n_features}",
            fix=f"Give logits float32[batch, {len(classes)}].",
        )
    return TorchModel(classes, positive, module, n_features)


def load_torch() -> Any:  # Any: a module
    """Import torch; raises NotFoundError with what to install."""
    try:
        import torch
    except ImportError as problem:
        raise NotFoundError(
            "torch is not installed", fix="Install the extra: `pip install 'headrace[torch]'` (some GB)."
        ) from problem
    return torch
