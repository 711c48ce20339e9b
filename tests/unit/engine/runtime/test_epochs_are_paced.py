"""When epochs are cut: soon while there is little to do, after the whole interval where there is much."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from engine.catalog.objects import Input
from engine.runtime.inputs import ConnectorInput
from engine.runtime.pace import Pace
from tests.unit.engine.runtime.fake_log import FakeLog, Record
from tests.unit.engine.runtime.inprocess import running


def test_the_first_row_after_a_rest_waits_for_nothing() -> None:
    pace = Pace(0.25, 1000)
    assert pace.rest(5.0, for_input=True) <= 0
    pace.ran(5.0, 5.01, 10)
    assert pace.rest(6.0, for_input=True) <= 0


def test_short_epochs_follow_each_other_closely_and_long_ones_at_the_interval() -> None:
    pace = Pace(0.25, 1000)
    pace.ran(1.0, 1.002, 10)
    assert pace.rest(1.0, for_input=True) == pytest.approx(0.025)
    pace.ran(2.0, 2.06, 10)
    assert pace.rest(2.0, for_input=True) == pytest.approx(0.066)
    pace.ran(3.0, 3.9, 10)
    assert pace.rest(3.0, for_input=True) == pytest.approx(0.25)


def test_time_alone_cuts_epochs_at_the_interval_only() -> None:
    pace = Pace(0.25, 1000)
    pace.ran(1.0, 1.002, 0)
    assert pace.rest(1.1, for_input=False) == pytest.approx(0.15)


def test_many_rows_are_gathered_for_the_whole_interval() -> None:
    pace = Pace(0.25, 1000)
    pace.ran(1.0, 1.002, 249)
    assert pace.rest(1.0, for_input=True) == pytest.approx(0.025)
    pace.ran(2.0, 2.002, 250)
    assert pace.rest(2.0, for_input=True) == pytest.approx(0.25)


def test_records_that_come_while_an_epoch_waits_are_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog({0: [Record(b'{"k": %d}' % k, dt.datetime(2026, 1, 1)) for k in range(10)]})  # noqa: DTZ001
    monkeypatch.setattr("engine.runtime.ddl.build_source", log.reader)
    with running(tmp_path) as engine:
        engine.run(
            "CREATE SOURCE s (k INT) WITH (connector = 'kafka', topic = 't', properties.bootstrap.server = 'nowhere:1')"
            " FORMAT PLAIN ENCODE JSON"
        )
        source: Any = next(o for o in engine.engine.catalog.objects.values() if isinstance(o, Input))
        taken = ConnectorInput(source, log.reader(), None)
        taken.start(engine.engine.store.writer, lambda: None)
        log.serve({0: 3})
        assert taken.poll(8) == 3
        log.serve({0: 5})
        assert taken.poll(8) == 5
        log.serve_all()
        assert taken.poll(8) == 8
        assert taken.poll(8) == 8
