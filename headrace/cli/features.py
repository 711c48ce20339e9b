"""`headrace features`: declare, read online and offline, prove, and trace features."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.clock import SystemClock
from core.errors import InvalidInputError, NotFoundError
from headrace.cli import feature_templates
from headrace.cli.context import AsJson, DataDir, Root, load_lake_settings, load_settings
from headrace.cli.feature_validate import validate
from headrace.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg
    from pyiceberg.catalog import Catalog

    from core.settings import Settings
    from features.online import Answer
    from features.registry import Registered

app = typer.Typer(no_args_is_help=True, help="Features: declare once, read now and as of then, and prove both the same.")
app.add_typer(feature_templates.app, name="template")
app.command("validate")(validate)

Folders = Annotated[
    list[str], typer.Argument(help="Pipeline folders with a features.yaml, or names of built-in ones.", metavar="FOLDER...")
]
References = Annotated[
    list[str], typer.Argument(help="`view:feature`, or `view` for all of its features.", metavar="FEATURE...")
]
SomeViews = Annotated[list[str] | None, typer.Argument(help="Feature views; default: all.", metavar="[VIEW]...")]
Entities = Annotated[
    list[str] | None, typer.Option("--entity", help="A key, `tenant_id=acme,entity_id=pump-1`; may be repeated.")
]
EntityFile = Annotated[Path | None, typer.Option("--entities", help="A CSV file with the keys, one entity a line.")]


@app.command("apply")
def apply_(
    context: typer.Context,
    folders: Folders,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the declarations, print the SQL, change nothing.")] = False,
    allow_sink_rebuild: Annotated[bool, typer.Option("--allow-sink-rebuild", help="See headrace pipeline apply.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Deploy pipelines with what serves their features, and register each declaration that is new as a version; idempotent.

    Example: headrace features apply plant telemetry
    """
    from features import lint
    from features.serving_sql import serving_sql
    from headrace import feature_views
    from iceberg.catalog import open_lake
    from pipelines import folder
    from pipelines.planning import Allowed

    pipelines = folder.find(folders)
    declared = feature_views.declared_in(pipelines)
    every = [each for group in declared.values() for each in group]
    if not every:
        raise NotFoundError(f"no features.yaml in {', '.join(folders)}", fix="See docs/how-to/declare-features.md.")
    settings = load_settings(context, data_dir=data_dir).settings
    if dry_run:
        warnings = lint.must_pass(every)
        sql = serving_sql(each.view for each in every)
        if as_json:
            print_json({"views": [each.view.name for each in every], "warnings": [asdict(w) for w in warnings], "sql": sql})
        else:
            typer.echo(sql.rstrip())
            _warn(warnings)
        return
    done = feature_views.apply(
        settings, pipelines, open_lake(settings), SystemClock(), allowed=Allowed(sink_rebuild=allow_sink_rebuild)
    )
    if as_json:
        print_json(
            {
                "registered": done.registered,
                "unchanged": done.unchanged,
                "created": done.objects.created,
                "rebuilt": done.objects.rebuilt,
                "warnings": [asdict(warning) for warning in done.warnings],
            }
        )
        return
    for name, version in sorted({**done.registered, **done.unchanged}.items()):
        typer.echo(f"{name} version {version}{' (new)' if name in done.registered else ''}")
    typer.echo(f"{len(done.objects.created)} objects created, {len(done.objects.rebuilt)} rebuilt")
    _warn(done.warnings)


