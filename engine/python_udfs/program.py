"""A user's Python function as the worker needs it: its source, how it is called, and the types that go in and come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from engine.connectors.udf_types import protocol_field
from engine.python_udfs.worker import check
from engine.sql.errors import InvalidDefinition
from engine.sql.types import SqlType

Form = Literal["scalar", "table", "aggregate"]
_AGGREGATE_NAMES = ["create_state", "accumulate", "finish"]


@dataclass(frozen=True)
class Program:
    """Attributes:
    name: of the function in `source` that answers; an aggregate has fixed names instead.
    form: `scalar` gives a value a row, `table` a list, `aggregate` a value for a list of structs.
    """

    source: str
    name: str
    form: Form = "scalar"

    def check(self, position: int | None) -> None:
        """Look at the source without running it.

        Raises:
            InvalidDefinition: it is no Python, or lacks the function.
        """
        names = _AGGREGATE_NAMES if self.form == "aggregate" else [self.name]
        wrong = check(self.source, names)
        if wrong is not None:
            raise InvalidDefinition(
                f"the body of function `{self.name}` is not what it must be: {wrong}",
                position=position,
                fix=f"Define {', '.join(f'`{name}`' for name in names)} at the top level of the body.",
                sqlstate="42P13",
            )

    def header(self, types: tuple[SqlType, ...], returns: SqlType, rows: int) -> dict[str, Any]:
        """The first half of a request."""
        return {
            "source": self.source,
            "name": self.name,
            "form": self.form,
            "arguments": [describe(type_) for type_ in types],
            "returns": describe(returns),
            "schema": pa.schema([protocol_field("value", returns)]).serialize().to_pybytes().hex(),
            "rows": rows,
        }


def describe(type_: SqlType) -> dict[str, Any]:
    """A type in JSON."""
    described: dict[str, Any] = {"name": type_.name}
    if type_.element is not None:
        described["element"] = describe(type_.element)
    if type_.fields:
        described["fields"] = [[name, describe(inner)] for name, inner in type_.fields]
    return described
