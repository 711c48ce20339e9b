"""`headrace features template`: SQL for features that many pipelines need, printed to be committed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import NotFoundError
from headrace.cli.context import AsJson, DataDir, load_settings
from headrace.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(no_args_is_help=True, help="Print SQL for features that many pipelines need.")

Keys = Annotated[str, typer.Option("--key", help="Columns that make the entity, with commas between them.")]
Source = Annotated[str, typer.Option("--source", help="Relation of events: a source, a table or a view.")]
View = Annotated[str, typer.Option("--view", help="Name of the view that is to hold the features.")]
Time = Annotated[str, typer.Option("--time", help="Column of event time.")]


@app.callback()
def template() -> None:
    """Print SQL for features that many pipelines need."""


@app.command()
def windows(
    source: Source,
    view: View,
    key: Keys = "tenant_id,entity_id",
    time: Time = "event_time",
    value: Annotated[str, typer.Option("--value", help="Column whose sum and mean are taken.")] = "value",
    action: Annotated[str, typer.Option("--action", help="Column whose distinct values are counted.")] = "action",
    clock: Annotated[
        str | None,
        typer.Option("--clock", help="Relation whose latest event is now, or `now` for the time of day [default: the source]."),
    ] = None,
    tile: Annotated[
        list[str] | None,
        typer.Option("--tile", help="`30d=24h`: keep that window by tiles of 1h or 24h instead of events; may be repeated."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Sum as NUMERIC, which leaves no rest on RisingWave.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Print the query for moments in the past instead, for DuckDB over raw events.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Count, sum, mean and kinds of an entity's events in 1h, 24h, 7d and 30d, sliding exactly with event time.

    Example: headrace features template windows --source clicks --view features_clicks --key tenant_id,user_id
    """
    from features.templates.windows import WindowFeatures, history_sql, stream_sql

    filled = WindowFeatures(
        view=view,
        source=source,
        keys=_names(key),
        time=time,
        value=value,
        action=action,
        clock="now()" if clock == "now" else clock,
        tiles=_tiles(tile or []),
        exact=exact,
    )
    _print(history_sql(filled) if history else stream_sql(filled), filled.columns(), as_json)


@app.command("local-time")
def local_time_(
    source: Source,
    view: View,
    columns: Annotated[str, typer.Option("--columns", help="Columns of the source to keep.")] = "tenant_id,entity_id",
    time: Time = "event_time",
    zone: Annotated[str, typer.Option("--zone", help="Time zone of rows that name none.")] = "UTC",
    zone_column: Annotated[str | None, typer.Option("--zone-column", help="Column that names the row's time zone.")] = None,
    zone_table: Annotated[
        str | None, typer.Option("--zone-table", help="Relation of (tenant_id, zone): the time zone of each tenant.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hour, day of the week, weekend and business hours of an event, on the local clock of its time zone.

    Example: headrace features template local-time --source clicks --view clicks_local_time --zone Europe/Berlin
    """
    from features.templates.local_time import COLUMNS, LocalTimeFeatures, local_sql

    filled = LocalTimeFeatures(view, source, _names(columns), time, zone, zone_column, zone_table)
    _print(local_sql(filled), list(COLUMNS), as_json)


@app.command()
def transforms(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A registered version that was trained with `--transforms`.", metavar="MODEL@VERSION")
    ],
    source: Source,
    view: View,
    key: Keys = "tenant_id,entity_id",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The transformations of a model as SQL, with the parameters that were fitted: for `runs: stream`, and to look at.

    Example: headrace features template transforms outcome@1 --source features_shop --view features_shop_model
    """
    from iceberg.registry import open_registry
    from learning.transforms.model import read_transforms

    name, _, version = model.partition("@")
    if not version.isdigit():
        raise typer.BadParameter(f"`{model}` is not MODEL@VERSION", param_hint="MODEL@VERSION")
    registry = open_registry(load_settings(context, data_dir=data_dir).settings)
    fitted = read_transforms(registry.load_artifact(name, int(version)))
    if fitted is None:
        raise NotFoundError(f"`{model}` has no transformations", fix="Train it with `--transforms FILE`.")
    _print(fitted.view_sql(view, source, _names(key)), list(fitted.outputs), as_json)


@app.command()
def rules(
    folder: Annotated[Path, typer.Argument(help="A pipeline's folder with features.yaml, or the name of one of ours.")],
    name: Annotated[str | None, typer.Option("--name", help="Only this feature view of the file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Views of what breaks the rules that features.yaml declares, of verdicts, and of the rows that may be used.

    Example: headrace features template rules interactions > pipelines/interactions/40_rules.sql
    """
    from features.reading import read_folder
    from features.validation import validation_sql
    from pipelines.folder import BUILT_IN, built_in_names

    where = folder if folder.is_dir() or str(folder) not in built_in_names() else BUILT_IN / folder
    views = [each.view for each in read_folder(where) if name in (None, each.view.name)]
    chosen = [view for view in views if view.rules or any(feature.rules for feature in view.features)]
    if not chosen:
        raise NotFoundError("there is no feature view with rules", where=str(where), fix="Declare `rules` in features.yaml.")
    _print("\n".join(validation_sql(view) for view in chosen), [view.name for view in chosen], as_json)


def _print(sql: str, columns: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"sql": sql, "features": columns})
    else:
        typer.echo(sql, nl=False)


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(","))


def _tiles(written: list[str]) -> Mapping[str, timedelta]:
    tiles = {}
    for each in written:
        window, _, length = each.partition("=")
        if length not in ("1h", "24h"):
            raise typer.BadParameter(f"`{each}` is not WINDOW=1h or WINDOW=24h", param_hint="--tile")
        tiles[window] = timedelta(hours=int(length[:-1]))
    return tiles
