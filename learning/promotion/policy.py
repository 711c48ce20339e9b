"""Promotion policies as data: which checks guard which stage.

What is wrong with the file's form is an error when it is read. What is wrong with a requirement (a check that nobody knows, a
parameter that is missing) is a requirement that is not met, and recorded as such: a policy can never be wider than it reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidInputError, NotFoundError
from iceberg.stages import DELETED

BUILT_IN = Path(__file__).with_name("policy.yaml")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class StagePolicy(_Strict):
    """What guards a stage, and what entering it means; see `policy.yaml`."""

    from_: tuple[str, ...] | None = Field(None, alias="from")
    exclusive: bool = False
    replaced: str = "archived"
    aliases: tuple[str, ...] = ()
    requirements: tuple[dict[str, Any], ...] = ()  # Any: YAML, read by each check
    unguarded: bool = False


class Policy(_Strict):
    """The whole file."""

    registration: tuple[dict[str, Any], ...] = ()  # Any: as above
    stages: dict[str, StagePolicy] = {}

    @property
    def sha256(self) -> str:
        """Names the policy in the record of each decision."""
        told = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def must_get(self, stage: str) -> StagePolicy:
        """The policy of a stage.

        Raises:
            InvalidInputError: there is no such stage.
        """
        found = self.stages.get(stage)
        if found is None:
            raise InvalidInputError(f"there is no stage `{stage}`", fix=f"The policy has: {', '.join(self.stages)}.")
        return found


def load_policy(path: Path | None = None) -> Policy:
    """The built-in policy, with the stages and the registration gate of a file in their places.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no policy.
    """
    built_in = parse_policy(yaml.safe_load(BUILT_IN.read_text(encoding="utf-8")), where=str(BUILT_IN))
    if path is None:
        return built_in
    if not path.is_file():
        raise NotFoundError("there is no policy file", where=str(path), fix="Mend the setting `registry.policy`.")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InvalidInputError("this is no YAML", where=str(path)) from error
    own = parse_policy(document, where=str(path))
    registration = own.registration if "registration" in own.model_fields_set else built_in.registration
    return Policy(registration=registration, stages={**built_in.stages, **own.stages})


def parse_policy(document: object, *, where: str) -> Policy:
    """Read the content of a policy file.

    Raises:
        InvalidInputError: it is not of that form.
    """
    if not isinstance(document, Mapping):
        raise InvalidInputError("a policy is a mapping", where=where, fix="Write `stages:` and below it each stage.")
    try:
        policy = Policy.model_validate(dict(document))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"`{place}` is wrong: {first['msg']}", where=where) from error
    for name, stage in policy.stages.items():
        if name == DELETED:
            raise InvalidInputError(
                f"`{DELETED}` is what `headrace models delete` records", where=where, fix="Choose another name."
            )
        if stage.unguarded and stage.requirements:
            raise InvalidInputError(
                f"stage `{name}` has requirements and is `unguarded`", where=where, fix="Remove one of them."
            )
    return policy
