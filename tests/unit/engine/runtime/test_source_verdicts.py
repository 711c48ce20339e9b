"""What a source makes of its records, against a slow reference that judges them one by one; and nothing depends on the epochs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from core.clock import SystemClock
from tests.property.engine.harness import EngineBox
from tests.unit.engine.runtime.fake_log import FakeLog, Record

START = dt.datetime(2026, 1, 1, 12)  # noqa: DTZ001  instants inside the engine are naive UTC
DELAY, SKEW = dt.timedelta(seconds=5), dt.timedelta(seconds=30)
Moment = dt.datetime
SOURCE = """
SET headrace.max_future_skew = '30 seconds';
CREATE SOURCE log (k INT, v DOUBLE PRECISION, ts TIMESTAMP WITH TIME ZONE, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
INCLUDE partition AS part INCLUDE offset AS off
WITH (connector = 'kafka', topic = 'events.log', properties.bootstrap.server = 'nowhere:1', scan.startup.mode = 'earliest')
FORMAT PLAIN ENCODE JSON;
SET headrace.max_future_skew = ''
"""
FEATURES = """CREATE MATERIALIZED VIEW features AS
SELECT window_start, k, count(*) AS n, sum(v) AS s FROM TUMBLE(log, ts, INTERVAL '10 seconds') GROUP BY window_start, k
EMIT ON WINDOW CLOSE"""
PREDICTIONS = """CREATE MATERIALIZED VIEW predictions AS
SELECT f.window_start, f.k, f.s * r.weight AS score FROM features AS f
LEFT JOIN routes FOR SYSTEM_TIME AS OF PROCTIME() AS r ON f.k = r.k"""


@dataclass(frozen=True)
class Verdict:
    """What becomes of one record: accepted with its time, or the beginning of the reason."""

    reason: str | None
    row: tuple[int | None, float | None, Moment | None] | None = None


def judge(records: Sequence[Record]) -> tuple[list[Verdict], Moment | None]:
    """The reference: one partition, one record after the other; and the watermark behind the last one."""
    before: Moment | None = None
    verdicts = []
    for record in records:
        row = _read(record.value)
        if row is None:
            verdicts.append(Verdict("cannot be read"))
            continue
        time = row[2]
        if time is not None and time > record.arrived + SKEW:
            verdicts.append(Verdict("too early"))
            continue
        if before is not None and (time is None or time < before):
            verdicts.append(Verdict("late"))
        else:
            verdicts.append(Verdict(None, row))
        if time is not None and (before is None or time - DELAY > before):
            before = time - DELAY
    return verdicts, before


def _read(value: bytes | None) -> tuple[int | None, float | None, Moment | None] | None:
    """Broken JSON and values of a wrong type cannot be read; a missing field is NULL."""
    try:
        fields = json.loads(value or b"")
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    k, v, ts = fields.get("k"), fields.get("v"), fields.get("ts")
    if isinstance(k, str) or isinstance(ts, int):
        return None
    return k, v, dt.datetime.fromisoformat(ts).replace(tzinfo=None) if ts is not None else None


@st.composite
def partitions(draw: DrawFn, count: int) -> dict[int, list[Record]]:
    return {number: draw(_records(number)) for number in range(count)}


@st.composite
def _records(draw: DrawFn, partition: int) -> list[Record]:
    result = []
    now = 0
    for _ in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([0, 1, 4, 11]))
        time = START + dt.timedelta(seconds=now + draw(st.sampled_from([0, 0, -3, -12, -40, 25, 31, 90])))
        fields: dict[str, Any] = {
            "k": draw(st.sampled_from([1, 2, None])),
            "v": draw(st.sampled_from([0.5, 2.0])),
            "ts": f"{time.isoformat()}+00:00",
        }
        form = draw(
            st.sampled_from(
                ["good", "good", "good", "good", "no time", "null time", "wrong type", "broken", "tombstone", "array"]
            )
        )
        if form == "no time":
            del fields["ts"]
        elif form == "null time":
            fields["ts"] = None
        elif form == "wrong type":
            fields["k"] = "many"
        texts = {"broken": b'{"k": 1, ', "tombstone": None, "array": b"[1, 2]"}
        result.append(Record(texts.get(form, json.dumps(fields).encode()), START + dt.timedelta(seconds=now)))
    del partition
    return result


@st.composite
def cuts(draw: DrawFn, sizes: Mapping[int, int]) -> list[dict[int, int]]:
    """How much of each partition is readable in which epoch; the last one has everything."""
    steps = [{p: draw(st.integers(0, size)) for p, size in sizes.items()} for _ in range(draw(st.integers(0, 4)))]
    return [*steps, dict(sizes)]


@pytest.fixture(scope="module")
def box() -> Iterator[EngineBox]:
    made = EngineBox()
    yield made
    made.close()


class Run:
    """Feeds a log to the views in the given cuts and reads what came out."""

    def __init__(self, box: EngineBox, log: FakeLog, monkeypatch: pytest.MonkeyPatch, guard: bool = True) -> None:
        self._box, self._log = box, log
        monkeypatch.setattr("engine.runtime.ddl.build_source", log.reader)
        monkeypatch.setattr("engine.runtime.inputs.build_source", log.reader)
        self._quarantined_before = len(self._quarantine())
        box.run(SOURCE if guard else SOURCE.replace("30 seconds", ""))
        box.run("CREATE MATERIALIZED VIEW everything AS SELECT off FROM log")
        box.run("CREATE TABLE routes (k INT PRIMARY KEY, weight DOUBLE PRECISION); INSERT INTO routes VALUES (1, 2.0); FLUSH")
        box.run("CREATE MATERIALIZED VIEW accepted AS SELECT part::int AS p, off::bigint AS o, k, v, ts FROM log")
        box.run(FEATURES)
        box.run(PREDICTIONS)

    def step(self, cut: Mapping[int, int]) -> None:
        self._log.serve(cut)
        self._box.run("FLUSH")

    def rows(self, view: str, key: str = "1, 2") -> list[tuple[Any, ...]]:
        return self._box.rows(f"SELECT * FROM {view} ORDER BY {key}")

    def quarantine(self) -> dict[tuple[int, int], str]:
        return {(p, o): reason for p, o, reason in self._quarantine()[self._quarantined_before :]}

    def _quarantine(self) -> list[tuple[Any, ...]]:
        return self._box.rows("SELECT kafka_partition, kafka_offset, reason FROM quarantine ORDER BY received_at")

    def run(self, sql: str) -> None:
        self._box.run(sql)

    def end(self) -> None:
        self._box.run("DROP SOURCE log CASCADE; DROP TABLE routes CASCADE")


def expected(log: FakeLog) -> tuple[dict[tuple[int, int], Verdict], list[tuple[Any, ...]]]:
    """Verdicts by (partition, offset), and the features of all windows that are closed at the end."""
    verdicts: dict[tuple[int, int], Verdict] = {}
    marks: list[Moment | None] = []
    for partition, records in log.partitions.items():
        judged, mark = judge(records)
        marks.append(mark)
        verdicts.update({(partition, offset): v for offset, v in enumerate(judged)})
    windows: dict[tuple[Moment, int | None], list[float]] = {}
    if all(mark is not None for mark in marks):
        end = min(mark for mark in marks if mark is not None)
        for verdict in verdicts.values():
            if verdict.row is None or verdict.row[2] is None:
                continue
            k, v, time = verdict.row
            start = time.replace(second=time.second // 10 * 10)
            if start + dt.timedelta(seconds=10) <= end:
                windows.setdefault((start, k), []).append(v or 0.0)
    features = [(start, k, len(values), sum(values)) for (start, k), values in windows.items()]
    return verdicts, sorted(features, key=lambda row: (row[0], row[1] is None, row[1] or 0))


def check(run: Run, log: FakeLog) -> None:
    verdicts, features = expected(log)
    accepted = {(p, o): (k, v, ts) for p, o, k, v, ts in run.rows("accepted")}
    assert accepted == {at: v.row for at, v in verdicts.items() if v.row is not None}
    quarantine = run.quarantine()
    assert set(quarantine) == {at for at, v in verdicts.items() if v.reason is not None}
    for at, reason in quarantine.items():
        wanted = verdicts[at].reason
        assert wanted is not None
        assert reason.startswith(("late", "too early")) == (wanted != "cannot be read"), (at, reason)
        assert wanted == "cannot be read" or reason.startswith(wanted), (at, reason)
    assert run.rows("features") == features
    weights = {1: 2.0}
    scores = [(start, k, s * weights[k] if k in weights else None) for start, k, _, s in features]
    assert run.rows("predictions") == scores


_SETTINGS = settings(
    max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)


@st.composite
def logs(draw: DrawFn, count: int) -> tuple[FakeLog, list[dict[int, int]]]:
    made = draw(partitions(count))
    return FakeLog(made), draw(cuts({p: len(records) for p, records in made.items()}))


def _run(log: FakeLog, steps: Sequence[Mapping[int, int]], box: EngineBox, reopen: bool = False) -> None:
    with pytest.MonkeyPatch.context() as patch:
        try:
            run = Run(box, log, patch)
            for number, step in enumerate(steps):
                run.step(step)
                if reopen and number == 0:
                    box.reopen()
            run.run("CREATE MATERIALIZED VIEW later AS SELECT part::int AS p, off::bigint AS o, k, v, ts FROM log")
            check(run, log)
            assert run.rows("later") == run.rows("accepted")
            run.end()
        except BaseException:
            box.start_over()
            raise


@_SETTINGS
@given(case=logs(1), reopen=st.booleans())
def test_records_of_one_partition_are_judged_row_by_row_whatever_the_epochs(
    case: tuple[FakeLog, list[dict[int, int]]], reopen: bool, box: EngineBox
) -> None:
    _run(*case, box, reopen)


@_SETTINGS
@given(case=logs(2), reopen=st.booleans())
def test_partitions_that_come_at_different_times_close_each_window_once(
    case: tuple[FakeLog, list[dict[int, int]]], reopen: bool, box: EngineBox
) -> None:
    _run(*case, box, reopen)


def _good(seconds: int, k: int = 1) -> Record:
    time = START + dt.timedelta(seconds=seconds)
    return Record(json.dumps({"k": k, "v": 1.0, "ts": f"{time.isoformat()}+00:00"}).encode(), time)


class ShiftedClock(SystemClock):
    """The machine's clock, ahead by what a test says."""

    ahead = dt.timedelta()

    def now(self) -> dt.datetime:
        return super().now() + self.ahead


def test_unused_partition_is_not_waited_for_and_its_late_rows_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ShiftedClock()
    box = EngineBox(clock)
    try:
        log = FakeLog({0: [_good(0), _good(60), _good(70), _good(80)], 1: [_good(5), _good(100)]})
        run = Run(box, log, monkeypatch)
        run.step({0: 2})
        assert run.rows("features") == [], "partition 1 may still have rows for the first window"
        clock.ahead = dt.timedelta(seconds=11)
        run.step({0: 3})
        assert [row[2] for row in run.rows("features")] == [1], "the window closes without the unused partition"
        run.step({0: 4, 1: 2})
        assert [row[2] for row in run.rows("features")] == [1, 1], "a closed window stays as it was"
        assert list(run.quarantine()) == [(1, 0)]
        assert run.quarantine()[1, 0].startswith("late for the source")
        box.reopen()
        run.run("CREATE MATERIALIZED VIEW later AS SELECT part::int AS p, off::bigint AS o, k, v, ts FROM log")
        assert run.rows("later") == run.rows("accepted"), "a second reading leaves out the same rows"
    finally:
        box.close()


def test_view_over_a_source_that_begins_at_the_latest_record_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, box: EngineBox
) -> None:
    log = FakeLog({0: [_good(0), _good(1), _good(2)]}, served={0: 2}, latest=True)
    run = Run(box, log, monkeypatch)
    run.run("CREATE MATERIALIZED VIEW second AS SELECT k FROM log")
    run.step({0: 3})
    assert [row[1] for row in run.rows("accepted")] == [2]
    assert run.rows("second", "1") == [(1,)]
    run.end()


def test_row_from_the_year_ten_thousand_does_not_stop_the_engine(monkeypatch: pytest.MonkeyPatch, box: EngineBox) -> None:
    late = b'{"k": 2, "v": 1.0, "ts": "12000-01-01T00:00:00+00:00"}'
    log = FakeLog({0: [_good(0), Record(late, START), _good(1)]})
    run = Run(box, log, monkeypatch, guard=False)
    run.step({0: 3})
    assert set(run.quarantine()) == {(0, 2)}, "honest rows are late then, as there was no guard"
    assert [row[0] for row in box.rows("SELECT off FROM everything ORDER BY off")] == ["0", "1"]
    run.end()
