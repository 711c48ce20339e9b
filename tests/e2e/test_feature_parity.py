"""Features are the same online, at every moment, as those computed from the raw events in the lake; a planted skew is located.

The whole way with real parts: broker, stream database, lake; 5 % of the events come late and 2 % are corrected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from pyiceberg.catalog import Catalog

from core.clock import SystemClock
from core.errors import InvalidInputError, NotFoundError, UnavailableError
from core.settings import Settings
from features import online, parity, training
from features.declaration import FeatureView
from features.past import get_as_of
from features.point_in_time import Known
from features.references import choose
from features.registry import FeatureRegistry
from headrace import feature_views
from iceberg.catalog import open_lake
from learning.telemetry import load_telemetry
from pipelines import folder
from tests.e2e.feature_world import START, Skew, batches, send, write_folder

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("processes")]

WRONG_VALUE = Skew(
    "v", "avg(a) AS a_avg", f"avg(a) + CASE WHEN entity_id = 'pump-3' AND window_end = '{START + timedelta(seconds=40)}' THEN 0.5 ELSE 0 END AS a_avg"
)  # fmt: skip
WRONG_DEFINITION = Skew("d", "stddev_samp(b)", "stddev_pop(b)")


@dataclass
class World:
    """A replay that is over."""

    settings: Settings
    catalog: Catalog
    views: dict[str, FeatureView]
    connection: psycopg.Connection[tuple[Any, ...]]
    name: str
    producer: Producer
    last: dict[str, int]

    def verify(self, *endings: str, moments: int = 20, erased: Sequence[parity.Erased] = ()) -> parity.Report:
        views = [self.views[self.name + each] for each in endings]
        return parity.verify(self.connection, self.catalog, views, moments=moments, erased=erased)


def _replay(platform: dict[str, str], root: Path, name: str, *, real: int, simulated: int, count: int) -> World:
    path = root / name
    path.mkdir()
    write_folder(path, name, [WRONG_VALUE, WRONG_DEFINITION])
    settings = Settings(data_dir=Path(platform["data_dir"]), database_url=platform["database"], kafka=platform["kafka"])
    catalog = open_lake(settings)
    feature_views.apply(settings, [folder.load(path)], catalog, SystemClock())
    views = {each.view.name: each.view for each in FeatureRegistry(catalog, SystemClock()).latest().values()}
    table = load_telemetry().stream.slice(0, real)
    readings = list(zip(*(table[f"f{i}"].to_pylist() for i in (1, 5, 7)), strict=True))
    producer = Producer({"bootstrap.servers": platform["kafka"], "linger.ms": 5, "enable.idempotence": True})
    connection = psycopg.connect(platform["database"], autocommit=True)
    last = {"w": -1, "c": -1}
    for batch in batches(readings, simulated, seed=11, count=count):
        for ending, records in batch.records.items():
            last[ending] = max(last[ending], send(producer, f"events.{name}{ending}", records))
        # Every batch is an epoch of its own at least: the views are watched while time goes on.
        online.wait_for(connection, [views[f"{name}c"]], {0: last["c"]}, 60)
    online.wait_for(connection, [views[f"{name}w"]], {0: last["w"]}, 120)
    return World(settings, catalog, views, connection, name, producer, last)


@pytest.fixture(scope="module")
def world(bare_platform: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = _replay(bare_platform, tmp_path_factory.mktemp("parity"), "parity", real=2_500, simulated=2_500, count=12)
    yield found
    found.connection.close()


def test_features_are_the_same_online_and_from_raw_events_now_and_at_every_moment(world: World) -> None:
    report = world.verify("w", "c")
    assert report.found == []
    assert report.mismatches == 0
    for ending in ("w", "c"):
        view = report.views[world.name + ending]
        assert view.skipped is None
        assert view.moments >= 8, "the past was looked at"
        assert view.compared > 4 * view.rows > 0
    late = world.connection.execute("SELECT count(*) FROM quarantine WHERE stream = %s", (f"{world.name}w",)).fetchall()
    assert 20 < late[0][0] < 130, "some of the late rows came too late for their windows"


def test_a_planted_wrong_value_is_found_and_located(world: World) -> None:
    report = world.verify("wv")
    now = [found for found in report.found if found.at == "now"]
    assert [(f.view, f.entity["entity_id"], f.timestamp, f.feature, f.kind) for f in now] == [
        (f"{world.name}wv", "pump-3", START + timedelta(seconds=40), "a_avg", "value")
    ]
    assert now[0].online == pytest.approx(now[0].offline + 0.5)
    assert {(s.feature, s.likely) for s in report.suspects} == {("a_avg", "value")}
    assert len(report.found) > 1, "it is found in the past, too"


def test_a_subject_that_was_erased_is_left_out_and_counted(world: World) -> None:
    view = world.name + "wv"
    without = world.verify("wv", erased=[parity.Erased(None, "pump-3")])
    assert without.mismatches == 0
    assert 0 < without.views[view].erased < without.views[view].rows
    of_another_tenant = world.verify("wv", erased=[parity.Erased("somebody else", "pump-3")])
    assert of_another_tenant.mismatches > 0
    assert of_another_tenant.views[view].erased == 0


def test_a_planted_wrong_definition_is_found_and_told_from_a_wrong_value(world: World) -> None:
    report = world.verify("wd", moments=3)
    assert {(s.feature, s.likely) for s in report.suspects} == {("b_std", "definition")}
    assert all(found.feature == "b_std" and found.kind == "value" for found in report.found)
    assert report.mismatches > 10


def test_a_history_that_lacks_or_invents_rows_is_found(world: World) -> None:
    """The check can fail on whole rows, too: a declaration that forgets an entity, and one that reads ahead of the watermark."""
    view = world.views[f"{world.name}w"]
    assert view.offline is not None
    from dataclasses import replace

    fewer = replace(view, offline=replace(view.offline, sql=f"SELECT * FROM ({view.offline.sql}) WHERE entity_id <> 'pump-1'"))
    report = parity.verify(world.connection, world.catalog, [fewer], moments=2)
    assert {(found.kind, found.entity["entity_id"]) for found in report.found} == {("missing offline", "pump-1")}
    early = replace(view, offline=replace(view.offline, watermark=timedelta(seconds=1)))
    report = parity.verify(world.connection, world.catalog, [early], moments=20)
    # Of the last rows, online has one window and offline already the next: each lacks the other's.
    assert {found.kind for found in report.found if found.at != "now, latest"} == {"missing online"}
    with pytest.raises(InvalidInputError, match="gives no `a_avg`"):
        parity.verify(
            world.connection,
            world.catalog,
            [replace(view, offline=replace(view.offline, sql=f"SELECT * EXCLUDE (a_avg) FROM ({view.offline.sql})"))],
        )


def test_a_read_sees_the_event_that_it_waits_for(world: World) -> None:
    """Row 32: read-your-writes by position, and the answer says as of when it is. U49: seconds, where others took 10 to 20 minutes."""
    view = world.views[f"{world.name}c"]
    event = {
        "tenant_id": "acme", "entity_id": "newcomer", "event_id": "n1", "event_time": SystemClock().now().isoformat(), "a": 4.0, "b": 1.0, "c": 2.0,
    }  # fmt: skip
    offset = send(world.producer, f"events.{world.name}c", [event])
    chosen = choose([f"{view.name}:a_avg", f"{view.name}:readings"], world.views)
    entity = {"tenant_id": "acme", "entity_id": "newcomer"}
    answer = online.get(world.connection, chosen, [entity], SystemClock().now, after={0: offset}, timeout_seconds=30)
    (row,) = answer.rows
    assert list(row.values.items()) == [(f"{view.name}__a_avg", 4.0), (f"{view.name}__readings", 1)]
    state = answer.views[view.name]
    assert state.as_of == datetime.fromisoformat(str(event["event_time"]))
    assert state.position == {0: offset}
    assert state.lag_seconds is not None
    assert 0 < state.lag_seconds < 60
    with pytest.raises(UnavailableError, match=f"at {offset}, not {offset + 1}"):
        online.get(world.connection, chosen, [entity], SystemClock().now, after={0: offset + 1}, timeout_seconds=0.1)


def test_a_read_that_waits_for_a_refused_event_is_told_so(world: World) -> None:
    stream = f"{world.name}w"
    (offset,) = world.connection.execute("SELECT max(kafka_offset) FROM quarantine WHERE stream = %s", (stream,)).fetchall()[0]
    last = send(world.producer, f"events.{stream}", [{"nonsense": True}])
    chosen = choose([f"{stream}:a_avg"], world.views)
    assert offset is not None
    with pytest.raises((InvalidInputError, UnavailableError), match=r"refused|not read so far"):
        online.get(
            world.connection,
            chosen,
            [{"tenant_id": "acme", "entity_id": "pump-1"}],
            SystemClock().now,
            after={0: last},
            timeout_seconds=3,
        )


def test_missing_and_expired_entities_are_told_apart_and_never_silent(world: World) -> None:
    """U42: an expired value is NULL and says so; U40: the columns come as asked, whatever the order."""
    view = world.views[f"{world.name}w"]
    entities = [{"tenant_id": "acme", "entity_id": name} for name in ("pump-1", "nobody")]
    references = [f"{view.name}:c_span", f"{world.name}c:readings", f"{view.name}:a_avg"]
    newest = world.connection.execute(f"SELECT max(feature_end) FROM {view.latest}".encode()).fetchall()[0][0]
    fresh = online.get(world.connection, choose(references, world.views), entities, lambda: newest + timedelta(seconds=59))
    assert [row.views[view.name].status for row in fresh.rows] == ["present", "missing"]
    assert list(fresh.rows[0].values) == [f"{view.name}__c_span", f"{world.name}c__readings", f"{view.name}__a_avg"]
    assert fresh.rows[0].values[f"{view.name}__a_avg"] is not None
    later = online.get(
        world.connection, choose(references[::-1], world.views), entities, lambda: newest + timedelta(seconds=60)
    )
    assert [row.views[view.name].status for row in later.rows] == ["expired", "missing"]
    assert later.rows[0].values[f"{view.name}__a_avg"] is None
    assert later.rows[0].views[view.name].timestamp == newest, "an expired value still says how old it is"
    with pytest.raises(InvalidInputError, match="does not name exactly"):
        online.get(world.connection, choose(references, world.views), [{"entity_id": "pump-1"}], SystemClock().now)
    absent = {"gone": FeatureView("gone", ("tenant_id",), "at", view.features)}
    with pytest.raises(NotFoundError, match="not deployed"):
        online.get(world.connection, choose(["gone"], absent), [{"tenant_id": "acme"}], SystemClock().now)


def test_a_read_is_one_statement_whatever_the_number_of_views(world: World) -> None:
    """U46: latency must not grow with the number of views by a round trip for each."""
    names = [f"{world.name}{ending}" for ending in ("w", "wv", "wd", "c")]
    statements: list[str] = []

    class Counting(psycopg.Cursor[tuple[Any, ...]]):
        def execute(self, query: Any, *rest: Any, **more: Any) -> Any:
            statements.append(query)
            return super().execute(query, *rest, **more)

    entities = [{"tenant_id": "acme", "entity_id": f"pump-{i}"} for i in range(8)]
    with psycopg.connect(world.connection.info.dsn, autocommit=True, cursor_factory=Counting) as connection:
        answer = online.get(connection, choose(names, world.views), entities, SystemClock().now)
    assert len(statements) == 1
    assert set(answer.views) == set(names)
    assert len(answer.rows) == 8


def test_a_training_set_says_what_was_served(world: World) -> None:
    """The offline join over the history equals what online reads of that moment gave, and corrections show only where asked for."""
    view = world.views[f"{world.name}c"]
    label = {"tenant_id": ["acme"], "entity_id": ["sensor-1"], "event_time": [START + timedelta(seconds=60)]}
    import pyarrow as pa

    made = training.build(world.catalog, pa.table(label), [view.name], world.views, time="event_time")
    expected = world.connection.execute(
        f"SELECT readings, a_avg, b_std, c_span FROM {view.relation} WHERE entity_id = 'sensor-1' AND feature_end = %s".encode(),
        (START + timedelta(seconds=60),),
    ).fetchall()
    assert list(made.rows.to_pylist()[0].values())[-4:] == pytest.approx(list(expected[0]))
    now = SystemClock().now()
    chosen = choose([f"{view.name}:a_avg"], world.views)
    entity = [{"tenant_id": "acme", "entity_id": "sensor-1"}]
    newest = online.get(world.connection, chosen, entity, lambda: START + timedelta(hours=1))
    as_of = get_as_of(world.catalog, chosen, entity, START + timedelta(hours=1), now, Known.CORRECTED)
    assert list(newest.rows[0].values) == list(as_of.rows[0].values), "U39: the same columns online and offline"
    assert newest.rows[0].values == pytest.approx(as_of.rows[0].values), "U38: and the same values"
    then = get_as_of(world.catalog, chosen, entity, START + timedelta(seconds=60), now, Known.THEN)
    corrected = get_as_of(world.catalog, chosen, entity, START + timedelta(seconds=60), now, Known.CORRECTED)
    assert then.rows[0].views[view.name].status == "missing", "the lake learned of that minute only later"
    assert corrected.rows[0].values[f"{view.name}__a_avg"] == pytest.approx(expected[0][1])


def test_applying_again_changes_nothing(world: World) -> None:
    before = {name: found.version for name, found in FeatureRegistry(world.catalog, SystemClock()).latest().items()}
    path = Path(str(world.settings.data_dir)).parent
    folders = [found for found in path.parent.rglob("features.yaml") if found.parent.name == world.name]
    done = feature_views.apply(world.settings, [folder.load(folders[0].parent)], world.catalog, SystemClock())
    assert done.registered == {}
    assert done.objects.created == []
    assert done.objects.rebuilt == []
    assert {name: before[name] for name in done.unchanged} == done.unchanged
    assert json.dumps(done.unchanged)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_a_hundred_thousand_events_late_and_corrected_give_no_mismatch(bare_platform: dict[str, str], tmp_path: Path) -> None:
    real = load_telemetry().stream.num_rows
    world = _replay(bare_platform, tmp_path, "nightly", real=real, simulated=100_000 - real, count=120)
    report = world.verify("w", "c", moments=60)
    print(f"compared {report.compared}, mismatches {report.mismatches}, {report.views}")
    assert report.found == []
    assert report.mismatches == 0
    assert sum(view.events for view in report.views.values()) > 97_000
    assert report.compared > 100_000
    assert world.verify("wv").mismatches > 0
    world.connection.close()
