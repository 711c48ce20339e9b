"""psycopg 3 against the server: every type, text and binary, prepared statements, pipelines, server-side cursors."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import pq

VALUES: list[tuple[str, Any]] = [
    ("true", True),
    ("false", False),
    ("(-3)::SMALLINT", -3),
    ("2147483647::INT", 2147483647),
    ("(-9223372036854775808)::BIGINT", -(2**63)),
    ("1.500000000000000000::DECIMAL(38,18)", Decimal("1.5")),
    ("0::DECIMAL(38,18)", Decimal(0)),
    ("(-0.000000000000000001)::DECIMAL(38,18)", Decimal("-0.000000000000000001")),
    ("12345678901234567890.000123::DECIMAL(38,18)", Decimal("12345678901234567890.000123")),
    ("100000::DECIMAL(38,18)", Decimal(100000)),
    ("0.1::FLOAT", 0.1),
    ("0.1::DOUBLE", 0.1),
    ("1e300::DOUBLE", 1e300),
    ("1735689600123::DOUBLE", 1735689600123.0),
    ("'infinity'::DOUBLE", float("inf")),
    ("'-infinity'::DOUBLE", float("-inf")),
    ("'naïve \"text\"\n'", 'naïve "text"\n'),
    ("''", ""),
    ("'\\x00\\xFFab'::BLOB", b"\x00\xffab"),
    ("''::BLOB", b""),
    ("DATE '2024-02-29'", date(2024, 2, 29)),
    ("TIME '01:02:03.5'", time(1, 2, 3, 500000)),
    ("TIME '23:59:59.999999'", time(23, 59, 59, 999999)),
    ("TIMESTAMP '2024-02-29 12:00:00.000001'", datetime(2024, 2, 29, 12, 0, 0, 1)),  # noqa: DTZ001
    ("TIMESTAMP '1969-12-31 23:59:59'", datetime(1969, 12, 31, 23, 59, 59)),  # noqa: DTZ001
    ("TIMESTAMPTZ '2026-01-01 00:00:00+00'", datetime(2026, 1, 1, tzinfo=UTC)),
    ("INTERVAL '26 hours 3.5 seconds'", timedelta(hours=26, seconds=3.5)),
    ("INTERVAL '-2 days'", timedelta(days=-2)),
    ("INTERVAL '0 days'", timedelta()),
    ('\'{"b": [1, null, "x"], "a": {"d": 1, "c": 2.5}}\'::JSON', {"a": {"c": 2.5, "d": 1}, "b": [1, None, "x"]}),
    ("[1, NULL, 3]", [1, None, 3]),
    ("[]::INT[]", []),
    ("['a b', '', 'NULL', NULL, 'q\"\\', 'c,d', '{e}']", ["a b", "", "NULL", None, 'q"\\', "c,d", "{e}"]),
    ("[true, false]", [True, False]),
    ("[TIMESTAMP '2024-01-01 00:00:00']", [datetime(2024, 1, 1)]),  # noqa: DTZ001
    ("[1.25::DECIMAL(38,18), NULL]", [Decimal("1.25"), None]),
    ("['\\x01'::BLOB, '\\x5C'::BLOB]", [b"\x01", b"\\"]),
]


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(("expression", "expected"), VALUES, ids=[sql for sql, _ in VALUES])
async def test_every_type_arrives_as_the_same_value(running: Any, expression: str, expected: Any, binary: bool) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        answer = await client.execute(f"SELECT {expression} AS v, NULL::INT AS n", binary=binary)
        row = await answer.fetchone()
    assert row is not None
    if expression == "0.1::FLOAT":
        expected = pytest.approx(0.1, rel=1e-7)
    assert row == (expected, None)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
async def test_nan_arrives(running: Any, binary: bool) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        row = await (await client.execute("SELECT 'nan'::DOUBLE, 'nan'::FLOAT", binary=binary)).fetchone()
    assert row is not None
    assert all(value != value for value in row)


async def test_a_struct_is_a_record(running: Any) -> None:
    sql = "SELECT {'a': 1, 'b': 'c d', 'e': NULL::INT, 'f': '', 'g': [1, 2]} AS r, [{'a': 1, 'b': 'x,y'}] AS l"
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        text = await (await client.execute(sql)).fetchone()
        binary = await (await client.execute(sql, binary=True)).fetchone()
    assert text == (("1", "c d", None, "", "{1,2}"), [("1", "x,y")])
    assert binary == ((1, "c d", None, "", [1, 2]), [(1, "x,y")])


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("INTERVAL '1 month 2 days'", "1 mon 2 days"),
        ("INTERVAL '14 months 1 hour'", "1 year 2 mons 01:00:00"),
        ("INTERVAL '-90 minutes'", "-01:30:00"),
        ("TIMESTAMPTZ '2026-01-01 00:00:00+00'", "2026-01-01 00:00:00+00:00"),
        ("TIMESTAMP '2026-01-01 00:00:00.5'", "2026-01-01 00:00:00.500"),
        ("TIMESTAMP '0044-03-15 (BC) 10:00:00'", "0044-03-15 10:00:00 BC"),
        ("DATE '12026-01-01'", "12026-01-01"),
        ('\'{"b":1,"a":[1,2]}\'::JSON', '{"a": [1, 2], "b": 1}'),
        ("1e20::DOUBLE", "1e+20"),
        ("1e-7::DOUBLE", "1e-07"),
        ("100000.0::DOUBLE", "100000"),
        ("'-0'::DOUBLE", "-0"),
        ("[[1, 2], NULL, [3]]", "{{1,2},NULL,{3}}"),
        ("{'a': 'x y', 'b': NULL::INT, 'c': '(\"q\")'}", '("x y",,"(""q"")")'),
    ],
)
async def test_text_is_what_risingwave_prints(running: Any, expression: str, text: str) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        answer = await client.execute(f"SELECT {expression}")
        assert answer.pgresult is not None
        value = answer.pgresult.get_value(0, 0)
    assert value is not None
    assert value.decode() == text


@pytest.mark.parametrize("form", ["%s", "%b", "%t"], ids=["auto", "binary", "text"])
@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("SMALLINT", 7),
        ("BIGINT", -(2**40)),
        ("DOUBLE", 1.25),
        ("DECIMAL(38,18)", Decimal("-12345.678")),
        ("BOOLEAN", True),
        ("BLOB", b"\x00\xff\\"),
        ("DATE", date(1999, 12, 31)),
        ("TIME", time(1, 2, 3, 4)),
        ("TIMESTAMP", datetime(2024, 5, 6, 7, 8, 9, 10)),  # noqa: DTZ001
        ("INTERVAL", timedelta(days=3, hours=4)),
        ("VARCHAR", 'a "b" \\ ü'),
        ("INT[]", [1, None, 3]),
        ("DOUBLE", None),
    ],
)
async def test_a_parameter_comes_back(running: Any, declared: str, value: Any, form: str) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        row = await (await client.execute(f"SELECT CAST({form} AS {declared})", [value])).fetchone()
    assert row == (value,)


@pytest.mark.parametrize("form", ["%s", "%b", "%t"], ids=["auto", "binary", "text"])
async def test_a_list_of_text_takes_the_type_that_the_statement_gives_it(running: Any, form: str) -> None:
    # psycopg sends it without a type, so the session infers it and the wire reads the text by that.
    value = ["a", None, 'b"c', "", "x,y"]
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        row = await (await client.execute(f"SELECT {form}::varchar[]", [value])).fetchone()
    assert row == (value,)


async def test_an_instant_with_a_zone_is_stored_as_utc(running: Any) -> None:
    instant = datetime.fromisoformat("2026-03-01T12:00:00+02:00")
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        for form in ("%t", "%b"):
            row = await (await client.execute(f"SELECT CAST({form} AS TIMESTAMP)", [instant])).fetchone()
            assert row == (datetime(2026, 3, 1, 10),)  # noqa: DTZ001


async def test_a_prepared_statement_is_used_again(running: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        for number in range(8):
            row = await (await client.execute("SELECT %s::int + 1", [number], prepare=True)).fetchone()
            assert row == (number + 1,)


async def test_a_pipeline_answers_in_order_and_stops_at_the_error(running: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        async with client.pipeline():
            cursors = [await client.execute("SELECT %s::int", [number]) for number in range(20)]
        assert [await cursor.fetchone() for cursor in cursors] == [(number,) for number in range(20)]
        with pytest.raises(psycopg.errors.UndefinedTable):  # noqa: PT012  # the error comes when the pipeline ends
            async with client.pipeline():
                await client.execute("SELECT 1")
                await client.execute("SELECT * FROM missing")
                await client.execute("CREATE TABLE not_reached (a INT)")
        session = running.factory.sessions[0]
        assert not any("not_reached" in text for text in session.executed)
        assert await (await client.execute("SELECT 2")).fetchone() == (2,)


async def test_a_big_answer_arrives_whole(running: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        answer = await client.execute("SELECT i, 'row ' || i, i * 0.5::DOUBLE FROM range(50000) t(i) ORDER BY i")
        rows = await answer.fetchall()
    assert len(rows) == 50000
    assert rows[49999] == (49999, "row 49999", 24999.5)
    assert answer.statusmessage == "SELECT 50000"


async def test_an_error_names_code_place_and_remedy(running: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        with pytest.raises(psycopg.errors.UndefinedTable) as caught:
            await client.execute("SELECT * FROM missing")
    diagnosis = caught.value.diag
    assert diagnosis.message_primary == "table `missing` does not exist"
    assert diagnosis.message_hint == "Create it first."
    assert diagnosis.statement_position == "15"
    assert diagnosis.severity == "ERROR"


async def test_an_unforeseen_error_tells_the_client_nothing_of_the_server(running: Any, caplog: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        with pytest.raises(psycopg.errors.InternalError_) as caught:
            await client.execute("explode")
        assert await (await client.execute("SELECT 1")).fetchone() == (1,)
    assert "secret" not in str(caught.value)
    assert "statement failed unexpectedly" in caplog.text


async def test_the_transaction_status_follows_the_session(running: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url) as client:
        assert client.info.transaction_status == pq.TransactionStatus.IDLE
        await client.execute("SELECT 1")
        assert client.info.transaction_status == pq.TransactionStatus.INTRANS
        with pytest.raises(psycopg.errors.UndefinedTable):
            await client.execute("SELECT * FROM missing")
        assert client.info.transaction_status == pq.TransactionStatus.INERROR
        await client.rollback()
        assert client.info.transaction_status == pq.TransactionStatus.IDLE


async def test_a_changed_parameter_and_a_notice_reach_the_client(running: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        notices: list[str | None] = []
        client.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        await client.execute("SET application_name = 'x'")
        assert client.info.parameter_status("application_name") == "changed"
    assert notices == ["noticed"]


async def test_an_unknown_user_or_database_is_refused(running: Any) -> None:
    with pytest.raises(psycopg.OperationalError, match="role `mallory` does not exist"):
        await psycopg.AsyncConnection.connect(running.url.replace("root", "mallory"))
    with pytest.raises(psycopg.OperationalError, match="database `other` does not exist"):
        await psycopg.AsyncConnection.connect(running.url.replace("/dev", "/other"))


async def test_a_statement_can_be_cancelled(running: Any) -> None:
    async with await psycopg.AsyncConnection.connect(running.url, autocommit=True) as client:
        waiting = asyncio.create_task(client.execute("wait"))
        await running.until(lambda: bool(running.factory.sessions and running.factory.sessions[0].executed))
        await client.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await waiting
        assert await (await client.execute("SELECT 1")).fetchone() == (1,)
