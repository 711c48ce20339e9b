"""Erasing takes a subject and its bytes, nobody else's rows, and says the truth about it."""

from __future__ import annotations

import gzip
import json
import re
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pyiceberg.catalog import Catalog

from core.clock import SystemClock
from core.errors import ConflictError, CorruptDataError, InvalidInputError
from iceberg.compaction import compact
from iceberg.compaction_plan import CompactionPolicy
from iceberg.erasure import certificate
from iceberg.erasure.eraser import Eraser
from iceberg.erasure.selection import Subject
from iceberg.evolution import evolve, parse_steps
from iceberg.expiry import expire_snapshots
from iceberg.holds import HeldError, hold, release
from iceberg.loading import must_load, table_names
from iceberg.merge import delete_by_key
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable
from iceberg.subjects import PROPERTY
from tests.unit.iceberg.erasure_lake import NAMES, WHO, contents, eraser, fill, open_lake, without_who

PSEUDONYM = re.compile(r"erased-[0-9a-f]{32}")


def bare(rows: dict[str, list[dict[str, object]]]) -> dict[str, list[str]]:
    """Rows as sorted text, pseudonyms as `?`."""
    return {
        table: sorted(PSEUDONYM.sub("?", json.dumps(row, default=str, sort_keys=True)) for row in each)
        for table, each in rows.items()
    }


