"""The hash of a training set tells every difference, and nothing but differences."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from features.content import content_sha256

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = {
    "k": ["a", None, "bc"],
    "n": [1, None, 3],
    "x": [0.5, float("nan"), None],
    "b": [True, None, False],
    "l": [[1.0], None, []],
}


def _table(**changed: list[object]) -> pa.Table:
    return pa.table({**ROWS, "t": pa.array([NOW, None, NOW], pa.timestamp("us", "UTC")), **changed})


def test_batches_and_what_lies_under_nulls_do_not_count() -> None:
    table = _table()
    cut = pa.concat_tables([table.slice(0, 1), table.slice(1, 1), table.slice(2)])
    under = pa.Array.from_buffers(pa.int64(), 3, [pa.array([1, None, 3]).buffers()[0], pa.array([1, 99, 3]).buffers()[1]])
    assert content_sha256(cut) == content_sha256(table)
    assert content_sha256(table.set_column(1, "n", under)) == content_sha256(table)


@pytest.mark.parametrize(
    "changed",
    [{"k": ["ab", None, "c"]}, {"k": ["a", "", "bc"]}, {"n": [1, 0, 3]}, {"n": [3, None, 1]}, {"x": [0.5, None, float("nan")]},
     {"b": [True, False, False]}, {"l": [[1.0], [], []]}, {"t": [None, NOW, NOW]}],
)  # fmt: skip
def test_every_value_counts(changed: dict[str, list[object]]) -> None:
    assert content_sha256(_table(**changed)) != content_sha256(_table())


def test_names_and_order_count() -> None:
    table = _table()
    assert content_sha256(table.rename_columns(["q", *table.column_names[1:]])) != content_sha256(table)
    assert content_sha256(table.slice(0, 2)) != content_sha256(table)