@app.command("list")
def list_(
    context: typer.Context,
    views: SomeViews = None,
    versions: Annotated[bool, typer.Option("--versions", help="All versions, not only the last of each view.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The registered feature views: entity, features, owner, ttl, version.

    Example: headrace features list plant --versions
    """
    from features.declaration import to_json
    from features.durations import write_duration

    registry = _registry(load_lake_settings(context, data_dir))
    found = [each for each in registry.versions() if versions or each is not None]
    if not versions:
        found = list({each.view.name: each for each in found}.values())
    if views:
        found = [registry.must_get(name) for name in views] if not versions else [f for f in found if f.view.name in views]
    if as_json:
        print_json(
            [
                {**json.loads(to_json(f.view)), "version": f.version, "applied_at": f.applied_at, "pipeline": f.pipeline}
                for f in found
            ]
        )
        return
    rows = [
        {
            "view": f.view.name,
            "version": f.version,
            "entity": ", ".join(f.view.entity),
            "features": len(f.view.features),
            "ttl": write_duration(f.view.ttl),
            "every": write_duration(f.view.frequency),
            "owner": f.view.owner or "",
        }
        for f in found
    ]
    print_rows(rows, as_json=False)


@app.command()
def get(
    context: typer.Context,
    features: References,
    entity: Entities = None,
    entities: EntityFile = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="A past time, answered from the lake.")] = None,
    known: Annotated[
        str, typer.Option("--known", help="With --as-of: `then`, what a read would have found, or `corrected`.")
    ] = "then",
    after: Annotated[
        list[str] | None, typer.Option("--after", help="Wait until the event at PARTITION:OFFSET went in; may be repeated.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait with --after.")] = 10.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Features of some entities now, each answer with how far the stream was read and the age of what was found.

    Example: headrace features get plant:vibration_avg --entity tenant_id=acme,entity_id=pump-1
    """
    from features import online
    from features.references import choose

    wanted = _entities(entity, entities)
    with _database(context, data_dir) as (connection, catalog, registered, _):
        chosen = choose(features, {name: each.view for name, each in registered.items()})
        clock = SystemClock()
        if as_of is not None:
            from features.past import get_as_of
            from features.training import read_known

            answer = get_as_of(catalog, chosen, wanted, _moment(as_of), clock.now(), read_known(known))
        else:
            answer = online.get(connection, chosen, wanted, clock.now, after=_positions(after), timeout_seconds=timeout)
    _print_answer(answer, as_json=as_json)


@app.command()
def push(
    context: typer.Context,
    stream: Annotated[str, typer.Argument(help="The stream; events go to topic `events.STREAM`.")],
    file: Annotated[Path, typer.Argument(help="JSON objects, one a line; `-` reads standard input.")],
    batch_rows: Annotated[int, typer.Option("--batch-rows", min=1, help="A batch of so many goes at once.")] = 100,
    batch_seconds: Annotated[float, typer.Option("--batch-seconds", min=0, help="No event waits longer than this.")] = 1.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send events in batches, by size or time, and tell the position to wait for with `get --after`.

    Example: headrace features push plant events.jsonl --json
    """
    from datetime import timedelta

    from features.pushing import Pusher
    from headrace.places import find_place
    from headrace.topic_sender import TopicSender

    settings = find_place(load_settings(context, data_dir=data_dir)).settings
    sender = TopicSender(settings.kafka, f"events.{stream}")
    sent = 0
    with (
        Pusher(sender.send, SystemClock(), rows=batch_rows, age=timedelta(seconds=batch_seconds)) as pusher,
        _lines(file) as lines,
    ):
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidInputError("this is no JSON", where=f"{file}:{number}") from error
            if not isinstance(row, dict):
                raise InvalidInputError("an event is a JSON object", where=f"{file}:{number}")
            pusher.add(row)
            sent += 1
    after = [f"{partition}:{offset}" for partition, offset in sorted(pusher.positions.items())]
    if as_json:
        print_json({"sent": sent, "batches": pusher.batches, "after": after})
    else:
        typer.echo(f"{sent} events sent in {pusher.batches} batches; they are in when --after {' --after '.join(after)} is")


@app.command()
def history(
    context: typer.Context,
    features: Annotated[list[str] | None, typer.Argument(help="`view:feature`, or `view`.", metavar="[FEATURE]...")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="CSV, Parquet, or a table `lake.NAME`.")] = None,
    time: Annotated[str, typer.Option("--time", help="The labels' column with their time.")] = "event_time",
    out: Annotated[Path | None, typer.Option("--out", help="Write the training set here, .parquet or .csv.")] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="Write what it was made of; default: OUT.manifest.json.")
    ] = None,
    known: Annotated[
        str, typer.Option("--known", help="Which version of a corrected row: `corrected`, `then`, or a time.")
    ] = "corrected",
    at: Annotated[str | None, typer.Option("--at", help="Pin the tables as they were at this time.")] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="Also from when to when each view's values hold.")] = False,
    reproduce: Annotated[
        Path | None, typer.Option("--reproduce", help="Make the set of this manifest again and compare.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """A training set: labels with the features that were true at their time; only the lake is read.

    Example: headrace features history plant --labels labels.csv --out train.parquet
    """
    from features import training
    from iceberg.catalog import open_lake

    settings = load_lake_settings(context, data_dir)
    catalog = open_lake(settings)
    if reproduce is not None:
        made = training.reproduce(catalog, training.Manifest.read(reproduce))
    else:
        if labels is None or not features:
            raise InvalidInputError(
                "labels and features are needed", fix="headrace features history VIEW:FEATURE --labels FILE"
            )
        registered = _registry(settings).latest()
        made = training.build(
            catalog,
            labels,
            features,
            {name: each.view for name, each in registered.items()},
            time=time,
            known=training.read_known(known),
            intervals=intervals,
            at=_moment(at) if at is not None else None,
            made_at=SystemClock().now(),
            versions={name: each.version for name, each in registered.items()},
        )
    if out is not None:
        training.write(made.rows, out)
        file = manifest or out.with_name(out.name + ".manifest.json")
        if reproduce is None:
            file.write_text(made.manifest.dumps(), encoding="utf-8")
    if as_json:
        print_json({**asdict(made.manifest), "out": str(out) if out else None, "reproduced": reproduce is not None})
    elif out is None and reproduce is None:
        print_rows(made.rows.to_pylist(), as_json=False)
    else:
        typer.echo(f"{made.manifest.rows} rows, content {made.manifest.content_sha256[:16]}{' as before' if reproduce else ''}")
        for name, count in made.manifest.unmatched.items():
            if count:
                typer.echo(f"{name}: {count} labels found nothing within the ttl")


@app.command()
def verify(
    context: typer.Context,
    views: SomeViews = None,
    moments: Annotated[
        int, typer.Option("--moments", min=0, help="Moments of the past at which served values are compared.")
    ] = 20,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many differences are told in full.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Prove that features are the same online and computed anew from the raw events in the lake.

    A stopped platform's database is started meanwhile. Subjects that were erased from the lake are left out and counted. Exits with
    1 if anything differs, or nothing could be compared.

    Example: headrace features verify plant --json
    """
    from features import parity
    from headrace.erasing import erased_subjects

    with _database(context, data_dir) as (connection, catalog, registered, settings):
        chosen = [_must_have(registered, name) for name in views] if views else list(registered.values())
        report = parity.verify(
            connection,
            catalog,
            [each.view for each in chosen],
            moments=moments,
            limit=limit,
            since_epochs={each.view.name: each.epoch or 0 for each in chosen},
            erased=[parity.Erased(each.tenant, each.name) for each in erased_subjects(settings)],
        )
    if as_json:
        print_json(asdict(report))
    else:
        print_rows([{"view": name, **asdict(view)} for name, view in report.views.items()], as_json=False)
        for found in report.found:
            where = ", ".join(f"{key}={value}" for key, value in found.entity.items())
            typer.echo(
                f"{found.view}:{found.feature or '*'} of {where} at {found.timestamp}: online {found.online}, offline {found.offline}"
                f" ({found.kind}, {found.at})"
            )
        for suspect in report.suspects:
            typer.echo(
                f"{suspect.view}:{suspect.feature} differs in {suspect.differing} of {suspect.compared}: look at the {suspect.likely}"
            )
        typer.echo(f"{report.compared} values compared, {report.mismatches} differ")
    if report.mismatches or not report.compared:
        raise typer.Exit(1)


@app.command()
def lag(context: typer.Context, views: SomeViews = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """How far behind each feature view is, by event time and by what waits to be processed.

    Example: headrace features lag plant
    """
    from features.lag import lags

    with _database(context, data_dir) as (connection, _, registered, _settings):
        chosen = [_must_have(registered, name) for name in views] if views else list(registered.values())
        found = lags(connection, [each.view for each in chosen], SystemClock().now())
    print_rows([asdict(each) for each in found], as_json=as_json)


@app.command()
def lineage(context: typer.Context, features: References, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Where features come from, column by column, and which predictions, endpoints and models use them.

    Example: headrace features lineage plant:vibration_avg
    """
    from headrace.feature_lineage import read_routes, trace
    from iceberg.registry import Registry
    from pipelines import snapshot

    with _database(context, data_dir) as (connection, catalog, registered, settings):
        models = Registry(catalog, settings.resolved_warehouse).list()
        found = trace(
            features,
            {name: each.view for name, each in registered.items()},
            snapshot.read(connection),
            models,
            read_routes(connection),
        )
    if as_json:
        print_json([asdict(each) for each in found])
        return
    rows = [
        {
            "feature": each.feature,
            "from": ", ".join(each.columns or each.declared),
            "consumers": ", ".join(each.consumers),
            "models": ", ".join(f"{use.model}@{use.version} in {', '.join(use.endpoints)}" for use in each.models),
        }
        for each in found
    ]
    print_rows(rows, as_json=False)


# -- below: called by the above


@contextmanager
def _database(
    context: typer.Context, data_dir: Path | None
) -> Iterator[tuple[psycopg.Connection[tuple[Any, ...]], Catalog, Mapping[str, Registered], Settings]]:
    """The stream database, the lake and what is registered."""
    from headrace.stored import running_database
    from iceberg.catalog import open_lake
    from pipelines.deployer import connected

    root: Root = context.obj
    with running_database(load_settings(context, data_dir=data_dir), root.environ) as settings:
        catalog = open_lake(settings)
        registered = _registry(settings).latest()
        if not registered:
            raise NotFoundError(
                "no feature view is registered", where=str(settings.data_dir), fix="headrace features apply PIPELINE"
            )
        with connected(settings.database_url) as connection:
            yield connection, catalog, registered, settings


def _registry(settings: Settings) -> Any:  # Any: the import is late, see the other commands
    from features.registry import FeatureRegistry
    from iceberg.catalog import open_lake

    return FeatureRegistry(open_lake(settings), SystemClock())


def _must_have(registered: Mapping[str, Registered], name: str) -> Registered:
    if name not in registered:
        raise NotFoundError(f"there is no feature view `{name}`", fix=f"There are {', '.join(sorted(registered))}.")
    return registered[name]


def _entities(given: Sequence[str] | None, file: Path | None) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for text in given or ():
        pairs = [part.partition("=") for part in text.split(",")]
        if not all(name and equals for name, equals, _ in pairs):
            raise InvalidInputError(f"`{text}` is no entity", where="--entity", fix="Write `tenant_id=acme,entity_id=pump-1`.")
        found.append({name.strip(): value for name, _, value in pairs})
    if file is not None:
        if not file.is_file():
            raise NotFoundError(f"there is no file `{file}`", where="--entities")
        with file.open(newline="", encoding="utf-8") as lines:
            found += [dict(row) for row in csv.DictReader(lines)]
    return found


@contextmanager
def _lines(file: Path) -> Iterator[Iterable[str]]:
    if str(file) == "-":
        yield sys.stdin
        return
    if not file.is_file():
        raise NotFoundError(f"there is no file `{file}`", fix="Name a file with one JSON object a line, or `-`.")
    with file.open(encoding="utf-8") as lines:
        yield lines


def _positions(given: Sequence[str] | None) -> dict[int, int]:
    result = {}
    for text in given or ():
        partition, colon, offset = text.partition(":")
        if not (colon and partition.isdigit() and offset.isdigit()):
            raise InvalidInputError(f"`{text}` is no position", where="--after", fix="Write PARTITION:OFFSET, e.g. 0:1234.")
        result[int(partition)] = int(offset)
    return result


def _moment(text: str) -> datetime:
    from features.point_in_time import Known
    from features.training import read_known

    found = read_known(text)
    if isinstance(found, Known):
        raise InvalidInputError(f"`{text}` is no time", fix="Write 2026-01-31T08:00:00Z.")
    return found


def _print_answer(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(answer))
        return
    rows = [
        {
            **row.entity,
            **row.values,
            "status": ", ".join(f"{name} {found.status}" for name, found in row.views.items()),
        }
        for row in answer.rows
    ]
    print_rows(rows, as_json=False)
    for name, state in answer.views.items():
        lag_told = f"{state.lag_seconds:.1f} s behind" if state.lag_seconds is not None else "lag unknown"
        typer.echo(f"{name} as of {state.as_of.isoformat() if state.as_of else 'nothing yet'}, {lag_told}")


def _warn(warnings: Sequence[Any]) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning.message} ({warning.place})", err=True)
