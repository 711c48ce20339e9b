"""What RisingWave's documentation has and the engine refuses: the list that the reference page prints and a test runs."""

from __future__ import annotations

from typing import NamedTuple


class Refused(NamedTuple):
    """A construct, a statement that shows it (over `t (a INT PRIMARY KEY, b VARCHAR)`), and the SQLSTATE of the answer."""

    construct: str
    example: str
    sqlstate: str


REFUSED: tuple[Refused, ...] = (
    Refused("WITH RECURSIVE", "WITH RECURSIVE r AS (SELECT 1 AS n) SELECT * FROM r", "0A000"),
    Refused("INTERSECT ALL, EXCEPT ALL", "SELECT a FROM t EXCEPT ALL SELECT a FROM t", "0A000"),
    Refused("GAP_FILL", "SELECT * FROM GAP_FILL(t, a, INTERVAL '1 day')", "0A000"),
    Refused("FORMAT other than PLAIN in sources", "CREATE SOURCE s (a INT, PRIMARY KEY (a)) WITH (connector = 'kafka', topic = 'x', properties.bootstrap.server = 'x:1') FORMAT UPSERT ENCODE JSON", "0A000"),
    Refused("ENCODE AVRO, PROTOBUF", "CREATE SOURCE s (a INT) WITH (connector = 'kafka', topic = 'x', properties.bootstrap.server = 'x:1') FORMAT PLAIN ENCODE AVRO", "0A000"),
    Refused("connectors that are not in the table above", "CREATE SOURCE s (a INT) WITH (connector = 'pulsar')", "22023"),
    Refused("tables from a CDC source", "CREATE TABLE c FROM s TABLE 'd.t'", "0A000"),
    Refused("ENGINE = iceberg", "CREATE TABLE c (a INT) ENGINE = iceberg", "0A000"),
    Refused("connections of other types than kafka, iceberg, schema_registry", "CREATE CONNECTION c WITH (type = 'privatelink')", "22023"),
    Refused("secrets in other backends than meta", "CREATE SECRET c WITH (backend = 'hashicorp_vault') AS 'x'", "0A000"),
    Refused("LANGUAGE javascript, rust, java without a link", "CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE javascript AS $$ return a; $$", "0A000"),
    Refused("numeric(p, s)", "SELECT CAST(a AS NUMERIC(10, 2)) FROM t", "0A000"),
    Refused("type vector", "CREATE TABLE c (a VECTOR(3))", "0A000"),
    Refused("UPDATE of the primary key", "UPDATE t SET a = 2", "0A000"),
    Refused("ALTER TABLE ... ALTER COLUMN", "ALTER TABLE t ALTER COLUMN b TYPE INT", "0A000"),
    Refused("ALTER ... REFRESH SCHEMA", "ALTER TABLE t REFRESH SCHEMA", "0A000"),
    Refused("ALTER ... CONNECTOR WITH", "ALTER TABLE t CONNECTOR WITH (a = 'b')", "0A000"),
    Refused("ALTER MATERIALIZED VIEW ... AS", "ALTER MATERIALIZED VIEW m AS SELECT a FROM t", "0A000"),
    Refused("CREATE OR REPLACE", "CREATE OR REPLACE VIEW v AS SELECT 1 AS x", "0A000"),
    Refused("DESCRIBE FRAGMENTS", "DESCRIBE FRAGMENTS m", "0A000"),
    Refused("EXPLAIN ANALYZE of a job", "EXPLAIN ANALYZE MATERIALIZED VIEW m", "0A000"),
    Refused("REFRESH TABLE", "REFRESH TABLE t", "0A000"),
    Refused("volatile functions over input that retracts", "CREATE MATERIALIZED VIEW w AS SELECT b, random() AS x FROM t", "0A000"),
)  # fmt: skip
