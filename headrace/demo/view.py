"""What a person sees while the demo runs: a live screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_SECONDS = 5.0


@dataclass(frozen=True)
class StreamStatus:
    """One pipeline at one moment.

    Attributes:
        events_per_second: sent, over the last moments.
        behind_seconds: how far the newest prediction is behind what could be predicted, in seconds of replay.
    """

    name: str
    sent: int
    events_per_second: float
    predictions: int
    behind_seconds: float | None
    labels: int
    quarantined: int
    latest: str


@dataclass(frozen=True)
class Status:
    """The whole screen at one moment; `share` runs from 0 to 1."""

    phase: str
    share: float
    streams: Sequence[StreamStatus] = ()
    processes: Mapping[str, str] = field(default_factory=dict)
    graphql_frames: int = 0


class View:
    """Shows phases, happenings and the status. Everything goes to stderr, so that stdout stays for the result."""

    def __init__(self, *, live: bool | None = None) -> None:
        self.console = Console(stderr=True, record=True)
        self._live_wanted = sys.stderr.isatty() if live is None else live
        self._live: Live | None = None
        self._happenings: list[Text] = []
        self._printed_seconds = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> View:
        if self._live_wanted:
            self._live = Live(console=self.console, refresh_per_second=4, transient=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str, style: str = "") -> None:
        """Note a happening; it stays visible."""
        line = Text(f"{time.monotonic() - self._started:6.1f} s  {text}", style=style)
        self._happenings.append(line)
        if self._live is None:
            self.console.print(line)

    def show(self, status: Status) -> None:
        """Draw the screen, or from time to time a line."""
        if self._live is not None:
            self._live.update(self._screen(status))
        elif time.monotonic() - self._printed_seconds >= PLAIN_EVERY_SECONDS:
            self._printed_seconds = time.monotonic()
            told = "  ".join(f"{s.name} {s.sent} sent {s.predictions} predicted {s.quarantined} bad" for s in status.streams)
            self.say(f"{status.phase} {status.share:4.0%}  {told}", style="dim")

    def _screen(self, status: Status) -> RenderableType:
        processes = Text("  ").join(
            Text(f"{name} {state}", style="green" if state == "up" else "bold red") for name, state in status.processes.items()
        )
        return Panel(
            Group(
                processes,
                Text(f"{status.phase}   GraphQL frames {status.graphql_frames}"),
                ProgressBar(total=1.0, completed=status.share, width=60),
                _table(status.streams),
                *self._happenings[-8:],
            ),
            title="headrace demo",
            border_style="cyan",
        )


def _table(streams: Sequence[StreamStatus]) -> Table:
    table = Table(
        "stream", "events", "events/s", "predictions", "behind", "labels", "quarantined", "latest prediction", box=None
    )
    for column in table.columns[1:7]:
        column.justify = "right"
    for s in streams:
        behind = "" if s.behind_seconds is None else f"{s.behind_seconds:.1f} s"
        table.add_row(
            s.name,
            f"{s.sent:,}",
            f"{s.events_per_second:.0f}",
            f"{s.predictions:,}",
            behind,
            f"{s.labels:,}",
            str(s.quarantined),
            s.latest,
        )
    return table
