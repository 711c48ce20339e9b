"""`headrace erase SUBJECT` and `headrace erase verify CERT`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.context import AsJson, DataDir, load_lake_settings
from headrace.cli.output import print_json
from headrace.cli.progress import progress


def erase(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(help="The subject's id, or `verify` and the path of a certificate.", metavar="SUBJECT | verify CERT"),
    ],
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Whose subject; without it every tenant's of that name.")
    ] = None,
    in_flight: Annotated[
        float | None,
        typer.Option(
            "--in-flight",
            min=0,
            help="Minutes for which files of tables that nothing refers to are left to writers [default: 15, or 0 when no engine runs "
            "on an embedded lake].",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, only tell.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Erase a subject from the lake: rows, old snapshots and bytes; then search every file, and write a certificate.

    `headrace erase verify CERT` checks a certificate and searches again. Exits with 1 if a trace is left or a certificate was
    altered.

    Example: headrace erase pump-07 --tenant acme --dry-run
    """
    from headrace.erasing import FOLDER, build_eraser, find_subject, in_flight_of, summary, tenants_of, verify
    from iceberg.erasure.journal import CERTIFICATE

    settings = load_lake_settings(context, data_dir)
    if words[0] == "verify" and len(words) == 2:
        with progress() as tell:
            result = verify(settings, Path(words[1]), progress=tell)
        if as_json:
            print_json(result)
        else:
            typer.echo(f"certificate {result['certificate']}, warehouse {result['warehouse']}")
            typer.echo(
                "\n".join([*result["problems"], *(f"! {entry['path']}: {entry['traces']}" for entry in result["traces"])])
            )
        if not result["ok"]:
            raise typer.Exit(1)
        return
    if len(words) != 1:
        raise typer.BadParameter("give one subject, or `verify` and a certificate", param_hint="SUBJECT")
    subject = find_subject(settings, words[0], tenant)
    with progress() as tell:
        age = in_flight_of(settings) if in_flight is None else timedelta(minutes=in_flight)
        eraser = build_eraser(settings, in_flight=age, progress=tell)
        document = eraser.plan(subject) if dry_run else eraser.erase(subject)
    if dry_run:
        if as_json:
            print_json(document)
            return
        found = document["found"]
        whose = subject.tenant or ", ".join(sorted(tenants_of(settings, subject.name))) or "no tenant"
        typer.echo(f"`{subject.name}` of {whose}: traces in {found['files_with_traces']} of {found['files']} files")
        for name, table in document["tables"].items():
            typer.echo(
                f"  {name}: {len(table['files_to_rewrite'])} files to rewrite, "
                f"{len(table['snapshots_to_expire'])} snapshots to expire"
            )
        for hold in document["held"]:
            typer.echo(f"  ! held: {hold['scope']} {hold['target']} ({hold['reason']})")
        return
    path = settings.data_dir / FOLDER / document["erasure_id"] / CERTIFICATE
    if as_json:
        print_json({**document, "path": str(path)})
    else:
        typer.echo("\n".join(summary(document, path)))
    if not document["clean"]:
        raise typer.Exit(1)
