"""JSON to typed values, as `jsonb_populate_record` reads them.

A JSON null is NULL; objects become structs and arrays lists, member by member; of everything else the text is given to the
type's own input. Source: RisingWave documentation, "JSON functions and operators".
"""

from __future__ import annotations

from engine.functions.casts import render_cast
from engine.sql.types import VARCHAR, SqlType


def from_json(sql: str, type_: SqlType, *, text: bool = False, depth: int = 0) -> str:
    """DuckDB SQL of a value of `type_` from a JSON expression.

    Args:
        text: `sql` is a plain text already.
        depth: names lambda variables apart.
    """
    if text:
        return render_cast(sql, VARCHAR, type_)
    if type_.name == "jsonb":
        return f"CASE WHEN json_type({sql}) <> 'NULL' THEN {sql} END"
    if type_.name == "struct":
        members = ", ".join(f'"{name}" := {from_json(member(sql, name), field, depth=depth)}' for name, field in type_.fields)
        return f"(CASE WHEN json_type({sql}) = 'OBJECT' THEN struct_pack({members}) END)"
    if type_.element is not None:
        item = f"j_{depth}"
        items = f"list_transform(json_extract({sql}, '$[*]'), lambda {item}: {from_json(item, type_.element, depth=depth + 1)})"
        return f"(CASE WHEN json_type({sql}) = 'ARRAY' THEN {items} END)"
    plain = f"CASE WHEN json_type({sql}) IN ('OBJECT', 'ARRAY') THEN hr_json_text(CAST({sql} AS VARCHAR)) ELSE json_extract_string({sql}, '$') END"
    return render_cast(f"({plain})", VARCHAR, type_)


def member(sql: str, name: str) -> str:
    """The member of that name, NULL where there is none."""
    path = '$."' + name.replace('"', '\\"') + '"'
    return "json_extract({}, '{}')".format(sql, path.replace("'", "''"))
