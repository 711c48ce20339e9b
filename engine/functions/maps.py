"""Maps: DuckDB SQL over lists of structs `(key, value)`.

Source: RisingWave documentation, "Map functions and operators".
"""

from __future__ import annotations

from engine.functions.native import ValueFault, native
from engine.functions.texts import array_cell


@native("hr_map_text", "VARCHAR[]", "VARCHAR[]", returns="VARCHAR")
def _text(keys: list[str], values: list[str | None]) -> str:
    cells = (f"{array_cell(k)}:{'NULL' if v is None else array_cell(v)}" for k, v in zip(keys, values, strict=True))
    return "{" + ",".join(cells) + "}"


@native("hr_map_check", "VARCHAR[]", "BIGINT", returns="BOOLEAN")
def _check(keys: list[str | None], values: int) -> bool:
    """Raises ValueFault: these keys and so many values are no map."""
    if len(keys) != values:
        raise ValueFault("22023", "map keys and values must have the same length")
    if None in keys:
        raise ValueFault("22004", "map keys must not be NULL")
    if len(set(keys)) != len(keys):
        raise ValueFault("22023", "map keys must be unique")
    return True


_KEY_IS = "list_filter({0}, lambda m_e: m_e.key = {1})"
_KEY_IS_NOT = "list_filter({0}, lambda m_e: m_e.key <> {1})"

FROM_LISTS = (
    "(CASE WHEN hr_map_check(CAST({0} AS VARCHAR[]), len({1}))"
    " THEN list_transform({0}, lambda m_k, m_i: struct_pack(key := m_k, value := {1}[m_i])) END)"
)
ACCESS = f"struct_extract({_KEY_IS}[1], 'value')"
CONTAINS = f"(len({_KEY_IS}) > 0)"
DELETE = _KEY_IS_NOT
INSERT = f"list_append({_KEY_IS_NOT}, struct_pack(key := {{1}}, value := {{2}}))"
CAT = (
    "(CASE WHEN {0} IS NULL THEN {1} WHEN {1} IS NULL THEN {0} ELSE list_concat("
    "list_transform({0}, lambda m_a: coalesce(list_filter({1}, lambda m_b: m_b.key = m_a.key)[1], m_a)),"
    " list_filter({1}, lambda m_b: NOT list_contains(list_transform({0}, lambda m_a: m_a.key), m_b.key))) END)"
)
KEYS = "list_transform({0}, lambda m_e: m_e.key)"
VALUES = "list_transform({0}, lambda m_e: m_e.value)"
LENGTH = "CAST(len({0}) AS INTEGER)"
SORTED = "list_sort({0})"
"""Two maps are equal when they hold the same pairs, in whatever order."""
