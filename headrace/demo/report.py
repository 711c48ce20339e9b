"""The end of the demo, in words."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from core.settings import Settings
from headrace.demo.summary import Summary


def print_summary(summary: Summary, console: Console) -> None:
    """Print every check and every tenant's counts."""
    console.print()
    for check in summary.checks:
        console.print(
            f"[green]ok  [/green] {check.name}" if check.ok else f"[bold red]FAIL[/bold red] {check.name}", highlight=False
        )
        console.print(f"       {check.detail}", style="dim", highlight=False, markup=False)
    columns = (
        "tenant",
        "pipeline",
        "events",
        "late",
        "quarantined",
        "windows open",
        "predictions",
        "errors",
        "labels",
        "accuracy",
        "baseline",
    )
    table = Table(*columns, box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for name, row in summary.tenants.items():
        numbers = (
            row.events_read,
            row.late,
            row.quarantined,
            row.windows_open,
            row.predictions,
            row.prediction_errors,
            row.labels,
        )
        shares = ("" if value is None else f"{value:.3f}" for value in (row.accuracy, row.baseline_accuracy))
        table.add_row(name, row.pipeline, *(f"{number:,}" for number in numbers), *shares)
    console.print(table)
    latency = summary.event_to_prediction_ms
    console.print(
        f"event to prediction: p50 {latency.p50} ms, p99 {latency.p99} ms at a steady rate; "
        f"{summary.graphql_frames} GraphQL frames; {summary.iceberg_snapshots} lake snapshots"
    )
    verdict = "[bold green]all checks passed[/bold green]" if summary.ok else "[bold red]some checks failed[/bold red]"
    console.print(f"{verdict}; duplicates {summary.duplicates}, missing {summary.missing}")


def next_steps(settings: Settings, console: Console) -> None:
    """Say what to try now."""
    console.print(
        f"\nsummary   {settings.data_dir / 'summary.json'}\n"
        "next      make dev                                   keeps everything running until Ctrl-C; then:\n"
        '          psql -h 127.0.0.1 -p 4566 -U root dev -c "SELECT * FROM active_routes"\n'
        "          curl http://127.0.0.1:8000/graphql -H 'content-type: application/json' \\\n"
        """            -d '{"query": "{ predictions(first: 3) { nodes { id label score } } }"}'""",
        highlight=False,
        markup=False,
    )