def grep(folder: Path, *words: str) -> list[Path]:
    """Files that hold a word as plain bytes, by another way than the search under test."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if any(word.encode() in path.read_bytes() for word in words)]


@pytest.fixture
def lake(tmp_path: Path) -> Catalog:
    catalog = open_lake(tmp_path)
    fill(catalog)
    return catalog


def test_the_subject_goes_and_every_other_row_stays(tmp_path: Path, lake: Catalog) -> None:
    before = contents(lake)
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["clean"], done["after"]
    assert bare(contents(open_lake(tmp_path))) == bare(without_who(before))
    notes = {name: (note["rows_deleted"], note["rows_pseudonymised"]) for name, note in done["tables"].items()}
    assert {name: counts for name, counts in notes.items() if counts != (0, 0)} == {
        "lake.predictions": (4, 0),
        "lake.features_pump": (4, 0),
        "lake.feedback": (4, 0),
        "lake.enrichments": (4, 12),
        "lake.audit": (0, 4),
    }
    assert done["tables"]["lake.audit"]["kept_because"]


def test_the_bytes_are_gone_and_were_there(tmp_path: Path, lake: Catalog) -> None:
    warehouse = tmp_path / "warehouse"
    # Statistics and bounds stand uncompressed: plain bytes tell, too.
    found = eraser(tmp_path, lake).plan(WHO)["found"]
    assert found["files_with_traces"] >= 16
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["before"]["hits"] == found["hits"]
    assert done["after"]["hits"] == 0
    deleted = {entry["path"].removeprefix("file://"): entry for entry in done["files_deleted"]}
    assert not any(Path(path).exists() for path in deleted)
    assert sum(entry["bytes"] for entry in deleted.values()) == done["bytes_deleted"]
    for derived in done["derived_ids"]:
        assert not grep(warehouse, derived, derived[:16])
    assert grep(warehouse, NAMES[1]), "the others' names are still found by this way of looking"


def test_a_pseudonym_is_the_same_in_all_rows_and_stands_in_no_file_of_the_erasure(tmp_path: Path, lake: Catalog) -> None:
    eraser(tmp_path, lake).erase(WHO)
    text = json.dumps(contents(lake), default=str)
    (pseudonym,) = set(PSEUDONYM.findall(text))
    assert not grep(tmp_path / "erasures", pseudonym)


CANARIES: dict[str, Callable[[], bytes]] = {
    "lake/predictions/data/left.parquet.gz": lambda: gzip.compress(b"who: " + WHO.name.encode()),
    "lake/predictions/data/left.zst": lambda: zstandard.compress(b"who: " + WHO.name.encode()),
    "lake/predictions/metadata/00099-old.gz.metadata.json": lambda: gzip.compress(json.dumps({"p": WHO.name}).encode()),
    "lake/predictions/metadata/stats.puffin": lambda: b"PFA1" + zstandard.compress(WHO.name.encode()) + b"PFA1",
    "lake/elsewhere/notes.txt": lambda: b"about " + WHO.name.encode(),
}


def test_canaries_in_files_that_nothing_refers_to_are_found_and_deleted(tmp_path: Path, lake: Catalog) -> None:
    for name, content in CANARIES.items():
        path = tmp_path / "warehouse" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())
    stray = pa.table({"tenant_id": [WHO.tenant], "entity_id": [WHO.name], "prediction_id": ["ab" * 16]})
    pq.write_table(stray, tmp_path / "warehouse/lake/predictions/data/stray.parquet", compression="zstd")
    planned = {entry["path"] for entry in eraser(tmp_path, lake).plan(WHO)["traced_files"]}
    expected = {f"file://{tmp_path}/warehouse/{name}" for name in (*CANARIES, "lake/predictions/data/stray.parquet")}
    assert expected <= planned
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["clean"]
    assert "ab" * 16 in done["derived_ids"], "ids in rows that no snapshot shows count, too"
    assert not any((tmp_path / "warehouse" / name).exists() for name in CANARIES)


def test_a_young_file_that_nothing_refers_to_is_left_to_its_writer(tmp_path: Path, lake: Catalog) -> None:
    path = tmp_path / "warehouse/lake/predictions/data/in-flight.parquet"
    pq.write_table(pa.table({"tenant_id": [WHO.tenant], "entity_id": [WHO.name]}), path)
    note = tmp_path / "warehouse/lake/predictions/data/note.gz"
    note.write_bytes(gzip.compress(WHO.name.encode()))
    done = eraser(tmp_path, lake, in_flight=timedelta(hours=1)).erase(WHO)
    assert path.exists()
    assert not note.exists(), "no writer of tables leaves such a file"
    assert [entry["path"] for entry in done["after"]["arrived_later"]] == [f"file://{path}"]
    assert eraser(tmp_path, lake).erase(WHO)["clean"]
    assert not path.exists()


def test_snapshots_that_never_saw_the_subject_can_still_be_read(tmp_path: Path) -> None:
    catalog = open_lake(tmp_path)
    fill(catalog, commits=1)
    table = must_load(catalog, "lake.drift_events")
    sink = ExactlyOnceTable(catalog, "lake.drift_events", uuid.uuid4())
    sink.append(1, pa.table({"drift_id": ["d1"], "kind": ["DATA"]}))
    table.refresh()
    snapshot = table.metadata.current_snapshot_id
    done = eraser(tmp_path, catalog).erase(WHO)
    assert done["tables"]["lake.drift_events"]["snapshots_expired"] == []
    assert must_load(catalog, "lake.drift_events").scan(snapshot_id=snapshot).to_arrow().num_rows == 1


def test_the_subject_in_old_snapshots_only_goes_too(tmp_path: Path, lake: Catalog) -> None:
    table = must_load(lake, "lake.predictions")
    table.delete(f"entity_id = '{WHO.name}' and tenant_id = '{WHO.tenant}'")
    assert table.scan(row_filter=f"entity_id = '{WHO.name}' and tenant_id = '{WHO.tenant}'").to_arrow().num_rows == 0
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["clean"]
    assert len(done["derived_ids"]) == 4
    assert done["tables"]["lake.feedback"]["rows_deleted"] == 4


def test_rows_behind_position_deletes_go_and_deleted_ones_do_not_come_back(tmp_path: Path, lake: Catalog) -> None:
    gone = [row["prediction_id"] for row in contents(lake)["lake.predictions"] if row["entity_id"] in NAMES[:2]][:3]
    delete_by_key(lake, "lake.predictions", pa.table({"prediction_id": gone}))
    before = contents(lake)
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["clean"], done["after"]
    assert bare(contents(lake))["lake.predictions"] == bare(without_who(before))["lake.predictions"]


def test_a_table_whose_columns_changed_is_erased(tmp_path: Path, lake: Catalog) -> None:
    evolve(lake, "lake.features_pump", parse_steps(rename=["level_avg=level"], add=["more:string"]))
    before = contents(lake)
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["clean"], done["after"]
    assert bare(contents(lake))["lake.features_pump"] == bare(without_who(before))["lake.features_pump"]


def test_a_tag_on_a_snapshot_with_the_subject_goes_and_is_named(tmp_path: Path, lake: Catalog) -> None:
    table = must_load(lake, "lake.features_pump")
    snapshot = table.metadata.snapshots[1].snapshot_id
    table.manage_snapshots().create_tag(snapshot, "training-7").commit()
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["clean"]
    assert {"table": "lake.features_pump", "ref": "training-7"} in done["affected"]["training_snapshots"]


def test_models_that_were_trained_on_the_subject_are_named(tmp_path: Path, lake: Catalog) -> None:
    registry = Registry(lake, tmp_path / "warehouse")
    snapshot = must_load(lake, "lake.features_pump").metadata.current_snapshot_id
    for name, data in (
        ("pumps", {"table": "features_pump", "snapshot": snapshot}),
        ("notes", {"filter": f"entity_id = '{WHO.name}'"}),
        ("others", {"table": "lake.elsewhere", "snapshot": 1}),
    ):
        registry.register(
            name,
            _model(),
            kind="constant",
            metrics={},
            tags={},
            training_data=data,
            code_hash="",
            duration=timedelta(0),
        )
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["clean"], done["after"]
    assert {entry["model"] for entry in done["affected"]["models_to_retrain"]} == {"pumps", "notes"}
    assert done["affected"]["feature_tables"] == ["lake.features_pump"]
    assert registry.load_artifact("pumps", 1) == _model()


@pytest.mark.parametrize(("scope", "target"), [("subject", WHO.name), ("tenant", WHO.tenant), ("table", "lake.feedback")])
def test_a_legal_hold_blocks_and_changes_nothing(tmp_path: Path, lake: Catalog, scope: Any, target: str) -> None:
    held = hold(lake, scope, target, reason="case 2026-17")
    before = {name: must_load(lake, name).metadata for name in table_names(lake)}
    with pytest.raises(HeldError, match="case 2026-17"):
        eraser(tmp_path, lake).erase(WHO)
    assert {name: must_load(lake, name).metadata for name in table_names(lake)} == before
    assert eraser(tmp_path, lake).plan(WHO)["held"]
    release(lake, held.hold_id, reason="closed")
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["clean"], done["after"]


def test_a_plan_names_the_holds_that_would_block_it(tmp_path: Path, lake: Catalog) -> None:
    """Without a tenant every tenant's rows are meant, so a hold on any of them blocks."""
    hold(lake, "tenant", "globex", reason="case 2026-18")
    everyone = Subject(None, WHO.name)
    with pytest.raises(HeldError, match="case 2026-18"):
        eraser(tmp_path, lake).erase(everyone)
    assert [each["reason"] for each in eraser(tmp_path, lake).plan(everyone)["held"]] == ["case 2026-18"]
    assert eraser(tmp_path, lake).plan(WHO)["held"] == []


