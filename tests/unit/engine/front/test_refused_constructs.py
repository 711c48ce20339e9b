"""The published list of what is refused is what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.refused import REFUSED, Refused
from engine.sql.errors import SqlError
from tests.unit.engine.runtime.inprocess import InProcess, running


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with running(tmp_path_factory.mktemp("refused")) as found:
        found.run("CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR); CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t;")
        yield found


@pytest.mark.parametrize("refused", REFUSED, ids=[r.construct for r in REFUSED])
def test_a_construct_on_the_list_is_refused_with_its_code_and_a_remedy(session: InProcess, refused: Refused) -> None:
    with pytest.raises(SqlError) as caught:
        session.run(refused.example)
    assert caught.value.sqlstate == refused.sqlstate
    assert caught.value.fix
