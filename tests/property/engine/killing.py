"""The process that is killed: it hands numbered batches to an engine, one a barrier, and goes on where the folder says.

    python -m tests.property.engine.killing FOLDER LAST

Every batch also puts its number into the table `progress`, in the same epoch; so the folder itself tells which batches it has.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.property.engine.harness import EngineBox
from tests.property.engine.streams import Change, Epoch, Model, Table
from tests.property.engine.text import Col

TABLES = {
    "t": Table("t", (Col("id", "int"), Col("g", "int"), Col("v", "float"), Col("s", "text")), (0,)),
    "u": Table("u", (Col("k", "int"), Col("w", "text")), (0,)),
    "log": Table("log", (Col("a", "int"), Col("b", "text")), (), append_only=True),
    "progress": Table("progress", (Col("n", "int"),), (0,)),
}
VIEWS = {
    "totals": "SELECT g, count(*) AS n, sum(v) AS s, min(s) AS low FROM t GROUP BY g",
    "counts": "SELECT a, count(*) AS n FROM log GROUP BY a",
    "joined": "SELECT t.id, t.v, u.w FROM t LEFT JOIN u ON t.g = u.k",
    "full_joined": "SELECT t.id, u.k FROM t FULL JOIN u ON t.g = u.k",
    "ranked": "SELECT id, g, row_number() OVER (PARTITION BY g ORDER BY id) AS r FROM t",
    "top": "SELECT id, v FROM t ORDER BY id LIMIT 5",
    "above": "SELECT n, count(*) AS groups FROM totals GROUP BY n",
}
ORACLE = {**VIEWS, "above": f"SELECT n, count(*) AS groups FROM ({VIEWS['totals']}) AS totals GROUP BY n"}


def batch(number: int) -> Epoch:
    """What batch `number` changes; the same every time."""
    chance = random.Random(number)
    changes = [_change(chance) for _ in range(chance.randint(1, 30))]
    for _ in range(chance.randint(0, 4)):
        gone = chance.random() < 0.4
        changes.append(Change("u", "delete" if gone else "put", (chance.randint(0, 3), chance.choice(["x", "y"]))))
    changes += [Change("log", "put", (chance.randint(0, 3), chance.choice(["p", "q"]))) for _ in range(chance.randint(0, 6))]
    changes.append(Change("progress", "put", (number,)))
    return Epoch(tuple(changes), buffered=True)


def _change(chance: random.Random) -> Change:
    row = (chance.randint(1, 40), chance.choice([0, 1, 2, None]), chance.choice([0.5, 2.0, None]), chance.choice(["a", "b"]))
    return Change("t", "delete" if chance.random() < 0.3 else "put", row)


def model_after(last: int) -> Model:
    model = Model(TABLES)
    for number in range(1, last + 1):
        for change in batch(number).changes:
            model.apply(change)
    return model


def main(folder: Path, last: int) -> None:
    box = EngineBox(folder=folder)
    if not box.rows("SHOW TABLES"):
        for table in TABLES.values():
            box.run(table.ddl)
        for name, query in VIEWS.items():
            box.run(
                f"CREATE MATERIALIZED VIEW {name} AS {query}; CREATE SUBSCRIPTION changes_{name} FROM {name} WITH (retention = '1 day')"
            )
    done = box.rows("SELECT coalesce(max(n), 0) FROM progress")[0][0]
    for number in range(done + 1, last + 1):
        box.write(batch(number), TABLES)
        print(number, flush=True)
        box.run("FLUSH")
    box.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
