"""The same ONNX file behind BentoML."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1)
class Forest:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(os.environ["MODEL_FILE"], options, providers=["CPUExecutionProvider"])

    @bentoml.api
    async def predict(self, features: list[list[float]]) -> list[list[float]]:
        (probabilities,) = self._session.run(["probabilities"], {"features": np.array(features, np.float32)})
        return probabilities.tolist()
