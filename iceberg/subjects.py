"""Which columns of a table hold subjects, and what erasing one does to the row. Declared with the tables; a property overrides.

A subject is one entity or user of one tenant. Its traces are of three kinds:

    names   the column is the subject's id                      the row is deleted
    ids     the column holds an id derived from the subject     the row is deleted
            (a prediction's id is a hash over its entity)
    texts   JSON or prose that may name the subject             the row stays, the name is replaced by a pseudonym

With `keep_rows` nothing is deleted: a name in any of the columns is replaced. So it is with the audit: that something was read
and who allowed it must stay provable after the one it was about is gone.

A table whose columns are called otherwise says so in its property `headrace.subjects`, a JSON object with these fields.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pydantic import BaseModel, ConfigDict, ValidationError
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import StringType

from core.errors import InvalidInputError

PROPERTY = "headrace.subjects"
TENANT = "tenant_id"

_NAMES = ("entity_id", "user_id", "subject_id")
_IDS = ("prediction_id",)
_TEXTS = ("features", "payload", "detail", "details", "findings", "members", "summary", "reason", "evidence", "error", "tags")


@dataclass(frozen=True)
class SubjectColumns:
    """See the module; columns that a table lacks are skipped."""

    names: tuple[str, ...] = _NAMES
    ids: tuple[str, ...] = _IDS
    texts: tuple[str, ...] = _TEXTS
    keep_rows: bool = False
    reason: str = ""
    """Why rows are kept; stands in the certificate."""

    def within(self, schema: Schema) -> SubjectColumns:
        """Only what the table has, as text."""
        have = {field.name for field in schema.fields if isinstance(field.field_type, StringType)}
        return SubjectColumns(
            tuple(name for name in self.names if name in have),
            tuple(name for name in self.ids if name in have),
            tuple(name for name in self.texts if name in have),
            self.keep_rows,
            self.reason,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


AUDITED = SubjectColumns(
    names=("actor",),
    ids=(),
    texts=("resource", "detail", "allowed"),
    keep_rows=True,
    reason="who did what must stay provable; the subject's name is replaced by a pseudonym nobody can trace back",
)
REGISTERED = SubjectColumns(
    names=(),
    ids=(),
    texts=("training_data", "tags", "metrics", "checks", "description", "reason", "evidence", "error"),
    keep_rows=True,
    reason="a sealed model version is not about one subject; where its notes name it, the name is replaced",
)
NOTED = SubjectColumns(
    names=(),
    ids=(),
    texts=("reference_window", "current_window", "reason", "metrics", "error"),
    keep_rows=True,
    reason="a result over many subjects; where it names this one, the name is replaced",
)

HELD = SubjectColumns(
    names=("target",),
    ids=(),
    texts=("reason",),
    keep_rows=True,
    reason="that there was a hold must stay provable after its release; the subject's name is replaced by a pseudonym",
)

DECLARED = {
    "lake.holds": HELD,
    "lake.audit": AUDITED,
    "lake.drift_events": NOTED,
    "lake.training_jobs": NOTED,
}
"""By table; what is not here has rows about subjects in columns of the usual names. All of `registry` is as REGISTERED."""


def columns_of(identifier: str, metadata: TableMetadata) -> SubjectColumns:
    """How a table holds subjects.

    Raises:
        InvalidInputError: the property cannot be understood; better no erasure than half a one.
    """
    said = metadata.properties.get(PROPERTY)
    if said is not None:
        return _parse(said, identifier).within(metadata.schema())
    if identifier.startswith("registry."):
        return REGISTERED.within(metadata.schema())
    return DECLARED.get(identifier, SubjectColumns()).within(metadata.schema())


class _Written(BaseModel):
    """The property; what it does not name holds no subjects."""

    model_config = ConfigDict(extra="forbid")
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    keep_rows: bool = False
    reason: str = ""


def _parse(said: str, identifier: str) -> SubjectColumns:
    try:
        written = _Written.model_validate_json(said)
    except ValidationError as error:
        raise InvalidInputError(
            f"property `{PROPERTY}` is malformed: {error.errors()[0]['msg']}",
            where=identifier,
            fix='Write e.g. {"names": ["device"], "ids": [], "texts": ["payload"]}.',
        ) from error
    return SubjectColumns(**written.model_dump())
