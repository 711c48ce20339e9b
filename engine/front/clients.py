"""Queries that a client library sends by itself and that are no SQL of RisingWave's, answered in SQL that we have.

asyncpg asks for the types behind arrays and structs by a recursive query, which RisingWave refuses; here it gets the rows
that the query would give, so that arrays work. JDBC's `getIndexInfo` takes an element of `pg_index.indoption`, an int2vector; here
that is its text, as other clients read it, so the element is a part of the text.
"""

from __future__ import annotations

import re

from engine.sql.statements import Statement

_ASYNCPG_TYPES = re.compile(r"\s*WITH RECURSIVE typeinfo_tree\s*\(\s*oid, ns, name, kind, basetype, elemtype, elemdelim,")
_JDBC_OPTION = re.compile(r"\btmp\.I_INDOPTION\[tmp\.ORDINAL_POSITION - 1\]")
_OID_ARRAY = 1028
_TYPES = """
SELECT t.oid, 'pg_catalog' AS ns, t.typname AS name, t.typtype AS kind, NULL::int AS basetype, nullif(t.typelem, 0) AS elemtype,
    CASE WHEN t.typelem <> 0 THEN ',' END AS elemdelim, NULL::int AS range_subtype, NULL::varchar AS attrtypoids, NULL::varchar AS attrnames,
    CASE WHEN t.oid = ANY($1::bigint[]) THEN 0 ELSE 1 END AS depth, NULL::varchar AS basetype_name,
    CASE WHEN t.typelem <> 0 THEN format_type(t.typelem, NULL::int) END AS elemtype_name, NULL::varchar AS range_subtype_name
FROM pg_catalog.pg_type AS t
WHERE t.oid = ANY($1::bigint[]) OR t.oid IN (SELECT a.typelem FROM pg_catalog.pg_type AS a WHERE a.oid = ANY($1::bigint[]))
ORDER BY depth DESC
"""


def rewritten(sql: str) -> str:
    """The text to parse instead."""
    if _ASYNCPG_TYPES.match(sql):
        return _TYPES
    return _JDBC_OPTION.sub("split_part(tmp.I_INDOPTION, ' ', tmp.ORDINAL_POSITION)::smallint", sql)


def parameter_oids(statement: Statement) -> tuple[int, ...]:
    """What parameters are announced as, where it is not their type: asyncpg can send oids before it knows any array."""
    return (_OID_ARRAY,) if statement.text.strip() == _TYPES.strip() else ()
