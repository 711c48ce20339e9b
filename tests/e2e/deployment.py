"""A pipeline folder of its own in the running platform."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import psycopg

from pipelines import deployer, folder
from pipelines.deployer import Applied, Preview
from pipelines.planning import ObjectPlan

NUMBERS = count(1)


class Deployment:
    """A folder of its own in the running platform, with a name that no other test has."""

    def __init__(self, platform: dict[str, str], root: Path) -> None:
        self.name = f"trial{next(NUMBERS)}"
        self.url = platform["database"]
        self.folder = root / self.name
        self.folder.mkdir()
        self.values = {
            "KAFKA_BOOTSTRAP": platform["kafka"],
            "UDF_URL": platform["udf"],
            "CATALOG_TYPE": "jdbc",
            "CATALOG_URI": f"jdbc:sqlite:{platform['data_dir']}/catalog.db",
            "WAREHOUSE": f"{platform['data_dir']}/warehouse",
        }

    def write(self, file: str, sql: str) -> None:
        (self.folder / file).write_text(sql.replace("NAME", self.name))

    def apply(self, **more: object) -> Applied:
        return deployer.apply(self.url, [folder.load(self.folder)], self.values, **more)  # type: ignore[arg-type]

    def preview(self, **more: object) -> Preview:
        return deployer.preview(self.url, [folder.load(self.folder)], self.values, **more)  # type: ignore[arg-type]

    def planned(self, **more: object) -> dict[str, ObjectPlan]:
        """The plan by the last part of the names, without what stays as it is."""
        return {each.name.removeprefix(f"{self.name}_"): each for each in self.preview(**more).plan.changes}

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.replace("NAME", self.name).encode())
            return cursor.fetchall() if cursor.description else []
