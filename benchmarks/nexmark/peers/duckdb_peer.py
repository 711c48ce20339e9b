"""DuckDB recomputing the whole query after every epoch: what one has without incremental maintenance."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
from common import epochs, main, now

BUDGET_SECONDS = 120.0


def run(query: str, tables: dict[str, pa.Table], folder: Path) -> tuple[float, pa.Table]:
    del folder
    connection = duckdb.connect(config={"threads": 2})
    sql = (Path(__file__).parents[1] / "reference" / f"{query}.sql").read_text()
    for name, table in tables.items():
        connection.register("empty", table.slice(0, 0))
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM empty")
    began = now()
    for name, part in epochs(tables):
        connection.register("part", part)
        connection.execute(f"INSERT INTO {name} SELECT * FROM part")
        connection.execute(f"CREATE OR REPLACE TABLE answer AS {sql}")
        if now() - began > BUDGET_SECONDS:
            raise TimeoutError(f"more than {BUDGET_SECONDS} s")
    seconds = now() - began
    return seconds, connection.execute("SELECT * FROM answer").to_arrow_table()


main(run)
