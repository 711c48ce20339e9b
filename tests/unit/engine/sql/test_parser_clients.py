"""Queries as client programs send them: psql's `\\d`, JDBC's metadata, asyncpg's introspection, BI tools."""

from __future__ import annotations

import pytest
from sqlglot import exp

from engine.sql.dialect import RisingWave
from engine.sql.parser import parse, parse_query

CLIENT_QUERIES = {
    "psql list relations": """
SELECT n.nspname as "Schema", c.relname as "Name",
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' END as "Type",
  pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
FROM pg_catalog.pg_class c
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE c.relkind IN ('r','p','v','m','S','f','')
      AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema'
  AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY 1,2;""",
    "psql find relation": """
SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3;""",
    "psql columns": """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
  (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d
   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef),
  a.attnotnull, a.attidentity, a.attgenerated, '' = ''::pg_catalog."char"
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = '1001' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;""",
    "jdbc primary keys": """
SELECT result.TABLE_CAT, result.TABLE_SCHEM, result.KEY_SEQ FROM (
  SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ,
    information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM
  FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)
  JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid)
  WHERE true AND i.indisprimary) result
WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY result.table_schem""",
    "asyncpg types": """
WITH RECURSIVE typeinfo_tree(oid, ns, name, kind, depth) AS (
  SELECT ti.oid, ti.ns, ti.name, ti.kind, 0 FROM (SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind,
    (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(ia.atttypid ORDER BY ia.attnum) FROM pg_attribute AS ia
       WHERE ia.attnum > 0 AND ia.attrelid = t.typrelid) ELSE NULL END) AS attrtypoids
    FROM pg_catalog.pg_type AS t INNER JOIN pg_catalog.pg_namespace ns ON (ns.oid = t.typnamespace)) AS ti
  WHERE ti.oid = any($1::oid[])
  UNION ALL
  SELECT ti.oid, ti.ns, ti.name, ti.kind, tt.depth + 1 FROM typeinfo_tree AS tt, pg_type AS ti WHERE tt.oid = ti.oid)
SELECT DISTINCT *, basetype::regtype::text AS basetype_name FROM typeinfo_tree ORDER BY depth DESC""",
    "sqlalchemy columns": """
SELECT a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS format_type, a.attnotnull AS not_null,
  array(SELECT x FROM unnest(con.conkey) WITH ORDINALITY AS u(x, ord) ORDER BY ord) AS keys
FROM pg_catalog.pg_class LEFT OUTER JOIN pg_catalog.pg_attribute AS a ON pg_catalog.pg_class.oid = a.attrelid AND a.attnum > %(x)s
WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) AND pg_catalog.pg_class.relname IN ('t')""".replace("%(x)s", "0"),
    "grafana": """
SELECT floor(extract(epoch from "t")/60)*60 AS "time", avg("v") AS "value" FROM m WHERE "t" BETWEEN '2026-01-01T00:00:00Z'
AND '2026-01-02T00:00:00Z' AND host IN ('a','b') GROUP BY 1 ORDER BY 1""",
    "dbeaver": "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate OR db.datname =$1",
}
SETTINGS = """SET extra_float_digits = 3; SET application_name = 'PostgreSQL JDBC Driver'; SHOW TRANSACTION ISOLATION LEVEL;
set client_encoding to 'UTF8'; SHOW standard_conforming_strings; select current_schema(); select pg_catalog.version();
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; SET DateStyle = ISO, MDY; SELECT pg_advisory_unlock_all(); CLOSE ALL;
RESET ALL; BEGIN; COMMIT; SET search_path TO "$user", public; DISCARD ALL; select 1"""


@pytest.mark.parametrize("text", CLIENT_QUERIES.values(), ids=CLIENT_QUERIES.keys())
def test_a_client_s_query_is_read_and_written_back(text: str) -> None:
    tree = parse_query(text)
    assert parse_query(tree.sql(dialect=RisingWave)) == tree


def test_what_clients_set_at_connection_is_read() -> None:
    assert len(parse(SETTINGS)) == 17


def test_catalog_types_are_kept_by_their_written_name() -> None:
    tree = parse_query("SELECT 't'::regclass::oid, ''::pg_catalog.\"char\"")
    kinds = [cast.args["to"].args["kind"] for cast in tree.find_all(exp.Cast)]
    assert sorted(kinds) == ["oid", 'pg_catalog."char"', "regclass"]
