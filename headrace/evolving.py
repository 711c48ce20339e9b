"""Changes a table's columns after telling what that does to everything that knows them by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from core.errors import HeadraceError
from features.declaration import FeatureView
from features.reading import read_folder
from headrace.impact import Effect, effects
from headrace.places import Place
from iceberg.catalog import open_lake
from iceberg.evolution import Evolution, Step, evolve, preview
from iceberg.loading import must_load
from iceberg.registry import open_registry
from pipelines import folder, snapshot
from pipelines.snapshot import Snapshot


@dataclass(frozen=True)
class Evolved:
    """What was done, or would be.

    Attributes:
        unknown: what could not be asked, and why.
    """

    table: str
    steps: tuple[Step, ...]
    columns: Evolution
    effects: tuple[Effect, ...]
    unknown: tuple[str, ...]
    applied: bool
    forced: bool

    @property
    def breaks(self) -> tuple[Effect, ...]:
        return tuple(effect for effect in self.effects if effect.outcome == "breaks")

    @property
    def refused(self) -> bool:
        return bool(self.breaks) and not self.forced

    def as_json(self) -> dict[str, object]:
        return {
            "table": self.table,
            "steps": [str(step) for step in self.steps],
            "before": dict(self.columns.before),
            "after": dict(self.columns.after),
            "effects": [asdict(effect) for effect in self.effects],
            "breaks": len(self.breaks),
            "unknown": list(self.unknown),
            "refused": self.refused,
            "applied": self.applied,
        }

    def lines(self) -> Iterator[str]:
        for step in self.steps:
            yield f"{self.table}: {step}"
        for effect in self.effects:
            mark = {"breaks": "!", "loses": "-", "keeps": " "}[effect.outcome]
            yield f"{mark} {effect.kind} {effect.name} {effect.outcome}: {effect.reason}"
        for each in self.unknown:
            yield f"? {each}"
        if self.applied:
            yield "changed"
        elif self.refused:
            yield f"refused: {len(self.breaks)} would break; change them first, or give --force"
        else:
            yield "not changed (dry run)"


def evolve_table(
    place: Place, table: str, steps: Sequence[Step], *, folders: Sequence[str] = (), force: bool, dry_run: bool
) -> Evolved:
    """See `headrace tables evolve`.

    Args:
        place: the data folder's platform; where it is stopped, it is said that sinks and views were not asked.
        folders: pipelines besides the built-in ones whose feature views count.

    Raises:
        NotFoundError: the table does not exist.
        InvalidInputError: a step cannot be made.
    """
    catalog = open_lake(place.settings)
    columns = preview(must_load(catalog, table), steps)
    database, unknown = _database(place)
    found = effects(table, steps, declared_views(folders), open_registry(place.settings).list(), database)
    done = Evolved(table, tuple(steps), columns, tuple(found), unknown, applied=False, forced=force)
    if dry_run or done.refused:
        return done
    evolved = evolve(catalog, table, steps)
    return Evolved(table, tuple(steps), evolved, tuple(found), unknown, applied=True, forced=force)


def declared_views(folders: Sequence[str] = ()) -> list[FeatureView]:
    """The feature views of the built-in pipelines and of other folders."""
    places = [*(folder.BUILT_IN / name for name in folder.built_in_names()), *map(Path, folders)]
    return [declared.view for place in places for declared in read_folder(place)]


def _database(place: Place) -> tuple[Snapshot | None, tuple[str, ...]]:
    try:
        with place.connect() as connection:
            return snapshot.read(connection), ()
    except HeadraceError as error:
        return None, (f"sinks and views were not asked: {str(error).splitlines()[0]}",)
