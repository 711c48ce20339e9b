"""Reads the settings once: defaults, then `headrace.toml`, then the environment, then the command line.

The only place in the whole project that sees the environment. A name that starts with `HEADRACE_` and is no setting is
an error, because a misspelt setting that is ignored costs somebody an afternoon.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from core.errors import ConfigError
from core.settings import Settings

PREFIX = "HEADRACE_"
NESTING = "__"
TOML_NAME = "headrace.toml"

ALIASES: Mapping[str, str] = {
    "DEFAULT_ALLOCATION_STRATEGY": "experiments.allocation_strategy",
    "DEFAULT_TRAFFIC_PERCENTAGE": "experiments.traffic_percentage",
}
"""Unprefixed names that users were promised, to the setting they mean; the prefixed name wins."""

RESERVED = frozenset(
    {
        # Promised names whose part of the platform is not built yet: accepted, reported by `config explain`, read by nobody.
        "HEADRACE_SEARCH_URL", "HEADRACE_GRAPH_URL", "HEADRACE_LLM_URL",
        "DB_HOST", "DB_PORT", "DB_NAME", "REDIS_HOST", "REDIS_PORT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT",
        "ONLINE_LEARNING_BUFFER_SIZE", "ONLINE_LEARNING_BATCH_SIZE", "ONLINE_LEARNING_LEARNING_RATE", "DRIFT_THRESHOLD",
        "RETRAIN_INTERVAL_HOURS", "MIN_NEW_INTERACTIONS",
    }
)  # fmt: skip

TEST_NAMES = frozenset({"HEADRACE_SERVICES", "HEADRACE_RISINGWAVE_URL"})
"""Read by the test suite only, but inherited by the processes it starts."""

_SECRET_NAME = re.compile(r"password|secret|token|api_?key|private", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):([^@\s]+)@")


@dataclass(frozen=True)
class Explained:
    """One setting as `headrace config explain` shows it; `value` is already masked."""

    name: str
    value: str
    origin: str
    description: str


@dataclass(frozen=True)
class Loaded:
    """The settings and where each value came from.

    Attributes:
        origins: dotted field name to origin; fields at their default are not in it.
        unused: promised names that are set but that nothing reads yet.
    """

    settings: Settings
    origins: Mapping[str, str]
    unused: tuple[str, ...] = ()

    def explain(self) -> list[Explained]:
        """List every setting with its value, origin and meaning, in the order of the tree."""
        rows = []
        for path, description in leaves(Settings):
            value: object = self.settings
            for part in path:
                value = getattr(value, part)
            dotted = ".".join(path)
            rows.append(Explained(dotted, mask(dotted, value), self.origins.get(dotted, "default"), description))
        rows.extend(Explained(name, "(set)", "environment", "Promised name; nothing reads it yet.") for name in self.unused)
        return rows


def load(environ: Mapping[str, str], *, directory: Path | None = None, overrides: Mapping[str, object] | None = None) -> Loaded:
    """Merge all origins into the settings.

    Args:
        environ: the process environment.
        directory: where `headrace.toml` is looked for; None reads none. `HEADRACE_CONFIG` names another file.
        overrides: dotted field name to value, from the command line; None values are left out.

    Raises:
        ConfigError: a name is unknown or a value does not fit; the text says which, where, and what is nearest.
    """
    known = {".".join(path) for path, _ in leaves(Settings)}
    values: dict[str, object] = {}
    origins: dict[str, str] = {}

    def put(dotted: str, value: object, origin: str) -> None:
        values[dotted] = value
        origins[dotted] = origin

    named = environ.get(PREFIX + "CONFIG")
    file = Path(named) if named else directory / TOML_NAME if directory else None
    if named and file is not None and not file.is_file():
        raise ConfigError(f"`{PREFIX}CONFIG` names `{named}`, which is no file", fix="Create it or unset the variable.")
    if file is not None and file.is_file():
        for dotted, value in _read_toml(file, known):
            put(dotted, value, str(file))
    for alias, dotted in ALIASES.items():
        if alias in environ:
            put(dotted, _from_text(dotted, environ[alias], alias), alias)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in RESERVED | TEST_NAMES or name == PREFIX + "CONFIG":
            continue
        dotted = name.removeprefix(PREFIX).lower().replace(NESTING, ".")
        if dotted not in known:
            raise _unknown(name, [environment_name(each) for each in known], "the environment")
        put(dotted, _from_text(dotted, environ[name], name), name)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            put(dotted, value, "command line")

    try:
        settings = Settings.model_validate(_nest(values))
    except ValidationError as error:
        first = error.errors()[0]
        dotted = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"setting `{dotted}` cannot be `{mask(dotted, first['input'])}`: {first['msg']}",
            where=origins.get(dotted, "defaults"),
            fix="`headrace config explain` lists every setting with its meaning.",
        ) from error
    return Loaded(settings, origins, tuple(sorted(RESERVED & environ.keys())))


def leaves(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and description of every setting that is not itself a group."""
    for name, info in model.model_fields.items():
        if inspect.isclass(info.annotation) and not get_origin(info.annotation) and issubclass(info.annotation, BaseModel):
            yield from leaves(info.annotation, (*prefix, name))
        else:
            yield (*prefix, name), info.description or ""


