"""A label gets what was true at its time: nothing later, nothing lost, and of a corrected row the version that is asked for."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.types import DoubleType

from core.errors import ConflictError, InvalidInputError, NotFoundError
from features import lake as lake_relations
from features import point_in_time, training
from features.declaration import FeatureView
from features.point_in_time import History, Known
from features.references import choose
from tests.unit.features.conftest import Lake, at, closed, updating

type_row = dict[str, Any]


def _labels(*labels: tuple[str, float]) -> pa.Table:
    return pa.table(
        {
            "tenant_id": ["t"] * len(labels),
            "entity_id": [entity for entity, _ in labels],
            "event_time": pa.array([at(seconds) for _, seconds in labels], pa.timestamp("us", "UTC")),
            "label": list(range(len(labels))),
        }
    )


def _row(entity: str, seconds: float, x: float | None = None, y: float | None = None, **more: Any) -> type_row:
    return {"tenant_id": "t", "entity_id": entity, "feature_end": at(seconds), "x": x, "y": y, **more}


def _join(
    lake: Lake, view: FeatureView | Sequence[FeatureView], labels: pa.Table, *references: str, **more: Any
) -> list[type_row]:
    views = {each.name: each for each in ([view] if isinstance(view, FeatureView) else view)}
    made = training.build(lake.catalog, labels, references or [*views], views, time="event_time", **more)
    rows: list[type_row] = made.rows.to_pylist()
    return rows


def test_every_label_gives_one_row_in_its_order_also_where_nothing_matches(lake: Lake) -> None:
    """U40: rows are never dropped, and what is asked beside a feature does not change it."""
    pumps, totals = closed(), updating()
    lake.create(pumps)
    lake.create(totals, changelog=True)
    lake.append(pumps, [_row("a", 10, 1.0, 2.0), _row("b", 10, 3.0, 4.0)])
    lake.append(totals, [_row("a", 5, 7.0, 8.0, changelog_op=1)])
    labels = _labels(("b", 20), ("nobody", 20), ("a", 20), ("a", 20), ("a", 1))
    both = _join(lake, [pumps, totals], labels, "pumps:y", "totals:x", "pumps:x")
    assert [row["label"] for row in both] == [0, 1, 2, 3, 4]
    assert [row["pumps__x"] for row in both] == [3.0, None, 1.0, 1.0, None]
    assert [row["totals__x"] for row in both] == [None, None, 7.0, 7.0, None]
    assert list(both[0])[-3:] == ["pumps__y", "totals__x", "pumps__x"]
    turned = _join(lake, [pumps, totals], labels, "totals:x", "pumps:x", "pumps:y")
    assert [sorted(row.items()) for row in turned] == [sorted(row.items()) for row in both]
    assert [row["pumps__x"] for row in _join(lake, pumps, labels, "pumps:x")] == [row["pumps__x"] for row in both]


def test_the_right_one_of_many_versions_of_a_key_is_chosen(lake: Lake) -> None:
    """U41: three and more versions of one key, in event time and in knowledge."""
    view = updating()
    lake.create(view, changelog=True)
    lake.append(
        view, [_row("a", 10, 1.0, changelog_op=1), _row("a", 20, 2.0, changelog_op=1), _row("a", 30, 3.0, changelog_op=1)]
    )
    for version in (21.0, 22.0, 23.0):
        previous = 2.0 if version == 21.0 else version - 1
        lake.append(view, [_row("a", 20, previous, changelog_op=4), _row("a", 20, version, changelog_op=3)])
    rows = _join(lake, view, _labels(("a", 9), ("a", 10), ("a", 19.5), ("a", 20), ("a", 29), ("a", 1000)), "totals:x")
    assert [row["totals__x"] for row in rows] == [None, 1.0, 1.0, 23.0, 23.0, 3.0]


def test_the_ttl_ends_a_value_and_is_told(lake: Lake) -> None:
    """U42: an expired value is none, exactly from its ttl on."""
    view = closed(ttl=timedelta(seconds=60))
    lake.create(view)
    lake.append(view, [_row("a", 0, 1.0)])
    rows = _join(lake, view, _labels(("a", 0), ("a", 59.999999), ("a", 60), ("a", 3600)), "pumps:x", intervals=True)
    assert [row["pumps__x"] for row in rows] == [1.0, 1.0, None, None]
    assert rows[0]["pumps__valid_from"] == at(0)
    assert rows[0]["pumps__valid_to"] == at(60)
    assert rows[2]["pumps__valid_from"] is None


def test_late_and_corrected_rows_can_be_had_as_corrected_and_as_known_then(lake: Lake) -> None:
    """U42: what came late is in the history, and what was known before is not forgotten."""
    view = updating()
    lake.create(view, changelog=True)
    lake.append(view, [_row("a", 10, 1.0, changelog_op=1)], written=at(11))
    lake.append(view, [_row("a", 10, 1.0, changelog_op=4), _row("a", 10, 5.0, changelog_op=3)], written=at(40))
    lake.append(view, [_row("a", 20, 9.0, changelog_op=1)], written=at(60))  # twenty seconds are late by forty
    labels = _labels(("a", 10.5), ("a", 12), ("a", 39), ("a", 41), ("a", 61))
    assert [r["totals__x"] for r in _join(lake, view, labels, "totals:x")] == [5.0, 5.0, 9.0, 9.0, 9.0]
    assert [r["totals__x"] for r in _join(lake, view, labels, "totals:x", known=Known.THEN)] == [None, 1.0, 1.0, 5.0, 9.0]
    assert [r["totals__x"] for r in _join(lake, view, labels, "totals:x", known=at(45))] == [5.0] * 5


def test_of_windows_that_close_the_ones_known_then_are_found_too(lake: Lake) -> None:
    view = closed()
    lake.create(view)
    lake.append(view, [_row("a", 10, 1.0, 2.0)], written=at(16))
    lake.append(view, [_row("a", 20, 3.0, 4.0)], written=at(26))
    rows = _join(lake, view, _labels(("a", 15), ("a", 16), ("a", 20), ("a", 26)), "pumps:x", known=Known.THEN)
    assert [row["pumps__x"] for row in rows] == [None, 1.0, 1.0, 3.0]


def test_a_row_that_was_taken_back_gives_way_to_the_one_before(lake: Lake) -> None:
    view = updating()
    lake.create(view, changelog=True)
    lake.append(view, [_row("a", 10, 1.0, changelog_op=1), _row("a", 20, 2.0, changelog_op=1)], written=at(21))
    lake.append(view, [_row("a", 20, 2.0, changelog_op=2)], written=at(30))
    labels = _labels(("a", 25), ("a", 35))
    assert [r["totals__x"] for r in _join(lake, view, labels, "totals:x")] == [1.0, 1.0]
    assert [r["totals__x"] for r in _join(lake, view, labels, "totals:x", known=Known.THEN)] == [2.0, 1.0]


def test_intervals_of_a_source_with_validity_are_kept(lake: Lake) -> None:
    """U43: valid-from and valid-to (SCD2) of the source itself."""
    view = replace(updating("prices"), valid_until="until")
    lake.create(view)
    lake.append(view, [_row("a", 0, 1.0, until=at(10)), _row("a", 20, 2.0, until=None)])
    rows = _join(lake, view, _labels(("a", 5), ("a", 10), ("a", 15), ("a", 20), ("a", 99)), "prices:x")
    assert [row["prices__x"] for row in rows] == [1.0, None, None, 2.0, 2.0]


def test_of_rows_with_the_same_time_the_greater_values_count_whatever_their_order(lake: Lake) -> None:
    """U45: a latest join never depends on chance."""
    view = updating()
    lake.create(view)
    rows = [_row("a", 10, 1.0, 5.0), _row("a", 10, 2.0, None), _row("a", 10, 2.0, 3.0), _row("a", 10, None, 9.0)]
    random.Random(7).shuffle(rows)
    for row in rows:
        lake.append(view, [row])
    assert [(r["totals__x"], r["totals__y"]) for r in _join(lake, view, _labels(("a", 10)))] == [(2.0, 3.0)]


def test_a_training_set_is_made_again_from_its_manifest_although_the_lake_went_on(lake: Lake, tmp_path: Path) -> None:
    view = closed()
    lake.create(view)
    lake.append(view, [_row("a", 10, 1.0, 2.0)])
    file = tmp_path / "labels.csv"
    file.write_text("tenant_id,entity_id,event_time,label\nt,a,2026-03-01T00:00:30Z,1\nt,b,2026-03-01 00:00:30+00,0\n")
    made = training.build(lake.catalog, str(file), ["pumps"], {"pumps": view}, time="event_time", versions={"pumps": 3})
    (tmp_path / "m.json").write_text(made.manifest.dumps())
    lake.append(view, [_row("a", 20, 8.0, 9.0), _row("b", 20, 8.0, 9.0)])
    again = training.reproduce(lake.catalog, training.Manifest.read(tmp_path / "m.json"))
    assert again.rows == made.rows
    assert again.manifest == made.manifest
    assert made.manifest.unmatched == {"pumps": 1}
    newer = training.build(lake.catalog, str(file), ["pumps"], {"pumps": view}, time="event_time")
    assert newer.rows != made.rows
    assert newer.manifest.content_sha256 != made.manifest.content_sha256
    file.write_text(file.read_text() + "t,c,2026-03-01T00:00:30Z,1\n")
    with pytest.raises(ConflictError, match="labels are not what they were"):
        training.reproduce(lake.catalog, training.Manifest.read(tmp_path / "m.json"))


def test_a_manifest_that_was_touched_is_not_believed(lake: Lake, tmp_path: Path) -> None:
    view = closed()
    lake.create(view)
    lake.append(view, [_row("a", 10, 1.0, 2.0)])
    file = tmp_path / "labels.csv"
    file.write_text("tenant_id,entity_id,event_time\nt,a,2026-03-01T00:00:30Z\n")
    made = training.build(lake.catalog, str(file), ["pumps:x"], {"pumps": view}, time="event_time")
    content = json.loads(made.manifest.dumps())
    content["features"] = ["pumps:y"]
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(ConflictError, match="rows are not what they were"):
        training.reproduce(lake.catalog, training.Manifest.read(tmp_path / "m.json"))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("tenant_id,event_time\nt,2026-03-01T00:00:30Z\n", "no column `entity_id`"),
        ("tenant_id,entity_id,at\nt,a,2026-03-01T00:00:30Z\n", "no column `event_time`"),
        ("tenant_id,entity_id,event_time\nt,a,soon\n", "not a time"),
        ("tenant_id,entity_id,event_time\nt,a,2026-03-01T00:00:30Z\nt,b,\n", "label 2 has no"),
        ("tenant_id,entity_id,event_time,pumps__x\nt,a,2026-03-01T00:00:30Z,1\n", "a column `pumps__x` already"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused(lake: Lake, tmp_path: Path, labels: str, words: str) -> None:
    view = closed()
    lake.create(view)
    file = tmp_path / "labels.csv"
    file.write_text(labels)
    with pytest.raises(InvalidInputError, match=words):
        training.build(lake.catalog, str(file), ["pumps"], {"pumps": view}, time="event_time")


def test_what_is_not_there_is_told_with_what_is_near() -> None:
    views = {"pumps": closed()}
    with pytest.raises(NotFoundError, match="Did you mean `pumps`"):
        choose(["pump"], views)
    with pytest.raises(NotFoundError, match="no feature `z`"):
        choose(["pumps:z"], views)
    with pytest.raises(InvalidInputError, match="asked for twice"):
        choose(["pumps", "pumps:x"], views)


def test_files_that_cannot_hold_a_row_are_not_read(lake: Lake) -> None:
    view = closed(ttl=timedelta(hours=1))
    lake.create(view)
    for day in range(5):
        lake.append(view, [_row("a", day * 86_400 + 10, float(day))])
    (row,) = _join(lake, view, _labels(("a", 2 * 86_400 + 60)), "pumps:x")
    assert row["pumps__x"] == 2.0
    table = lake.catalog.load_table(view.history_table)
    for file in table.scan().plan_files():
        if "2026-03-03" not in file.file.file_path:
            Path(file.file.file_path.removeprefix("file://")).unlink()
    assert _join(lake, view, _labels(("a", 2 * 86_400 + 60)), "pumps:x") == [row]


def test_a_column_that_was_renamed_and_one_that_was_added_are_read_right(lake: Lake) -> None:
    view = closed()
    lake.create(view)
    lake.append(view, [_row("a", 10, 1.0, 2.0)])
    for step in ("rename", "add"):
        with lake.catalog.load_table(view.history_table).update_schema() as change:
            if step == "rename":
                change.rename_column("x", "speed")
            else:
                change.add_column("x", DoubleType())  # a new column with an old name: only the field id tells them apart
    changed = replace(view, features=tuple(replace(view.features[0], name=name) for name in ("speed", "x", "y")))
    lake.create(changed)
    lake.append(changed, [_row("a", 20, 7.0, 8.0, speed=9.0)])
    rows = _join(lake, changed, _labels(("a", 15), ("a", 20)))
    assert [(row["pumps__speed"], row["pumps__x"], row["pumps__y"]) for row in rows] == [(1.0, None, 2.0), (9.0, 7.0, 8.0)]


# -- the oracle: plain Python, one label at a time

_ENTITIES = ("a", "b")
_times = st.integers(0, 12).map(float)
_values = st.one_of(st.none(), st.integers(-3, 3).map(float))
_changes = st.lists(st.tuples(st.sampled_from(_ENTITIES), _times, _values, st.booleans()), max_size=6)
_asked = st.lists(
    st.tuples(st.sampled_from((*_ENTITIES, "c")), st.integers(0, 30).map(lambda n: n / 2)), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(
    epochs=st.lists(_changes, max_size=6),
    asked=_asked,
    ttl=st.sampled_from([3, 100]),
    known=st.sampled_from(["corrected", "then", "at"]),
)
def test_the_join_equals_a_search_for_each_label(
    epochs: list[list[tuple[str, float, float | None, bool]]], asked: list[tuple[str, float]], ttl: int, known: str
) -> None:
    view = updating(ttl=timedelta(seconds=ttl), features=("x",))
    changelog: list[type_row] = []
    current: dict[tuple[str, float], float | None] = {}
    for number, changes in enumerate(epochs, start=1):
        before = dict(current)
        for entity, seconds, value, remove in changes:
            if remove:
                current.pop((entity, seconds), None)
            else:
                current[(entity, seconds)] = value
        stamp = {"sink_epoch": number, "sink_time": at(number * 2)}
        for key in before.keys() | current.keys():
            if key in before and (key not in current or before[key] != current[key]):
                changelog.append(_row(key[0], key[1], before[key], changelog_op=4 if key in current else 2) | stamp)
            if key in current and (key not in before or before[key] != current[key]):
                changelog.append(_row(key[0], key[1], current[key], changelog_op=3 if key in before else 1) | stamp)
    moment = at(7)
    got = _run_join(view, changelog, asked, {"corrected": Known.CORRECTED, "then": Known.THEN, "at": moment}[known])
    until: Callable[[datetime], bool] = lambda _: True  # noqa: E731
    expected = []
    for entity, seconds in asked:
        if known != "corrected":
            limit = at(seconds) if known == "then" else moment
            until = lambda written, limit=limit: written <= limit  # type: ignore[misc]  # noqa: E731
        expected.append(_search(changelog, entity, seconds, ttl, until))
    assert got == expected


def _search(
    changelog: Sequence[type_row], entity: str, seconds: float, ttl: int, until: Callable[[datetime], bool]
) -> float | None:
    state: dict[datetime, float | None] = {}
    for row in sorted(changelog, key=lambda r: (r["sink_epoch"], r["changelog_op"] in (1, 3))):
        if row["entity_id"] == entity and until(row["sink_time"]):
            if row["changelog_op"] in (1, 3):
                state[row["feature_end"]] = row["x"]
            else:
                state.pop(row["feature_end"], None)
    there = [time for time in state if time <= at(seconds)]
    if not there or max(there) <= at(seconds) - timedelta(seconds=ttl):
        return None
    return state[max(there)]


def _run_join(
    view: FeatureView, changelog: list[type_row], asked: list[tuple[str, float]], known: point_in_time.type_known
) -> list[float | None]:
    stamp = pa.timestamp("us", "UTC")
    schema = pa.schema(
        [
            ("tenant_id", pa.string()), ("entity_id", pa.string()), ("feature_end", stamp), ("x", pa.float64()),
            ("changelog_op", pa.int32()), ("sink_epoch", pa.int64()), ("sink_time", stamp),
        ]
    )  # fmt: skip
    with lake_relations.connect() as connection:
        connection.register("history", pa.Table.from_pylist(changelog, schema=schema))
        spine = _labels(*asked)
        connection.register("labels", spine.append_column("_row", pa.array(range(spine.num_rows), pa.int64())))
        chosen = choose([view.name], {view.name: view})
        sql = point_in_time.join_sql("labels", "event_time", chosen, [History(view, "history", "changelog")], known)
        values: list[float | None] = point_in_time.run(connection, sql)["totals__x"].to_pylist()
        return values
