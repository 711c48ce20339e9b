"""What we promise of the lake, on Apache Iceberg's own catalogs: REST in front, JDBC on the same SQLite file behind."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from pyiceberg.catalog import Catalog

from iceberg.catalog import open_catalog
from iceberg.history import read_as_of, snapshots
from iceberg.registry import Registry
from iceberg.sink import ExactlyOnceTable
from iceberg.tables import DEFINITIONS, create_table_for_arrow, ensure_tables
from tests.services.iceberg_rest import IcebergRest, start_iceberg_rest
from tests.services.kafka import ServiceUnavailableError

pytestmark = pytest.mark.service

ROWS = pa.schema([("tenant_id", pa.string()), ("n", pa.int64())])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one lake; our own catalog makes the file first."""
    folder = tmp_path_factory.mktemp("lake")
    embedded(folder).close()
    return folder


def embedded(folder: Path) -> Catalog:
    return open_catalog("jdbc", f"jdbc:sqlite:{folder / 'catalog.db'}", str(folder / "warehouse"))


@pytest.fixture(scope="module")
def server(lake: Path, repository: Path, services_required: bool) -> Iterator[IcebergRest]:
    try:
        running = start_iceberg_rest(
            lake, repository / ".cache", f"jdbc:sqlite:{lake / 'catalog.db'}", f"file://{lake / 'warehouse'}"
        )
    except ServiceUnavailableError as error:
        if services_required:
            raise
        pytest.skip(str(error))
    yield running
    running.stop()


@pytest.fixture
def rest(server: IcebergRest, lake: Path) -> Catalog:
    return open_catalog("rest", server.uri, str(lake / "warehouse"))


@pytest.fixture
def identifier() -> str:
    return f"lake.t{uuid.uuid4().hex[:12]}"


def rows(*numbers: int) -> pa.Table:
    return pa.table({"tenant_id": [f"t{n % 2}" for n in numbers], "n": pa.array(numbers, pa.int64())})


def numbers(catalog: Catalog, identifier: str) -> list[int]:
    return sorted(catalog.load_table(identifier).scan().to_arrow().column("n").to_pylist())


def test_tables_made_by_the_embedded_catalog_are_read_and_written_through_icebergs_jdbc_catalog(
    lake: Path, rest: Catalog, identifier: str
) -> None:
    ours = embedded(lake)
    create_table_for_arrow(ours, identifier, ROWS)
    ExactlyOnceTable(ours, identifier, uuid.UUID(int=1)).append(1, rows(1, 2))
    assert tuple(identifier.split(".")) in rest.list_tables("lake")
    assert numbers(rest, identifier) == [1, 2]
    assert ExactlyOnceTable(rest, identifier, uuid.UUID(int=2)).append(1, rows(3))
    assert ExactlyOnceTable(ours, identifier, uuid.UUID(int=1)).append(2, rows(4))
    assert numbers(rest, identifier) == numbers(ours, identifier) == [1, 2, 3, 4]


def test_all_tables_can_be_created_through_rest_and_creating_them_again_changes_nothing(rest: Catalog) -> None:
    for _ in range(2):
        ensure_tables(rest)
    assert all(rest.table_exists(definition.identifier) for definition in DEFINITIONS)


def test_an_epoch_is_added_once_through_rest(rest: Catalog, identifier: str) -> None:
    create_table_for_arrow(rest, identifier, ROWS)
    sink = ExactlyOnceTable(rest, identifier, uuid.UUID(int=1))
    assert sink.append(3, rows(1))
    assert not sink.append(3, rows(1))
    assert not ExactlyOnceTable(rest, identifier, uuid.UUID(int=1)).append(2, rows(9))
    assert (sink.last_epoch(), numbers(rest, identifier)) == (3, [1])


def test_writers_through_rest_and_through_the_file_lose_and_double_nothing(
    lake: Path, server: IcebergRest, identifier: str
) -> None:
    def opened(kind: str) -> Catalog:
        return embedded(lake) if kind == "file" else open_catalog("rest", server.uri, str(lake / "warehouse"))

    create_table_for_arrow(opened("file"), identifier, ROWS)
    failures: list[Exception] = []

    def write(number: int, kind: str) -> None:
        try:
            sink = ExactlyOnceTable(opened(kind), identifier, uuid.UUID(int=number + 1), patience=timedelta(seconds=60))
            for epoch in range(1, 6):
                assert sink.append(epoch, rows(number * 100 + epoch))
        except Exception as error:  # noqa: BLE001  # reported by the main thread
            failures.append(error)

    threads = [threading.Thread(target=write, args=job) for job in enumerate(["rest", "file", "rest", "file"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    expected = Counter(number * 100 + epoch for number in range(4) for epoch in range(1, 6))
    assert Counter(numbers(opened("rest"), identifier)) == expected


def test_time_travel_and_the_registry_work_through_rest(rest: Catalog, lake: Path, identifier: str) -> None:
    create_table_for_arrow(rest, identifier, ROWS)
    sink = ExactlyOnceTable(rest, identifier, uuid.UUID(int=1))
    for epoch in range(1, 4):
        sink.append(epoch, rows(epoch))
    first = snapshots(rest, identifier)[-1]
    assert read_as_of(rest, identifier, snapshot_id=first.snapshot_id, order_by=["n"]).column("n").to_pylist() == [1]

    node = helper.make_node("Constant", [], ["y"], value_floats=[1.0])
    graph = helper.make_graph([node], "constant", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    registry = Registry(rest, lake / "warehouse")
    made = registry.register(
        "constant", model, kind="constant", metrics={}, tags={}, training_data={}, code_hash="", duration=timedelta(0)
    )
    assert Registry(embedded(lake), lake / "warehouse").load_artifact("constant", made.version) == model
