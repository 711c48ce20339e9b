"""Feature views from their folders into the stream database and the registry: where pipelines and features meet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import psycopg
from pyiceberg.catalog import Catalog

from core.clock import Clock
from core.errors import InvalidInputError
from core.settings import Settings
from features import lint
from features.declaration import FeatureView
from features.lint import Finding
from features.reading import FILE, Declared, read_folder
from features.registry import FeatureRegistry
from features.serving_sql import serving_sql
from pipelines import deployer
from pipelines.deployer import Applied
from pipelines.folder import Endpoint, Pipeline, Route
from pipelines.planning import Allowed
from pipelines.statements import split
from pipelines.template import render


@dataclass
class FeaturesApplied:
    """What an application did.

    Attributes:
        registered: views that got a new version, with it.
        unchanged: views whose version stayed, with it.
        warnings: of the lint.
    """

    objects: Applied
    registered: dict[str, int] = field(default_factory=dict)
    unchanged: dict[str, int] = field(default_factory=dict)
    warnings: list[Finding] = field(default_factory=list)


def declared_in(pipelines: Sequence[Pipeline]) -> dict[str, list[Declared]]:
    """What the pipelines' folders declare, by pipeline; see `features.reading.read_folder`."""
    return {each.name: read_folder(each.path) for each in pipelines if each.path is not None}


def with_serving(pipeline: Pipeline, declared: Sequence[Declared]) -> Pipeline:
    """The pipeline and what makes its feature views readable online."""
    sql = serving_sql(each.view for each in declared)
    if not sql:
        return pipeline
    return replace(pipeline, files=(*pipeline.files, (f"{pipeline.name}/{FILE} (generated)", sql)))


def apply(
    settings: Settings,
    pipelines: Sequence[Pipeline],
    catalog: Catalog,
    clock: Clock,
    *,
    endpoints: Sequence[Endpoint] = (),
    routes: Sequence[Route] = (),
    allowed: Allowed | None = None,
) -> FeaturesApplied:
    """Check the declarations, deploy the pipelines with what serves their features, and register what is new; idempotent.

    Raises:
        InvalidInputError: a declaration or an SQL file is wrong, or a declared column is not in the view; nothing is deployed
            in the first two cases.
        ConflictError, UnavailableError: see `deployer.apply`.
    """
    declared = declared_in(pipelines)
    registry = FeatureRegistry(catalog, clock)
    known = {name: found.view for name, found in registry.latest().items()}
    warnings = lint.must_pass([each for group in declared.values() for each in group], known)
    extended = [with_serving(pipeline, declared.get(pipeline.name, ())) for pipeline in pipelines]
    values = deployer.variables(settings)
    objects = deployer.apply(settings.database_url, extended, values, endpoints=endpoints, routes=routes, allowed=allowed)
    result = FeaturesApplied(objects, warnings=warnings)
    with deployer.connected(settings.database_url) as connection:
        epoch = _epoch(connection)
        for pipeline in pipelines:
            for each in declared.get(pipeline.name, ()):
                _check_columns(connection, each)
                found, is_new = registry.apply(
                    each.view, pipeline=pipeline.name, sql_hash=_sql_hash(pipeline, each.view, values), epoch=epoch
                )
                (result.registered if is_new else result.unchanged)[each.view.name] = found.version
    return result


# -- below: called by the above


def _check_columns(connection: psycopg.Connection, each: Declared) -> None:
    """Each declared column is one of the view's, by name and type."""
    view = each.view
    rows = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s", (view.relation,)
    ).fetchall()
    there = {str(name): str(kind) for name, kind in rows}
    for name in (*view.entity, view.timestamp, *(feature.name for feature in view.features)):
        if name not in there:
            raise InvalidInputError(
                f"view `{view.relation}` has no column `{name}`", where=each.place, fix=f"It has {', '.join(there)}."
            )


def _epoch(connection: psycopg.Connection) -> int | None:
    """The embedded engine's epoch; other databases number theirs otherwise."""
    try:
        row = connection.execute("SELECT epoch FROM rw_catalog.headrace_barriers").fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return int(row[0]) if row is not None and row[0] is not None else None


def _sql_hash(pipeline: Pipeline, view: FeatureView, values: dict[str, str]) -> str | None:
    """Of the view's own statement and of those that it may read from in its folder: layout and comments do not count."""
    statements = [statement for path, text in pipeline.files for statement in split(render(path, text, values))]
    found = [each.fingerprint for each in statements if each.kind == "MATERIALIZED VIEW" and each.name == view.relation]
    return hashlib.sha256("".join(found).encode()).hexdigest()[:16] if found else None
