"""What an ONNX file could do besides computing: which operators, from whom, how large, and whether it reads other files."""

from __future__ import annotations

from typing import Any

import onnx
from pydantic import Field

from iceberg.onnx_guard import STANDARD_DOMAINS, check_onnx, operators_of
from learning.promotion.checks.operators import ALLOWED
from learning.promotion.checks.requirement import Outcome, Requirement, Subject

_MEGABYTES_64 = 64 * 1024 * 1024


class SecurityScan(Requirement):
    """Every operator is on the allow-list, every domain is a standard one, all weights are inside, and the size is in bounds.

    `operators` stands instead of the built-in list, `also` is added to it.
    """

    max_bytes: int = Field(_MEGABYTES_64, ge=1)
    domains: tuple[str, ...] = tuple(sorted(STANDARD_DOMAINS))
    operators: tuple[str, ...] | None = None
    also: tuple[str, ...] = ()

    def run(self, subject: Subject) -> Outcome:
        return self.scan(subject.artifact, subject.version.reference)

    def scan(self, artifact: bytes, name: str) -> Outcome:
        """As `run`, of any bytes.

        Raises:
            InvalidInputError: they are no plain, self-contained ONNX model (see `iceberg.onnx_guard`).
        """
        check_onnx(artifact, name)
        model = onnx.load_model_from_string(artifact)
        used = operators_of(model)
        allowed = {*(self.operators if self.operators is not None else ALLOWED), *self.also}
        problems = []
        if len(artifact) > self.max_bytes:
            problems.append(f"it has {len(artifact)} bytes, {self.max_bytes} are allowed")
        foreign = sorted({entry.domain for entry in model.opset_import} - set(self.domains))
        if foreign:
            problems.append(f"it imports operators of `{', '.join(foreign)}`")
        unknown = sorted(set(used) - allowed)
        if unknown:
            problems.append(f"the operators `{', '.join(unknown)}` are not on the allow-list")
        told: dict[str, Any] = {  # Any: JSON
            "bytes": len(artifact),
            "operators": dict(sorted(used.items())),
            "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
            "external_data": False,  # or `check_onnx` had raised
            "functions": len(model.functions),
        }
        return Outcome(not problems, "; ".join(problems) or f"{len(used)} operators, all allowed; {len(artifact)} bytes", told)
