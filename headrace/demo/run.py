"""The demo from beginning to end: start, train, apply, replay, kill, check, tell.

```
  seconds   0                    24 (of 60)               60         72
  replay    |---- three streams ---- SIGKILL of the engine ----|- steady -|  drain  check
  labels          come back half a second to eight seconds after each prediction, some twice, some never
```
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
from pydantic import SecretStr
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from core.clock import Clock, SystemClock
from core.errors import ConflictError, UnavailableError
from core.settings import Settings
from headrace import feature_views
from headrace.config import Loaded
from headrace.demo.board import Board
from headrace.demo.check import Situation, check_everything
from headrace.demo.door import Door
from headrace.demo.expectations import PIPELINES, expected_rows, judge
from headrace.demo.feedback import LONGEST_DELAY_SECONDS, Labeller
from headrace.demo.graphql import Follower, query
from headrace.demo.records import Stream
from headrace.demo.replay import Replay
from headrace.demo.report import next_steps, print_summary
from headrace.demo.rescore import RouteMember
from headrace.demo.scenario import Scenario, built_in_scenario
from headrace.demo.stages import check_stages
from headrace.demo.summary import Summary
from headrace.demo.topics import read_all
from headrace.demo.view import View
from headrace.logs import move_to_file
from headrace.platform import Platform, running_platform
from headrace.ports import accepts_connections
from headrace.run_file import LOCK_FILE, is_held
from headrace.topology import process_specs
from iceberg.catalog import open_lake
from iceberg.registry import Registry
from pipelines import folder

logger = logging.getLogger(__name__)

SEED = 20_26
STEADY_SECONDS = 12.0  # about 1,300 predictions, enough for a 99th percentile
KILL_SHARE = 0.4
RECOVERY_SECONDS = 60.0
DRAIN_SECONDS = 90.0
FRAME_SECONDS = 0.25
QUIET_SECONDS = 2.0
MARKER = ".demo"


def run(
    loaded: Loaded,
    environ: Mapping[str, str],
    *,
    data: Path | None,
    replay_seconds: float,
    only: Sequence[str] | None = None,
    as_json: bool = False,
) -> Summary:
    """Run the demo in `DATA_DIR/demo`, which is emptied first, and leave `summary.json` there.

    Args:
        data: folder of CSV files to replay instead of the built-in streams.
        replay_seconds: how long the streams run before the steady phase.
        only: names of built-in pipelines; None for all.

    Raises:
        ConflictError: the folder is in use, or holds something that is not a demo's.
        UnavailableError: a process could not be started or did not come back.
    """
    clock = SystemClock()
    if data is not None:
        from headrace.demo.csv_replay import csv_scenario

        scenario = csv_scenario(data)
    else:
        scenario = built_in_scenario(SEED, only)
    settings = _settings(loaded, scenario)
    _empty(settings.data_dir)
    move_to_file(settings.data_dir / "logs" / "demo.log")
    summary = Summary()
    with View(live=None if not as_json else False) as view:
        try:
            with running_platform(settings, environ) as platform:
                settings = platform.settings
                view.say("broker, UDF server, engine and API accept connections")
                _Demo(platform, scenario, summary, view, clock, replay_seconds).run()
        finally:
            _check_nothing_left(settings, summary)
            summary.write(settings.data_dir / "summary.json")
            view.save_picture(settings.data_dir / "demo.svg", lambda console: print_summary(summary, console))
    if as_json:
        print(json.dumps(summary.as_dict(), indent=2, default=str))  # noqa: T201  # the result
    else:
        print_summary(summary, view.console)
        next_steps(settings, view.console)
    return summary


def _settings(loaded: Loaded, scenario: Scenario) -> Settings:
    """Free ports where none was chosen, a folder of its own, and a key for each tenant."""
    given = loaded.settings
    free = {
        "kafka": "127.0.0.1:0",
        "database_url": "postgresql://root@127.0.0.1:0/dev",
        "udf_url": "http://127.0.0.1:0",
        "api_port": 0,
    }
    chosen: dict[str, object] = {name: value for name, value in free.items() if name not in loaded.origins}
    chosen["engine"] = given.engine.model_copy(update={"metrics_port": 0})
    chosen["data_dir"] = given.data_dir.absolute() / "demo"
    chosen["api_keys"] = {tenant: SecretStr(secrets.token_urlsafe(24)) for tenant in scenario.tenants}
    return given.model_copy(update=chosen)


def _empty(demo_dir: Path) -> None:
    if demo_dir.exists() and any(demo_dir.iterdir()):
        if not (demo_dir / MARKER).exists():
            raise ConflictError(
                "the folder is not empty and not a demo's", where=str(demo_dir), fix="Choose another --data-dir."
            )
        if is_held(demo_dir / LOCK_FILE):
            raise ConflictError(
                "a demo runs in this folder", where=str(demo_dir), fix="Wait for it, or choose another --data-dir."
            )
        shutil.rmtree(demo_dir)
    demo_dir.mkdir(parents=True, exist_ok=True)
    (demo_dir / MARKER).touch()


def _check_nothing_left(settings: Settings, summary: Summary) -> None:
    specs = process_specs(settings)
    listening = [spec.name for spec in specs if accepts_connections(spec.host, spec.port)]
    if summary.checks:
        told = (
            f"still listening: {listening}"
            if listening
            else f"ports {', '.join(str(spec.port) for spec in specs)} are free again"
        )
        summary.check("no process and no port is left behind", not listening, told)


class Arrived(NamedTuple):
    """How many rows a place has; all at least what was worked out means that nothing is on its way any more."""

    view: int
    lake: int
    lake_features: int
    labelled: int


@dataclass
class _Demo:
    """One run; the methods are its chapters, in order."""

    platform: Platform
    scenario: Scenario
    summary: Summary
    view: View
    clock: Clock
    replay_seconds: float
    followers: list[Follower] = field(default_factory=list)
    killed_at: float | None = None
    recovered_at: float | None = None

    def run(self) -> None:
        settings = self.platform.settings
        with self._timed("train"):
            catalog = open_lake(settings)
            registry = Registry(catalog, settings.resolved_warehouse)
            versions = self.scenario.train(registry, self.clock)
            self.view.say(f"models trained and registered: {', '.join(f'{n} {v}' for n, v in versions.items())}")
        with self._timed("apply"):
            features = feature_views.apply(
                settings,
                folder.find(self.scenario.pipelines),
                catalog,
                self.clock,
                endpoints=self.scenario.endpoints,
                routes=self.scenario.routes,
            )
            applied = features.objects
            self.view.say(
                f"pipelines {', '.join(self.scenario.pipelines)} applied: {len(applied.created)} objects, {applied.routes} routes"
            )
        with self._timed("replay"):
            streams = self.scenario.build(self.clock.now(), self.replay_seconds + STEADY_SECONDS)
            board = self._replay(streams)
        with self._timed("drain"):
            self._drain(board)
        with self._timed("check"):
            self._check(board, catalog, registry)
        if self.scenario.known_data:
            with self._timed("stages"):
                model = self.scenario.routes[0].model
                self.view.say(f"promoting and rolling back {model}")
                check_stages(settings, model, self.clock, self.summary)

    # -- chapters

    def _replay(self, streams: list[Stream]) -> Board:
        settings = self.platform.settings
        keys = {tenant: key.get_secret_value() for tenant, key in settings.api_keys.items()}
        replay = Replay(streams, settings.kafka, Door(self.platform.api_url, keys))
        labeller = Labeller(settings.kafka, {stream.pipeline: stream.truth for stream in streams}, self.clock, SEED)
        self.followers = [Follower(self.platform.api_url, keys[stream.tenants[0]], stream.tenants[0]) for stream in streams]
        board = Board(streams, replay, labeller, self.followers, self.platform.supervisor, self._count_quarantine)
        for follower in self.followers:
            follower.start()
        labeller.start()
        replay.start()
        speeds = ", ".join(f"{s.pipeline} at {s.speed:g}x" for s in streams)
        self.view.say(f"replaying {sum(len(s.records) for s in streams):,} events: {speeds}")
        total = self.replay_seconds + STEADY_SECONDS
        while not replay.done:
            replay.check()
            self.platform.supervisor.check()
            self._kill_once(replay.elapsed_seconds)
            phase = "replay" if replay.elapsed_seconds < self.replay_seconds else "steady rate"
            self.view.show(board.status(phase, min(1.0, replay.elapsed_seconds / total)))
            time.sleep(FRAME_SECONDS)
        replay.stop()
        replay.check()
        return board

    def _kill_once(self, elapsed_seconds: float) -> None:
        if self.killed_at is None and elapsed_seconds >= KILL_SHARE * self.replay_seconds:
            pid = self.platform.supervisor.kill("engine")
            self.killed_at = time.monotonic()
            self.view.say(f"engine killed with SIGKILL (process {pid})", "bold red")
        elif self.killed_at is not None and self.recovered_at is None and self.platform.supervisor.restarts("engine"):
            with contextlib.suppress(psycopg.Error, OSError):
                self._ask("SELECT 1", timeout_seconds=1)
                self.recovered_at = time.monotonic()
                seconds = self.recovered_at - self.killed_at
                self.summary.timings_seconds["engine_recovery"] = round(seconds, 2)
                self.view.say(f"engine is back after {seconds:.1f} s and goes on where it stopped", "bold green")
        if self.killed_at is not None and self.recovered_at is None and time.monotonic() - self.killed_at > RECOVERY_SECONDS:
            raise UnavailableError(f"the engine did not come back within {RECOVERY_SECONDS:g} s after SIGKILL")

    def _drain(self, board: Board) -> None:
        """Wait until everything that must arrive has arrived everywhere, and then stands still."""
        deadline = time.monotonic() + DRAIN_SECONDS
        labeller, kafka = board.labeller, self.platform.settings.kafka
        wanted = sum(
            expected_rows(stream.pipeline, judge(read_all(kafka, stream.topic), PIPELINES[stream.pipeline])).num_rows
            for stream in board.streams
        )
        self._until(deadline, board, lambda: labeller.seen.total() >= wanted)
        time.sleep(LONGEST_DELAY_SECONDS / 4)  # let some of the late labels be late in their own time
        labeller.finish()
        least = Arrived(wanted, wanted, wanted, len(labeller.labelled))
        self._until(deadline, board, lambda: all(has >= needs for has, needs in zip(self._arrived(), least, strict=True)))
        self._until_quiet(deadline, board)
        for follower in self.followers:
            follower.stop()
        self.view.say(f"all arrived: {labeller.seen.total():,} predictions, {labeller.sent.total():,} labels sent back")

    def _arrived(self) -> Arrived:
        """Rows by place; none where a place does not answer."""
        settings = self.platform.settings
        try:
            catalog = open_lake(settings)
            return Arrived(
                int(self._ask("SELECT count(*) FROM predictions")[0][0]),
                _rows(catalog, "lake.predictions"),
                sum(_rows(catalog, f"lake.features_{pipeline}") for pipeline in self.scenario.pipelines),
                int(self._ask("SELECT count(*) FROM labelled")[0][0]),
            )
        except (psycopg.Error, OSError, NoSuchTableError):
            return Arrived(0, 0, 0, 0)

    def _until(self, deadline: float, board: Board, arrived: Callable[[], bool]) -> None:
        """Poll; when time is up go on all the same: the checks will tell what is missing."""
        while not arrived():
            if time.monotonic() > deadline:
                self.view.say("not everything has arrived in time; the checks will tell what is missing", "bold yellow")
                return
            self.platform.supervisor.check()
            self.view.show(board.status("draining", 1.0))
            time.sleep(FRAME_SECONDS)

    def _until_quiet(self, deadline: float, board: Board) -> None:
        """What comes too often comes late: wait until the counts have not changed for a while."""
        last, since = self._arrived(), time.monotonic()

        def quiet() -> bool:
            nonlocal last, since
            now = self._arrived()
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since >= QUIET_SECONDS

        self._until(deadline, board, quiet)

    def _check(self, board: Board, catalog: Catalog, registry: Registry) -> None:
        streams, replay = board.streams, board.replay
        assert replay.started_seconds is not None
        settings = self.platform.settings
        wall_started = self.clock.now() - timedelta(seconds=self.clock.monotonic_seconds() - replay.started_seconds)
        steady = wall_started + timedelta(seconds=self.replay_seconds)
        situation = Situation(
            sent=replay.sent,
            tenants={stream.pipeline: stream.tenants for stream in streams},
            routes=_routes(self.scenario),
            truth={stream.pipeline: stream.truth for stream in streams},
            steady_from_ms=int(steady.timestamp() * 1000),
            must_beat_baselines=self.scenario.known_data,
            least_latencies=100 if self.scenario.known_data else 0,
        )
        self.view.say("checking: recomputing every window, id and score from the raw topics")
        check_everything(settings, catalog, registry, situation, self.summary)
        self._check_uploads(streams, replay)
        self._check_engine_came_back()
        self._check_graphql()

    def _check_uploads(self, streams: Sequence[Stream], replay: Replay) -> None:
        wanted = sum(record.uploaded_at is not None for stream in streams for record in stream.records)
        if wanted:
            self.summary.check(
                "the REST door took every image, also while the engine was down",
                replay.uploads == wanted and not replay.refused,
                f"{replay.uploads} of {wanted} raw payloads" + (f", refused: {replay.refused[0]}" if replay.refused else ""),
            )

    def _check_engine_came_back(self) -> None:
        restarts = {name: self.platform.supervisor.restarts(name) for name in ("broker", "udf", "engine", "api")}
        self.summary.check(
            "the engine was killed once and came back; nothing else fell over",
            restarts == {"broker": 0, "udf": 0, "engine": 1, "api": 0} and self.recovered_at is not None,
            f"restarts {restarts}, back after {self.summary.timings_seconds.get('engine_recovery')} s",
        )

    def _check_graphql(self) -> None:
        self.summary.graphql_frames = sum(follower.frames for follower in self.followers)
        wrong = [
            f"{f.tenant}: {f.holes} holes, {f.foreign} foreign rows, {f.errors[:1]}"
            for f in self.followers
            if f.holes or f.foreign
        ]
        silent = [follower.tenant for follower in self.followers if not follower.frames]
        self.summary.check(
            "GraphQL frames came live, in sequence, for one tenant each",
            not wrong and not silent,
            f"{self.summary.graphql_frames} frames with {sum(f.rows_told for f in self.followers)} rows"
            if not wrong and not silent
            else f"silent {silent}, wrong {wrong}, {[f.errors[:1] for f in self.followers]}",
        )
        follower = self.followers[0]
        newest = "query Q($asOf: DateTime) { predictions(first: 5, asOf: $asOf) { nodes { id tenant label score } } }"
        live = query(self.platform.api_url, follower.key, newest)["predictions"]["nodes"]
        past = query(self.platform.api_url, follower.key, newest, {"asOf": self.clock.now().isoformat()})["predictions"][
            "nodes"
        ]
        self.summary.check(
            "GraphQL answers the same from the stream database and from the lake",
            bool(live) and live == past and all(row["tenant"] == follower.tenant for row in live),
            f"{len(live)} newest predictions of {follower.tenant}" if live == past else f"{live} != {past}",
        )

    def _count_quarantine(self) -> dict[str, int]:
        rows = self._ask("SELECT stream, count(*) FROM quarantine GROUP BY stream", timeout_seconds=1)
        return {str(stream): int(count) for stream, count in rows}

    def _ask(self, sql: str, timeout_seconds: int = 10) -> list[tuple[int | str, ...]]:
        url = self.platform.settings.database_url
        with psycopg.connect(url, autocommit=True, connect_timeout=timeout_seconds) as connection:
            return connection.execute(sql.encode()).fetchall()

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.summary.timings_seconds[name] = round(time.monotonic() - begun, 2)


def _rows(catalog: Catalog, table: str) -> int:
    snapshot = catalog.load_table(table).current_snapshot()
    return int(snapshot.summary["total-records"] or 0) if snapshot is not None and snapshot.summary is not None else 0


def _routes(scenario: Scenario) -> dict[tuple[str, str], list[RouteMember]]:
    """(pipeline, tenant) to its members; an endpoint belongs to one pipeline."""
    pipeline_of = {endpoint: pipeline for pipeline, endpoint in scenario.endpoint_of.items()}
    result: dict[tuple[str, str], list[RouteMember]] = {}
    for route in scenario.routes:
        member = RouteMember(route.model, route.version, route.weight)
        result.setdefault((pipeline_of[route.endpoint], route.tenant_id), []).append(member)
    return result
