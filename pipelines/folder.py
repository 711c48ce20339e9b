"""A pipeline on disk: `NN_<step>.sql` in order, and `pipeline.yaml` for what SQL cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidInputError, NotFoundError

SHARED = "00_shared"
SCORES = "99_scores"
BUILT_IN = Path(__file__).parent
DATA_FILE = "pipeline.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Endpoint(_Strict):
    """A row of `endpoints`."""

    tenant_id: str
    endpoint: str
    strategy: str = "ensemble_mean"


class Route(_Strict):
    """A row of `routes`."""

    tenant_id: str
    endpoint: str
    model: str
    version: int
    role: str = "champion"
    weight: float = Field(1.0, ge=0)
    fraction: float | None = Field(None, ge=0, le=1)
    epoch: int = 1


class SourceGuard(_Strict):
    """What the embedded engine refuses at a source besides unparsable and late rows; off on RisingWave.

    Attributes:
        max_future_skew: an interval, e.g. `5 minutes`: a row may not be further ahead of the broker's append time.
        required: columns that may not be missing or null.
    """

    max_future_skew: str | None = None
    required: tuple[str, ...] = ()


class PipelineData(_Strict):
    """The content of `pipeline.yaml`."""

    description: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    routes: tuple[Route, ...] = ()
    sources: dict[str, SourceGuard] = {}


@dataclass(frozen=True)
class Pipeline:
    """A folder that was read; `files` is (path as errors name it, text) in the order of application."""

    name: str
    files: tuple[tuple[str, str], ...]
    data: PipelineData
    path: Path | None = None


def load(folder: Path) -> Pipeline:
    """Read a folder.

    Raises:
        NotFoundError: there is no such folder, or no SQL in it.
        InvalidInputError: `pipeline.yaml` is not as it should be, or the folder's name cannot be part of a SQL name.
    """
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no folder `{folder}`", fix=f"Name a folder of SQL files, or one of ours: {', '.join(built_in_names())}."
        )
    name = folder.resolve().name
    if name not in (SHARED, SCORES) and not name.isidentifier():
        raise InvalidInputError(
            f"`{name}` cannot be part of a SQL name", where=str(folder), fix="Name the folder with letters, digits and `_`."
        )
    paths = sorted(folder.glob("*.sql"))
    if not paths:
        raise NotFoundError("there is no SQL file", where=str(folder), fix="Name the files NN_<step>.sql.")
    files = tuple((_shown(path), path.read_text(encoding="utf-8")) for path in paths)
    return Pipeline(name, files, _load_data(folder / DATA_FILE), folder)


def shared() -> Pipeline:
    """What is applied before every pipeline."""
    return load(BUILT_IN / SHARED)


def scores() -> Pipeline:
    """What is applied behind every pipeline, over the views that unite them."""
    return load(BUILT_IN / SCORES)


def built_in_names() -> list[str]:
    """The pipelines that come with headrace."""
    return sorted(path.parent.name for path in BUILT_IN.glob("*/10_*.sql") if path.parent.name not in (SHARED, SCORES))


def find(names: Sequence[str]) -> list[Pipeline]:
    """Read each folder; a bare name that is no folder here means one of ours."""
    return [load(path if (path := Path(name)).is_dir() or name not in built_in_names() else BUILT_IN / name) for name in names]


def _shown(path: Path) -> str:
    """The path as a person in the current folder would write it."""
    absolute, here = path.resolve(), Path.cwd().resolve()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)


def _load_data(file: Path) -> PipelineData:
    if not file.is_file():
        return PipelineData()
    try:
        return PipelineData.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise InvalidInputError("this is no YAML", where=place) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInputError(f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}", where=str(file)) from error