def test_a_plan_changes_nothing(tmp_path: Path, lake: Catalog) -> None:
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    plan = eraser(tmp_path, lake).plan(WHO)
    assert plan["tables"].keys() == {f"lake.{n}" for n in ("predictions", "features_pump", "feedback", "enrichments", "audit")}
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in files if "catalog.db" not in path.name and files[path] != after.get(path)} == set()


def test_erasing_again_finds_nothing_and_says_so(tmp_path: Path, lake: Catalog) -> None:
    first = eraser(tmp_path, lake).erase(WHO)
    heads = {name: must_load(lake, name).metadata.current_snapshot_id for name in table_names(lake)}
    second = eraser(tmp_path, lake).erase(WHO)
    assert second["clean"]
    assert (second["rows_deleted"], second["files_deleted"], second["before"]["hits"]) == (0, [], 0)
    assert second["previous"] == first["sha256"]
    assert {name: must_load(lake, name).metadata.current_snapshot_id for name in table_names(lake)} == heads


def test_another_tenants_subject_of_the_same_name_is_not_touched(tmp_path: Path, lake: Catalog) -> None:
    done = eraser(tmp_path, lake).erase(WHO)
    assert done["after"]["hits_of_other_tenants"] > 0
    left = [row for row in contents(lake)["lake.predictions"] if row["entity_id"] == WHO.name]
    assert {row["tenant_id"] for row in left} == {"globex"}
    assert len(left) == 4
    assert eraser(tmp_path, lake).erase(Subject("globex", WHO.name))["after"]["hits_of_other_tenants"] == 0