def environment_name(dotted: str) -> str:
    """The variable that sets a field: `engine.threads` is `HEADRACE_ENGINE__THREADS`."""
    return PREFIX + dotted.replace(".", NESTING).upper()


def to_environment(settings: Settings) -> dict[str, str]:
    """Write the settings as variables, so that a child process reads exactly what its parent resolved."""
    result = {}
    for path, _ in leaves(Settings):
        value: object = settings
        for part in path:
            value = getattr(value, part)
        if value is not None:
            result[environment_name(".".join(path))] = _to_text(value)
    return result


def mask(dotted: str, value: object) -> str:
    """Write a value for people: secrets and passwords inside URLs become `****`."""
    if value is None:
        return ""
    if _SECRET_NAME.search(dotted):
        return "****" if value else ""
    return _URL_PASSWORD.sub(r"\1:****@", str(value))


def _from_text(dotted: str, text: str, origin: str) -> object:
    """Lists and mappings are written as JSON; everything else pydantic reads from its text."""
    if _kinds()[dotted] not in (dict, tuple):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"setting `{dotted}` is no JSON: {error.msg}", where=origin, fix='Write e.g. `["a"]` or `{"a": "b"}`.'
        ) from error


def _to_text(value: object) -> str:
    if isinstance(value, (dict, tuple)):
        return json.dumps(
            value, default=lambda secret: secret.get_secret_value() if isinstance(secret, SecretStr) else str(secret)
        )
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _kinds() -> dict[str, object]:
    """Dotted field name to its type, generics by their origin."""
    result: dict[str, object] = {}
    for path, _ in leaves(Settings):
        model: type[BaseModel] = Settings
        for group in path[:-1]:
            inner = model.model_fields[group].annotation
            assert isinstance(inner, type)
            model = inner
        annotation = model.model_fields[path[-1]].annotation
        result[".".join(path)] = get_origin(annotation) or annotation
    return result


def _read_toml(file: Path, known: set[str]) -> Iterator[tuple[str, object]]:
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"`{file.name}` is not TOML: {error}", where=str(file)) from error
    for dotted, value in _flatten(tree, known):
        if dotted not in known:
            raise _unknown(dotted, known, str(file))
        yield dotted, value


def _flatten(tree: Mapping[str, Any], known: set[str], prefix: str = "") -> Iterator[tuple[str, object]]:  # Any: TOML's values
    for name, value in tree.items():
        if isinstance(value, dict) and f"{prefix}{name}" not in known:
            yield from _flatten(value, known, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _nest(values: Mapping[str, object]) -> dict[str, object]:
    root: dict[str, Any] = {}  # Any: a tree of unknown depth
    for dotted, value in values.items():
        node = root
        *groups, leaf = dotted.split(".")
        for group in groups:
            node = node.setdefault(group, {})
        node[leaf] = value
    return root


def _unknown(name: str, candidates: Iterable[str], where: str) -> ConfigError:
    nearest = difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=0.0)
    return ConfigError(f"unknown setting `{name}`", where=where, fix=f"Did you mean `{nearest[0]}`?")
