"""torch models, where the extra is installed; and what is said where it is not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from core.errors import InvalidInputError, NotFoundError
from learning.models.torch_module import load_torch, wrap_torch
from udfs.route import ModelKey
from udfs.sessions import load_model

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="the extra `torch` is not installed: some GB that nothing else needs")


class OneModel:
    def __init__(self, artifact: bytes) -> None:
        self.artifact = artifact

    def load_artifact(self, name: str, version: int) -> bytes:
        return self.artifact


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed")
def test_without_the_extra_the_error_says_what_to_install() -> None:
    with pytest.raises(NotFoundError, match=r"torch is not installed.*pip install 'headrace\[torch\]'"):
        wrap_torch(object(), n_features=3, classes=("a", "b"), positive="b")


def test_nothing_on_the_default_path_imports_torch() -> None:
    code = (
        "import sys, learning.train, learning.parity, learning.models.torch_module, udfs.server; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@needs_torch
def test_onnx_says_what_torch_says() -> None:
    torch = load_torch()
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 20)),
        torch.nn.Conv1d(1, 4, 3, padding=1),
        torch.nn.BatchNorm1d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(80, 3),
    )
    model = wrap_torch(module, n_features=20, classes=("a", "b", "c"), positive=None)
    rows = np.random.default_rng(0).normal(size=(500, 20)).astype(np.float32)
    served = load_model(ModelKey("torch", 1), OneModel(model.to_onnx()))
    assert np.abs(served.probabilities(rows) - model.probabilities(rows)).max() < 1e-5
    assert np.abs(served.probabilities(rows[:1]) - model.probabilities(rows[:1])).max() < 1e-5
    assert served.signature.classes == ("a", "b", "c")


@needs_torch
def test_a_module_that_gives_no_logits_is_refused() -> None:
    torch = load_torch()
    with pytest.raises(InvalidInputError, match=r"Give logits float32\[batch, 2\]"):
        wrap_torch(torch.nn.Linear(3, 5), n_features=3, classes=("a", "b"), positive="b")
