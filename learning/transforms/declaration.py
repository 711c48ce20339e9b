"""What transformations a model wants, declared once; `runs` says where they are computed.

```yaml
runs: graph                       # in front of the model, inside its ONNX graph; or `stream`: in SQL, before `predict`
transforms:
  - {kind: log, of: [sum_value_24h]}
  - {kind: normalize, of: [log_sum_value_24h, count_24h], method: z_score}
  - {kind: binning, of: [hour_of_day], method: edges, edges: [6, 12, 18], one_hot: true}
  - {kind: embedding, of: [item_code], method: hash, dim: 50}
  - {kind: interaction, of: [z_count_24h, is_weekend]}
keep: [count_24h]                 # besides what no transformation reads; without it nothing else
```

A transformation reads columns of the rows or outputs of those above it. The model gets, in order, every column that none of them
reads, and what `keep` names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidInputError, NotFoundError


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    of: tuple[str, ...] = Field(min_length=1)


class LogTransform(_Strict):
    kind: Literal["log"]
    offset: float = 1.0


class NormalizeTransform(_Strict):
    kind: Literal["normalize"]
    method: Literal["z_score", "min_max"] = "z_score"
    clip: bool = False


class BinningTransform(_Strict):
    kind: Literal["binning"]
    method: Literal["equal_width", "quantile", "edges"] = "equal_width"
    bins: int = 10
    edges: tuple[float, ...] = ()
    one_hot: bool = False


class EmbeddingTransform(_Strict):
    kind: Literal["embedding"]
    method: Literal["hash", "lookup"] = "hash"
    dim: int = 50
    buckets: int = 1024
    seed: int = 0
    vectors: dict[int, tuple[float, ...]] | None = None


class PolynomialTransform(_Strict):
    kind: Literal["polynomial"]
    degree: int = 2


class InteractionTransform(_Strict):
    kind: Literal["interaction"]
    degree: int = 2
    pairs: tuple[tuple[str, ...], ...] = ()


Transform = Annotated[
    LogTransform | NormalizeTransform | BinningTransform | EmbeddingTransform | PolynomialTransform | InteractionTransform,
    Field(discriminator="kind"),
]


class Declaration(BaseModel):
    """See the head of the module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    transforms: tuple[Transform, ...]
    runs: Literal["graph", "stream"] = "graph"
    keep: tuple[str, ...] = ()


def read_declaration(path: Path) -> Declaration:
    """Read a YAML file.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: it declares something else; the first error is told.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no file `{path}`", fix="Name a YAML file of transformations.")
    try:
        return Declaration.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise InvalidInputError(f"this is no YAML: {error}", where=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidInputError(
            f"`{place}`: {first['msg']}", where=str(path), fix="docs/how-to/transform-features.md shows every key."
        ) from error
