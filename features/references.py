"""What somebody asks for: `view:feature`, or `view` for all of its features, in the order asked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.errors import InvalidInputError, NotFoundError
from features.declaration import Feature, FeatureView


@dataclass(frozen=True)
class Chosen:
    """One feature of one view; `column` is its name in every answer, whatever else is asked for."""

    view: FeatureView
    feature: Feature

    @property
    def column(self) -> str:
        return f"{self.view.name}__{self.feature.name}"


def choose(references: Iterable[str], views: Mapping[str, FeatureView]) -> list[Chosen]:
    """Find what is asked for.

    Raises:
        NotFoundError: there is no such view or feature.
        InvalidInputError: nothing is asked for, or something twice.
    """
    chosen: list[Chosen] = []
    for reference in references:
        name, colon, wanted = reference.partition(":")
        view = views.get(name)
        if view is None:
            raise NotFoundError(f"there is no feature view `{name}`", fix=_nearest(name, views))
        if not colon:
            chosen += [Chosen(view, feature) for feature in view.features]
            continue
        feature = view.feature(wanted)
        if feature is None:
            raise NotFoundError(
                f"feature view `{name}` has no feature `{wanted}`", fix=_nearest(wanted, [each.name for each in view.features])
            )
        chosen.append(Chosen(view, feature))
    if not chosen:
        raise InvalidInputError("no feature is asked for", fix="Name `view:feature`, or `view` for all of its features.")
    seen: set[str] = set()
    for each in chosen:
        if each.column in seen:
            raise InvalidInputError(f"`{each.view.name}:{each.feature.name}` is asked for twice", fix="Name it once.")
        seen.add(each.column)
    return chosen


def by_view(chosen: Iterable[Chosen]) -> dict[str, list[Chosen]]:
    """The same by view's name, in the order of their first mention."""
    result: dict[str, list[Chosen]] = {}
    for each in chosen:
        result.setdefault(each.view.name, []).append(each)
    return result


def _nearest(name: str, known: Iterable[str]) -> str:
    there = sorted(known)
    near = difflib.get_close_matches(name, there, n=1)
    return f"Did you mean `{near[0]}`?" if near else f"There are {', '.join(there) or 'none yet: headrace features apply'}."