def test_without_a_tenant_every_tenants_subject_of_the_name_goes(tmp_path: Path, lake: Catalog) -> None:
    done = eraser(tmp_path, lake).erase(Subject(None, WHO.name))
    assert done["clean"], done["after"]
    assert (done["rows_deleted"], done["after"]["hits_of_other_tenants"]) == (32, 0)
    rows = contents(lake)
    assert not [row for row in rows["lake.predictions"] if row["entity_id"] == WHO.name]
    assert sum(row["entity_id"] != WHO.name for row in rows["lake.predictions"]) == 24


def test_a_trace_in_a_column_that_is_not_declared_is_told_and_leaves_the_erasure_unclean(tmp_path: Path, lake: Catalog) -> None:
    sink = ExactlyOnceTable(lake, "lake.predictions", uuid.uuid4())
    sink.append(1, pa.table({"prediction_id": ["cd" * 16], "tenant_id": ["acme"], "entity_id": ["other"], "label": [WHO.name]}))
    done = eraser(tmp_path, lake).erase(WHO)
    assert not done["clean"]
    left = {entry["kind"]: entry["traces"] for entry in done["after"]["traces"]}
    assert left["parquet"]["values of `label`"] == 1
    assert left.keys() == {"parquet", "avro"}, "the manifest repeats it as a bound"
    with must_load(lake, "lake.predictions").transaction() as change:
        change.set_properties({PROPERTY: json.dumps({"names": ["entity_id"], "ids": ["prediction_id"], "texts": ["label"]})})
    assert eraser(tmp_path, lake).erase(WHO)["clean"]


def test_a_malformed_declaration_stops_the_erasure_before_anything_is_changed(tmp_path: Path, lake: Catalog) -> None:
    with must_load(lake, "lake.predictions").transaction() as change:
        change.set_properties({PROPERTY: '{"nmaes": ["entity_id"]}'})
    before = contents(lake)
    with pytest.raises(InvalidInputError, match=r"headrace\.subjects"):
        eraser(tmp_path, lake).erase(WHO)
    assert contents(lake) == before


