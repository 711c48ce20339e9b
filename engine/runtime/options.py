"""WITH options as a connector gets them: secrets filled in, those of a shared connection added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.catalog.catalog import Catalog
from engine.catalog.objects import Connection, Secret
from engine.sql.errors import InvalidParameter
from engine.sql.parser.clauses import SECRET_MARK
from engine.sql.statements import Format, ObjectName


@dataclass
class OptionReader:
    """Reads the options of one statement and notes which secrets and connections it uses.

    Attributes:
        used: ids, so that none of them is dropped while something needs it.
    """

    catalog: Catalog
    database: str
    used: dict[int, None] = field(default_factory=dict)

    def read(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options with every value in the clear.

        Raises:
            SqlError: there is no such secret or connection, or an option is given twice.
        """
        found = {name: self._value(value) for name, value in options.items()}
        written = found.pop("connection", None)
        if written is None:
            return found
        shared = self.catalog.must_find(_name(written), self.database, ("connection",))
        assert isinstance(shared, Connection)
        self.used[shared.id] = None
        added = {name: self._value(value) for name, value in shared.options.items() if name != "type"}
        twice = sorted(added.keys() & found.keys())
        if twice:
            raise InvalidParameter(
                f"option `{twice[0]}` is given here and by connection `{shared.name}`", fix="Leave it out of one of them."
            )
        return {**found, **added}

    def read_format(self, shape: Format | None) -> Format | None:
        return replace(shape, options=self.read(shape.options)) if shape is not None else None

    def _value(self, value: str) -> str:
        if not value.startswith(SECRET_MARK):
            return value
        secret = self.catalog.must_find(_name(value.removeprefix(SECRET_MARK)), self.database, ("secret",))
        assert isinstance(secret, Secret)
        self.used[secret.id] = None
        return secret.value


def _name(text: str) -> ObjectName:
    """A name as it was written in an option."""
    parts = [part.strip().strip('"') for part in text.split(".")]
    database, schema, name = [None] * (3 - len(parts)) + parts
    assert name is not None
    return ObjectName(name, schema, database)
