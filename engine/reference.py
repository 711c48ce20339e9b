"""The reference page of the engine's SQL, written from the code: `python -m engine.reference > docs/reference/sql.md`."""

from __future__ import annotations

from engine.functions import aggregates, tables, windows
from engine.functions.scalar import build_scalar_functions
from engine.refused import REFUSED

_HEAD = """# The embedded engine's SQL

RisingWave's SQL, over the PostgreSQL wire. What is accepted means what it means there; what is not is refused with a SQLSTATE, the
place and the way out. This page is written by `python -m engine.reference`, and a test compares it.

## Statements

| statement | here |
|---|---|
| CREATE TABLE | primary key, NOT NULL, DEFAULT, generated columns, APPEND ONLY, ON CONFLICT, WATERMARK, INCLUDE, a connector, AS query |
| CREATE SOURCE | connectors `kafka`, `nexmark`, `datagen`; FORMAT PLAIN with ENCODE JSON, CSV or BYTES |
| CREATE MATERIALIZED VIEW | with EMIT ON WINDOW CLOSE; over existing data too: a big table is taken in parts while all else goes on; `background_ddl` |
| CREATE VIEW, CREATE INDEX | a view is expanded where it is used; an index is accepted and stores nothing |
| CREATE SINK | FROM or AS query; connectors `kafka` (PLAIN, UPSERT), `iceberg` (append-only, upsert), `blackhole`; INTO a table; `snapshot = 'false'` |
| CREATE SUBSCRIPTION, DECLARE, FETCH, CLOSE | SINCE now, begin or a time; FULL |
| CREATE FUNCTION | USING LINK (Arrow Flight), LANGUAGE sql, LANGUAGE python (scalar and table functions; docs/how-to/write-python-functions.md) |
| CREATE AGGREGATE | LANGUAGE python |
| CREATE SCHEMA, CREATE DATABASE | |
| CREATE SECRET, CREATE CONNECTION | options of connectors name them: `SECRET s`, `connection = c`; kept unencrypted in the data folder |
| ALTER | RENAME, SWAP WITH, SET SCHEMA, OWNER, ADD and DROP COLUMN |
| DROP | with and without CASCADE, IF EXISTS |
| INSERT, UPDATE, DELETE, COPY | visible at the next barrier; FLUSH waits for it; RETURNING |
| SHOW JOBS, CANCEL JOBS, WAIT | views that are being built; WAIT returns when all are there |
| SHOW, DESCRIBE, EXPLAIN, SET | |
| CREATE, ALTER and DROP USER | kept and shown; whoever may connect may do everything |
| COMMENT ON | of a relation or a column; DESCRIBE shows it |
| GRANT, REVOKE | accepted, without effect |

## Refused

Of what RisingWave documents; the error has a SQLSTATE, the place and the way out.

{refused}

A session's time zone holds for its queries; materialized views, sinks and indexes are in UTC.

## Settings of ours

| variable | means |
|---|---|
| `headrace.max_future_skew` | sources created now refuse rows whose event time is further than this after their arrival |
| `headrace.required_columns` | sources created now refuse rows in which one of these columns is missing |

"""


def render() -> str:
    """The whole page."""
    families = (
        ("Functions and operators", build_scalar_functions().signatures()),
        ("Aggregate functions", aggregates.signatures()),
        ("Window functions", windows.signatures()),
        ("Set-returning functions", tables.signatures()),
    )
    listed = [f"| {r.construct} | {r.sqlstate} |" for r in REFUSED]
    parts = [_HEAD.rstrip("\n").replace("{refused}", "\n".join(["| construct | SQLSTATE |", "|---|---|", *listed]))]
    for title, signatures in families:
        lines = [line for name in sorted(signatures) for line in dict.fromkeys(signatures[name])]
        parts.append(f"## {title}\n\n```text\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(render())
