"""What no single declaration shows: views that depend on each other in a circle, and values that must go stale.

Errors make an application impossible; warnings are told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from core.errors import InvalidInputError
from features.declaration import FeatureView
from features.durations import write_duration
from features.reading import Declared


@dataclass(frozen=True)
class Finding:
    """Something about a view that should be, or must be, changed."""

    level: Literal["error", "warning"]
    view: str
    message: str
    place: str = ""
    fix: str | None = None


def lint(declared: Sequence[Declared], known: Mapping[str, FeatureView] | None = None) -> list[Finding]:
    """Look at views together.

    Args:
        known: views that are registered already and may be depended on.
    """
    findings = list(_repeated(declared))
    views = {**(known or {}), **{each.view.name: each.view for each in declared}}
    places = {each.view.name: each.place for each in declared}
    for each in declared:
        findings += _references(each, views)
        findings += _staleness(each, views)
    findings += _cycles(views, places)
    return sorted(findings, key=lambda finding: (finding.level, finding.view))


def must_pass(declared: Sequence[Declared], known: Mapping[str, FeatureView] | None = None) -> list[Finding]:
    """Lint, and return the warnings.

    Raises:
        InvalidInputError: there are errors; the first one is told.
    """
    findings = lint(declared, known)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InvalidInputError(first.message + more, where=first.place or f"feature view {first.view}", fix=first.fix)
    return findings


def in_order(views: Mapping[str, FeatureView]) -> list[FeatureView]:
    """Each view after those it depends on; those that are not among them count as there."""
    graph = {name: sorted(set(view.depends_on) & views.keys()) for name, view in sorted(views.items())}
    return [views[name] for name in TopologicalSorter(graph).static_order()]


# -- below: called by the above


def _repeated(declared: Sequence[Declared]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for each in declared:
        name = each.view.name
        if name in first:
            yield Finding("error", name, f"feature view `{name}` is declared twice, first at {first[name]}", each.place)
        first.setdefault(name, each.place or "an earlier place")


def _references(each: Declared, views: Mapping[str, FeatureView]) -> Iterator[Finding]:
    view = each.view
    for name in view.depends_on:
        if name not in views:
            fix = f"Known are {', '.join(sorted(views))}."
            yield Finding("error", view.name, f"`{view.name}` depends on `{name}`, which nobody declares", each.place, fix)
    for feature in view.features:
        for written in feature.inputs:
            other, dot, column = written.partition(".")
            if not dot:
                continue
            if other not in view.depends_on:
                message = f"`{view.name}.{feature.name}` is computed from `{written}`, but `depends_on` does not name `{other}`"
                yield Finding("error", view.name, message, each.place, f"Write `depends_on: [{other}]`.")
            elif other in views and views[other].feature(column) is None:
                message = f"`{view.name}.{feature.name}` is computed from `{written}`, but `{other}` has no such feature"
                yield Finding("error", view.name, message, each.place)


def _staleness(each: Declared, views: Mapping[str, FeatureView]) -> Iterator[Finding]:
    view = each.view
    if view.frequency > view.ttl:
        message = (
            f"values of `{view.name}` expire after {write_duration(view.ttl)} but come only every "
            f"{write_duration(view.frequency)}: in between there are none"
        )
        yield Finding("warning", view.name, message, each.place, "Raise `ttl`, or compute them more often.")
    for name in view.depends_on:
        other = views.get(name)
        if other is not None and other.frequency > view.ttl:
            message = (
                f"`{view.name}` expires after {write_duration(view.ttl)} but depends on `{name}`, which changes every "
                f"{write_duration(other.frequency)}"
            )
            yield Finding("warning", view.name, message, each.place, "Raise `ttl`, or depend on something fresher.")
        elif other is not None and other.frequency > view.frequency:
            message = (
                f"`{view.name}` is to change every {write_duration(view.frequency)} but depends on `{name}`, which changes every "
                f"{write_duration(other.frequency)}"
            )
            yield Finding("warning", view.name, message, each.place, "State the slower frequency.")


def _cycles(views: Mapping[str, FeatureView], places: Mapping[str, str]) -> Iterator[Finding]:
    graph = {name: sorted(set(view.depends_on) & views.keys()) for name, view in sorted(views.items())}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))  # graphlib tells it from what is needed to what needs it
        told = " -> ".join(circle)
        name = next((each for each in circle if places.get(each)), circle[0])
        yield Finding("error", name, f"feature views depend on each other in a circle: {told}", places.get(name, ""))