def test_writers_go_on_beside_it_and_lose_nothing(tmp_path: Path, lake: Catalog) -> None:
    stop = threading.Event()
    epochs: list[int] = []

    def write() -> None:
        sink = ExactlyOnceTable(open_lake(tmp_path), "lake.predictions", uuid.UUID(int=9))
        while not stop.is_set():
            epoch = len(epochs) + 1
            names = [NAMES[1], WHO.name] if epoch % 5 == 0 else [NAMES[1]]
            ids = [f"{epoch:016x}{number:016x}" for number in range(len(names))]
            sink.append(epoch, pa.table({"prediction_id": ids, "tenant_id": ["acme"] * len(names), "entity_id": names}))
            epochs.append(epoch)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = eraser(tmp_path, lake, in_flight=timedelta(minutes=15)).erase(WHO)
    finally:
        stop.set()
        writer.join()
    assert done["clean"], done["after"]
    written = [row for row in contents(lake)["lake.predictions"] if len(str(row["sink_epoch"])) and row["score"] is None]
    assert sum(row["entity_id"] == NAMES[1] for row in written) == len(epochs), "a row of another subject is lost or double"
    final = eraser(tmp_path, lake).erase(WHO)
    assert final["clean"], final["after"]
    assert not final["after"]["arrived_later"]
    assert not [
        row for row in contents(lake)["lake.predictions"] if (row["tenant_id"], row["entity_id"]) == (WHO.tenant, WHO.name)
    ]


def test_a_compaction_that_is_under_way_does_not_bring_the_subject_back(tmp_path: Path, lake: Catalog) -> None:
    before = contents(lake)
    erased: list[dict[str, Any]] = []

    def between(step: str) -> None:
        if step == "files written":
            erased.append(eraser(tmp_path, in_flight=timedelta(minutes=15)).erase(WHO))

    done = compact(lake, "lake.predictions", policy=CompactionPolicy(min_files=2), clock=SystemClock(), failpoint=between)
    assert erased, "the compaction had nothing to do"
    assert erased[0]["clean"], erased[0]["after"]
    assert done.given_up == 1, "the group with the subject; that of the other tenant is none of its business"
    assert bare(contents(lake))["lake.predictions"] == bare(without_who(before))["lake.predictions"]
    again = eraser(tmp_path, lake).erase(WHO)
    assert (again["clean"], again["rows_deleted"]) == (True, 0)


def test_two_erasures_at_once_are_refused(tmp_path: Path, lake: Catalog) -> None:
    refused: list[Exception] = []

    def second(step: str) -> None:
        if step == "searched":
            with pytest.raises(ConflictError, match="another erasure"):
                eraser(tmp_path).erase(Subject("acme", NAMES[2]))
            refused.append(Exception(step))

    eraser(tmp_path, lake, failpoint=second).erase(WHO)
    assert refused


def test_a_certificate_that_was_altered_or_lost_its_predecessor_is_told(tmp_path: Path, lake: Catalog) -> None:
    one: Eraser = eraser(tmp_path, lake)
    first, second = one.erase(WHO), one.erase(Subject("acme", NAMES[2]))
    folder = tmp_path / "erasures"
    path = folder / second["erasure_id"] / "certificate.json"
    assert certificate.check(certificate.load(path), folder) == []
    altered = {**second, "rows_deleted": 0}
    assert certificate.check(altered, folder) == ["its content is not what was sealed: sha256 differs"]
    (folder / first["erasure_id"] / "certificate.json").unlink()
    assert "is missing" in certificate.check(second, folder)[0]
    path.write_text("{}")
    with pytest.raises(CorruptDataError):
        certificate.load(path)


def test_maintenance_after_an_erasure_finds_a_sound_table(tmp_path: Path, lake: Catalog) -> None:
    eraser(tmp_path, lake).erase(WHO)
    fill(lake, commits=2, first=4)
    table = must_load(lake, "lake.predictions")
    assert [entry.snapshot_id for entry in table.history()]
    expire_snapshots(lake, "lake.predictions", older_than=datetime.now(UTC) + timedelta(days=1), keep_last=1)
    assert must_load(lake, "lake.predictions").scan().to_arrow().num_rows == 28 + 16


def _model() -> bytes:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Constant", [], ["y"], value_floats=[1.0])
    graph = onnx.helper.make_graph([node], "constant", [], [value("y", onnx.TensorProto.FLOAT, [1])])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = proto.SerializeToString()
    return content
