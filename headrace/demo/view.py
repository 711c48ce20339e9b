"""What a person sees while the demo runs: a live screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_SECONDS = 5.0
PICTURE_WIDTH = 132
HAPPENINGS = 10


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
        # Where nobody watches, lines are not wrapped at 80 columns: a log is read by machines and in wide windows.
        self.console = Console(stderr=True, width=None if sys.stderr.isatty() else PICTURE_WIDTH)
        self._live_wanted = sys.stderr.isatty() if live is None else live
        self._live: Live | None = None
        self._last: Status | None = None
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
        line = self._line(text, style)
        self._happenings.append(line)
        if self._live is None:
            self.console.print(line)

    def _line(self, text: str, style: str) -> Text:
        return Text(f"{time.monotonic() - self._started:6.1f} s  {text}", style=style)

    def show(self, status: Status) -> None:
        """Draw the screen, or from time to time a line."""
        self._last = status
        if self._live is not None:
            self._live.update(self._screen(status))
        elif time.monotonic() - self._printed_seconds >= PLAIN_EVERY_SECONDS:
            self._printed_seconds = time.monotonic()
            told = "  ".join(f"{s.name} {s.sent} sent {s.predictions} predicted {s.quarantined} bad" for s in status.streams)
            self.console.print(self._line(f"{status.phase} {status.share:4.0%}  {told}", "dim"))

    def save_picture(self, file: Path, add: Callable[[Console], None]) -> None:
        """Draw the last screen, and what `add` prints below it, as SVG."""
        console = Console(record=True, width=PICTURE_WIDTH, file=io.StringIO(), force_terminal=True)
        if self._last is not None:
            console.print(self._screen(self._last))
        add(console)
        picture = console.export_svg(title="make demo")
        # Fonts from somebody else's server have no place in a picture that lies in a repository.
        file.write_text(re.sub(r"@font-face\s*{[^}]*}\s*", "", picture), encoding="utf-8")

    def _screen(self, status: Status) -> RenderableType:
        processes = Text("  ").join(
            Text(f"{name} {state}", style="green" if state == "up" else "bold red") for name, state in status.processes.items()
        )
        bar = Table.grid()  # a bare progress bar does not end its line
        bar.add_row(ProgressBar(total=1.0, completed=status.share, width=60))
        return Panel(
            Group(
                processes,
                Text(f"{status.phase}   GraphQL frames {status.graphql_frames}"),
                bar,
                _table(status.streams),
                *self._happenings[-HAPPENINGS:],
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
