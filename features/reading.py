"""Reads `features.yaml`; an error names file, line and column of what is wrong.

```yaml
feature_views:
  - name: plant
    entity: [tenant_id, entity_id]
    timestamp: feature_end
    owner: plant operations
    features:
      - {name: vibration_avg, type: double precision, unit: mm/s, rules: [{rule: range, min: 0}]}
```
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from core.errors import InvalidInputError
from features.declaration import FeatureView

FILE = "features.yaml"

_TOP = "feature_views"
_VIEWS: TypeAdapter[tuple[FeatureView, ...]] = TypeAdapter(tuple[FeatureView, ...])

type_path = tuple[str | int, ...]


@dataclass(frozen=True)
class Declared:
    """A view and where it is declared, `file:line:column`; empty for one that was declared in Python."""

    view: FeatureView
    place: str = ""


def read_folder(folder: Path) -> list[Declared]:
    """The feature views that a pipeline's folder declares; none where there is no file.

    Raises:
        InvalidInputError: see `read_text`.
    """
    file = folder / FILE
    return read_text(file.read_text(encoding="utf-8"), str(file)) if file.is_file() else []


def read_text(text: str, shown: str = FILE) -> list[Declared]:
    """Read declarations.

    Args:
        shown: the file as errors name it.

    Raises:
        InvalidInputError: it is no YAML, or declares something that is no feature view; the first error by line is told.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark else shown
        raise InvalidInputError(f"this is no YAML: {getattr(error, 'problem', error)}", where=place) from error
    marks: dict[type_path, str] = {}
    if root is not None:
        for path, node in _walk(root, (), shown):
            marks[path] = f"{shown}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
    if not isinstance(data, dict) or set(data) != {_TOP} or not isinstance(data[_TOP], list):
        raise InvalidInputError(
            f"the file declares no `{_TOP}`", where=marks.get((), shown), fix=f"Write `{_TOP}:` and below it a list of views."
        )
    try:
        views = _VIEWS.validate_python(data[_TOP])
    except ValidationError as error:
        raise _first(error, marks) from error
    return [Declared(view, marks.get((_TOP, number), shown)) for number, view in enumerate(views)]


# -- below: called by the above


def _walk(node: yaml.Node, path: type_path, shown: str) -> Iterable[tuple[type_path, yaml.Node]]:
    """Every node with the path to it; a key that is given twice is refused, because YAML forgets the first."""
    yield path, node
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                where = f"{shown}:{key.start_mark.line + 1}:{key.start_mark.column + 1}"
                raise InvalidInputError(f"`{name}` is given twice", where=where, fix="Take one of them away.")
            seen.add(name)
            yield (*path, name, "key"), key
            yield from _walk(value, (*path, name), shown)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _walk(value, (*path, number), shown)


def _first(error: ValidationError, marks: dict[type_path, str]) -> InvalidInputError:
    """The error that comes first in the file."""

    def order(place: str) -> tuple[int, int]:
        *_, line, column = place.rsplit(":", 2)
        return int(line), int(column)

    found = []
    for each in error.errors():
        path: type_path = (_TOP, *each["loc"])
        if each["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            message, path = f"`{path[-1]}` is not known here", (*path, "key")
        elif each["type"] in ("missing", "missing_argument"):
            message = f"`{path[-1]}` is missing"
        else:
            field = next((str(part) for part in reversed(path) if isinstance(part, str)), _TOP)
            message = f"`{field}`: {each['msg'].removeprefix('Value error, ')}"
        while path not in marks and path:  # what is missing has no place; what it is missing from has
            path = path[:-1]
        found.append((order(marks[path]), marks[path], message))
    _, place, message = min(found)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidInputError(message + more, where=place, fix="docs/how-to/declare-features.md shows every key.")
