"""The same expressions on PostgreSQL, which the test starts itself: equal values, but for the differences listed here."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.unit.engine.functions.expressions import Expressions
from tests.unit.engine.functions.test_documented_functions import CASES

pytestmark = pytest.mark.service

# RisingWave has these and PostgreSQL 15 has not, or another form of the argument.
ONLY_RISINGWAVE = (
    "array_transform", "array_distinct", "array_max", "array_sum", "array_sort", "array_length(array[1, 2, 3])", "crc32", "atan2d", "cotd", "IS JSON",
    "to_ascii", "tand(45)", "jsonb_build_object('foo'", "jsonb_object('{a, 1", "array_positions(array[array", "::int[][]",
    "date_trunc('day', timestamptz", "sha256('abc')", "split_part('one,two', ',', 5)", "concat('Abcde'", "make_time(1, 45",
    "pg_typeof", "interval 'P1Y2M3DT4H'", "regexp_split_to_array('apple", "get_bit", "set_bit", "row(1, 'a b'",
)  # fmt: skip
# Where RisingWave means something else, with its value (the crates rust_decimal and ryu; "Overview of data types").
DIFFERENT = {
    "cbrt(27)": "3",
    "||/ 27": "3",
    "log(10.0)": "1",
    "round(1.5, 3)": "1.5",
    "power(2.0, 3)": "8",
    "power(2, 0.5)": "1.4142135623730950488016887242",
    "0.00 + 1.5": "1.5",
    "1.0 / 3": "0.3333333333333333333333333333",
    "10 / 4.0": "2.5",
    "1e15::float8": "1000000000000000",
}
MORE = [
    "1.0 + 1.00", "1.10 * 2", "2.50 - 2.5", "5.5 % 2", "-5.5 % 2", "1e3::numeric", "10.00 / 4 = 2.5", "1.5 = 1.50",
    "sum(v) from (values (1.10), (2.5), (0.05)) t(v)", "max(v) from (values (1.10), (2.5)) t(v)", "count(distinct v) from (values (1.0), (1.00)) t(v)",
    "sum(v) from (values (1), (2)) t(v)", "round(avg(v), 10) from (values (1), (2), (4)) t(v)", "avg(v) from (values (1::float8), (2)) t(v)",
    "round(stddev_samp(v), 10) from (values (1), (2), (4)) t(v)", "round(var_pop(v), 10) from (values (1), (2), (4)) t(v)",
    "string_agg(v, ',' order by v desc) from (values ('a'), ('b')) t(v)", "array_agg(v order by v) from (values (2), (1)) t(v)",
    "bool_and(v) from (values (true), (false)) t(v)", "bit_xor(v) from (values (5), (3)) t(v)",
    "round(0.5)", "round(1.5)", "round(-1.5)", "round(15, -1)", "round(0.5::float8)", "round(1.5::float8)", "trunc(-0.5::float8)", "ceil(-0.5)",
    "floor(0.5)", "abs(-0.00)", "sign(0.00)", "-(-1.5)", "power(-8, 3)", "mod(-7, 3)", "mod(7.5, 2)", "7 % -3", "exp(0)",
    "ln(1)", "sqrt(2)", "sind(150)", "cosd(120)", "tand(135)", "asind(-0.5)", "acosd(-0.5)", "atand(-1)", "sind(-390)", "cosd(720)",
    "atan2(1, -1)", "radians(180)", "degrees(pi())", "width_bucket(5.35, 0.024, 10.06, 5)", "sinh(0.5)", "acosh(2)", "atanh(0.5)",
    "substr('hello', 0, 3)", "substr('hello', 2)", "substr('hello', 10, 2)", "left('hello', 0)", "right('hello', 10)", "lpad('hello', 3)",
    "rpad('h', 0)", "lpad('x', 5, 'ab')", "position('' in 'abc')", "strpos('abc', 'z')", "replace('aaa', 'a', '')", "replace('abc', '', 'x')",
    "repeat('a', 0)", "repeat('a', -1)", "translate('12345', '143', 'ax')", "split_part('a,b,c', ',', -2)", "split_part('abc', '', 1)",
    "initcap('hi THOMAS o''neil x_y 3d')", "reverse('')", "concat(1, NULL, 'x')", "concat_ws('-', NULL, 'a', NULL, 'b')", "format('%3$s %1$s', 1, 2, 3)",
    "format('|%10s|%-5s|', 'a', 'b')", "format('%L', NULL::text)", "overlay('Txxxxas' placing 'hom' from 2 for 4)", "btrim('  x ')", "trim(both 'x' from 'xxaxx')",
    "trim(leading from '  a')", "ltrim('xxa', 'x')", "to_hex(-1)", "quote_literal(E'a\\\\b')", "starts_with('abc', 'ab')", "char_length('héllo')",
    "octet_length('héllo'::bytea)", "regexp_replace('abc', '(b)', '[\\1]')", "regexp_match('abc123', '[0-9]+')", "regexp_replace('aXbX', 'x', '-', 'gi')",
    "'abc' like '_b%'", "'a%c' like 'a\\%c'", "'ABC' ilike 'abc'", "'abc' similar to 'a%'", "'abc' ~ '^a.c$'", "regexp_count('banana', 'an')", "regexp_substr('abc123', '\\d+')",
    "'\\x01ff'::bytea", "encode('abc', 'hex')", "encode('\\x00010a'::bytea, 'escape')", "decode('aGk=', 'base64')", "'abc'::bytea || '\\x00'::bytea", "sha224('abc'::bytea)",
    "position('\\x02'::bytea in '\\x010203'::bytea)", "substr('\\x010203'::bytea, 2, 1)",
    "date '2024-02-29' + interval '1 year'", "date '2024-01-31' + interval '1 month'", "timestamp '2024-03-31 10:00' - interval '1 month'", "date '2024-01-01' - 1",
    "timestamp '2024-01-02' - timestamp '2024-01-01 12:00'", "age(timestamp '2024-03-31', timestamp '2024-02-29')", "age(timestamp '2024-01-01', timestamp '2024-03-31 05:00')",
    "interval '1 day 25 hours'", "interval '1.5 days'", "interval '-1 day 2 hours'", "interval '1 year -1 month'", "interval '90 minutes'", "interval '1 month' = interval '30 days'",
    "interval '1 day' * 0.5", "interval '1 month' * 1.5", "interval '3 months' / 2", "-interval '1 hour'", "interval '2 hours' > interval '90 minutes'",
    "extract(year from date '0044-03-15 BC')", "extract(quarter from date '2024-05-01')", "extract(week from date '2024-12-30')", "extract(isoyear from date '2024-12-30')",
    "extract(decade from date '1999-01-01')", "extract(microseconds from time '10:20:30.5')", "extract(day from interval '40 days')", "extract(month from interval '14 months')",
    "extract(epoch from interval '1 year 1 month')", "extract(epoch from timestamp '2024-01-01 00:00:00.25')", "extract(hour from interval '30 hours')", "extract(minute from interval '-90 minutes')",
    "extract(julian from date '2024-01-01')", "extract(second from time '10:20:30.25')", "date_part('epoch', timestamp '2024-01-01')",
    "date_trunc('week', timestamp '2024-01-03 10:00')", "date_trunc('quarter', timestamp '2024-05-03')", "date_trunc('decade', timestamp '2024-05-03')",
    "date_trunc('millennium', timestamp '2024-05-03')", "date_trunc('day', interval '3 days 5 hours')", "date_trunc('hour', interval '-90 minutes')",
    "date_trunc('milliseconds', timestamp '2024-01-01 00:00:00.123456')", "make_interval(1, 2, 3, 4, 5, 6, 7.5)", "justify_hours(interval '50 hours')", "justify_days(interval '-35 days')",
    "to_char(timestamp '2024-01-05 15:06:07.089', 'YYYY-MM-DD HH24:MI:SS.MS US')", "to_char(timestamp '2024-01-05', 'Day, DD Month YYYY')", "to_char(timestamp '2024-01-05', 'FMDay, FMDD FMMonth YYYY')",
    "to_char(timestamp '2024-01-05', 'DY Dy dy MON Mon mon')", "to_char(timestamp '2024-01-05 00:30', 'HH12:MI am')", "to_char(timestamp '2024-12-30', 'IYYY-IW-ID WW DDD D Q CC J')",
    "to_char(timestamp '2024-01-05', '\"text\" YY')", "to_char(timestamp '2024-01-22', 'DDth')", "to_date('2024-060', 'YYYY-DDD')", "to_date('5 jan 24', 'DD mon YY')",
    "to_timestamp('2024-01-05 03:04:05.678 PM', 'YYYY-MM-DD HH12:MI:SS.MS AM')", "to_timestamp(0)", "timestamptz '2024-07-01 12:00+00' at time zone 'Europe/Berlin'",
    "timestamp '2024-07-01 12:00' at time zone 'Europe/Berlin'", "timestamptz '2024-01-01 00:00:00 America/New_York'", "'2024-01-01T10:20:30Z'::timestamptz", "'20240105'::date",
    "'2024-1-5'::date", "'10:20'::time", "'10:20 pm'::time", "'2024-01-01'::timestamp", "timestamp '2024-01-01 24:00:00'", "date '2024-01-01'::timestamp", "timestamp '2024-01-01 10:00'::date", "timestamp '2024-01-01 10:00'::time",
    "'{\"b\": 1, \"a\": [1, 2, {\"x\": null}]}'::jsonb", "'[1, 2]'::jsonb -> 5", "'{\"a\": null}'::jsonb ->> 'a'", "'{\"a\": null}'::jsonb -> 'a'", "'{\"a\": {\"b\": 1}}'::jsonb #> '{a}'",
    "'[1, [2, 3]]'::jsonb @> '[[2]]'", "'{\"a\": [1, 2]}'::jsonb @> '{\"a\": [1]}'", "'1'::jsonb || '[2]'::jsonb", "'{\"a\": 1}'::jsonb || '{\"a\": 2}'::jsonb", "'[1, 2, 3]'::jsonb - (-1)", "jsonb_set('{\"a\": 1}', '{b}', '2')",
    "jsonb_set('[1, 2]', '{5}', '3')", "jsonb_pretty('{\"a\": [1, 2]}')", "jsonb_typeof('null')", "jsonb_typeof('[]')", "('{\"a\": 5}'::jsonb -> 'a')::int", "to_jsonb('a\"b'::text)", "to_jsonb(1.5)", "to_jsonb(array['a', NULL])",
    "to_jsonb(timestamp '2024-01-01 10:00')", "to_jsonb(date '2024-01-01')", "jsonb_build_array(1, 'a', NULL, true)", "jsonb_agg(v order by v) from (values (1), (2)) t(v)", "jsonb_object_agg(k, v) from (values ('a', 1), ('b', 2)) t(k, v)",
    "array[1, 2] || array[3]", "array[1, 2] || 3", "0 || array[1, 2]", "(array[1, 2, 3])[2]", "(array[1, 2, 3])[5]", "(array[1, 2, 3])[:2]", "(array[1, 2, 3])[2:]", "(array[1, 2, 3])[3:2]", "array_length(array[1, 2], 1)", "array_position(array['a', 'b'], 'b')",
    "array_remove(array[1, NULL, 2], NULL)", "array_replace(array[1, NULL], NULL, 5)", "array_to_string(array[true, false], ',')", "array_to_string(array[1.50, 2], '|')", "string_to_array('abc', NULL)", "string_to_array('', ',')", "array[1, 2] = array[1, 2]",
    "array[1, 2] < array[1, 3]", "array[1, 2] && array[2, 3]", "array_upper(array[1, 2], 1)", "cardinality(array[1, 2])", "array['a,b', 'c\"d', 'e\\f', 'g h', '']", "'{\"a,b\",NULL,\"NULL\"}'::text[]", "array[1.0, 2.50]", "array[timestamp '2024-01-01 10:00']",
    "1.5e-7::float8", "123456789.125::float8", "0.1::float8 + 0.2", "1::float8 / 3", "3.0::float4", "1.1::float4", "'-0'::float8", "'NaN'::float8", "'-Infinity'::float8", "1.5::float8::int", "-2.5::float8::int", "0.5::numeric::int", "-1.5::numeric::int",
    "'t'::bool", "'off'::bool", "1::bool", "false::int", "' 12 '::int", "'1e3'::float8", "'1e3'::numeric", "'.5'::numeric", "'0x1F'::text", "5 between 1 and 10", "5 not between symmetric 10 and 1", "NULL is null", "true is not false", "1 is distinct from NULL",
    "nullif(1, 1)", "coalesce(NULL, 2)", "greatest(1, NULL, 3)", "least('b', 'a')", "case 2 when 1 then 'a' when 2 then 'b' end", "1 << 3", "-16 >> 2", "5 & 3", "5 | 3", "5 # 3", "~5", "2 ^ 10", "2 ^ -1", "|/ 16", "@ -3.5", "5 / 2", "-5 / 2", "5.0 / 2 = 2.5",
    "md5('')", "md5('\\x61'::bytea)", "min(v) from (values ('b'), ('a')) t(v)", "percentile_cont(0.5) within group (order by v) from (values (1), (2), (4), (8)) t(v)", "percentile_disc(0.5) within group (order by v) from (values (1), (2), (4), (8)) t(v)",
    "jsonb_path_exists('{\"a\": [1, 2, 3]}', '$.a[*] ? (@ > 2)')", "jsonb_path_query_array('{\"a\": [1, 2, 3]}', '$.a[*] ? (@ >= 2 && @ < 3)')",
    "jsonb_path_query_first('{\"a\": {\"b\": \"x\"}}', '$.a.b')", "jsonb_path_match('{\"a\": 1}', '$.a == 1')", "jsonb_path_query_array('[1, [2, 3]]', '$[*].size()')",
    "jsonb_path_query_array('[1, 2, 3]', '$[last]')", "jsonb_path_query_array('[1, 2, 3, 4]', '$[1 to 2]')", "jsonb_path_query_array('{\"a\": 1, \"b\": 2}', '$.*')",
    "jsonb_path_query_array('[{\"x\": 1}, {\"y\": 2}]', '$[*] ? (exists(@.x))')", "jsonb_path_query_array('[\"abc\", \"bcd\"]', '$[*] ? (@ starts with \"a\")')",
    "jsonb_path_query_array('[5]', '$[0] * 2 + 1')", "'{\"a\": 1}'::jsonb @? '$.a'", "'{\"a\": 1}'::jsonb @@ '$.a > 0'", "jsonb_path_query_array('[1, \"a\", null, true]', '$[*].type()')",
    "jsonb_path_query_array('[1, null]', '$[*] ? (@ == null)')", "jsonb_path_query_array('{\"a\": [{\"b\": 1}, {\"b\": 2}]}', '$.a.b')", "jsonb_path_query_array('[-1.5]', '$[*].abs()')",
    "mode() within group (order by v) from (values (1), (2), (2)) t(v)", "sum(v) from (values (interval '1 day'), (interval '2 hours')) t(v)", "avg(v) from (values (interval '1 day'), (interval '2 days')) t(v)", "row(1, 'a')",
]  # fmt: skip


@pytest.fixture(scope="module")
def postgresql() -> Iterator[psycopg.Connection]:
    """A server of its own in a temporary folder, on a free port of 127.0.0.1."""
    programs = Path(os.environ.get("POSTGRESQL_BIN", "/usr/lib/postgresql/15/bin"))
    if not (programs / "initdb").exists():
        pytest.skip("PostgreSQL is not installed; `apt-get install postgresql` brings it")
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "root", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"],
        check=True,
        capture_output=True,
        user=user,
    )
    control: list[str | Path] = [programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c timezone=UTC -c fsync=off"
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, user=user)
    try:
        with psycopg.connect(f"host=127.0.0.1 port={port} user=root dbname=postgres", autocommit=True) as connection:
            yield connection
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, user=user)
        shutil.rmtree(folder)


def _as_risingwave(text: str) -> str:
    """PostgreSQL's text with RisingWave's zone `+00:00` and with three or six decimals of a second."""
    text = re.sub(r"(\d\d:\d\d:\d\d(?:\.\d+)?)\+00\b", r"\1+00:00", text)
    stamp = r"(\d\d\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d|^\d\d:\d\d:\d\d)\.(\d+)"
    return re.sub(stamp, lambda found: f"{found[1]}.{found[2].ljust(3 if len(found[2]) <= 3 else 6, '0')}", text)


EXPRESSIONS = [e for e, _ in CASES if not any(name in e for name in ONLY_RISINGWAVE) and e not in DIFFERENT] + MORE


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=[e[:70] for e in EXPRESSIONS])
def test_an_expression_is_what_postgresql_says(engine: Expressions, postgresql: psycopg.Connection, expression: str) -> None:
    with postgresql.cursor() as cursor:
        cursor.execute(f"SELECT {expression}".encode())
        assert cursor.pgresult is not None
        theirs = cursor.pgresult.get_value(0, 0)
    assert engine.value(expression) == (None if theirs is None else _as_risingwave(theirs.decode()))


@pytest.mark.parametrize(("expression", "expected"), DIFFERENT.items())
def test_a_listed_difference_is_there(
    engine: Expressions, postgresql: psycopg.Connection, expression: str, expected: str
) -> None:
    assert engine.value(expression) == expected
    row = postgresql.execute(f"SELECT ({expression})::text".encode()).fetchone()
    assert row is not None
    assert row[0] != expected, "PostgreSQL agrees now: take it off the list"
