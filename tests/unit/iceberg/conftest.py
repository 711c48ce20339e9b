"""A catalog and a warehouse in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from iceberg.catalog import open_catalog
from iceberg.tables import create_table_for_arrow

ROWS = pa.schema([("tenant_id", pa.string()), ("sink", pa.string()), ("n", pa.int64())])


@pytest.fixture
def open_lake(tmp_path: Path) -> Callable[[], Catalog]:
    """Opens the test's catalog, each time with a connection of its own, as another process would."""

    def open_it() -> Catalog:
        return open_catalog("jdbc", f"jdbc:sqlite:{tmp_path / 'catalog.db'}", str(tmp_path / "warehouse"))

    return open_it


@pytest.fixture
def catalog(open_lake: Callable[[], Catalog]) -> Iterator[Catalog]:
    opened = open_lake()
    yield opened
    opened.close()


@pytest.fixture
def table(catalog: Catalog) -> str:
    create_table_for_arrow(catalog, "lake.rows", ROWS)
    return "lake.rows"
