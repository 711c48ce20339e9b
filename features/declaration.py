"""What a feature view is: declared once, in Python or as YAML beside its SQL (`features.reading`).

```
  raw events  --- the view's SQL, in the stream database --->  features_<name>   online
      |                                                             | sink
      +--- `offline.sql`, by DuckDB over lake.events_<stream> --->  = lake.features_<name>, row by row and at each moment
```

The two ways are written down apart from each other on purpose: `headrace features verify` proves that they agree.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import field
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from features.durations import parse_duration, write_duration

DAY = timedelta(days=1)

TYPES = (
    "boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "varchar", "date", "timestamp",
    "timestamptz", "jsonb",
)  # fmt: skip
"""Element types by RisingWave's names; `TYPE[]` is an array of one."""

_SPELLINGS = {
    "bool": "boolean", "int": "integer", "int2": "smallint", "int4": "integer", "int8": "bigint", "float4": "real",
    "float8": "double precision", "double": "double precision", "decimal": "numeric", "text": "varchar", "string": "varchar",
    "character varying": "varchar", "timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
}  # fmt: skip
_STRICT = ConfigDict(extra="forbid")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def canonical_type(written: str) -> str:
    """The one name of a SQL type.

    Raises:
        ValueError: features have no such type.
    """
    text = " ".join(written.lower().split())
    element = text.removesuffix("[]").strip()
    element = _SPELLINGS.get(element, element)
    if element not in TYPES:
        raise ValueError(f"`{written}` is no type of a feature; there are {', '.join(TYPES)}, and arrays of them as `TYPE[]`")
    return element + ("[]" if text.endswith("[]") else "")


def _name(written: str) -> str:
    if not _NAME.fullmatch(written):
        raise ValueError(f"`{written}` is no name; use lower-case letters, digits and `_`")
    return written


Name = Annotated[str, AfterValidator(_name)]
FeatureType = Annotated[str, AfterValidator(canonical_type)]
Duration = Annotated[
    timedelta,
    BeforeValidator(lambda value: parse_duration(value) if isinstance(value, str) else value),
    PlainSerializer(write_duration, return_type=str),
]


@dataclass(frozen=True, config=_STRICT)
class Rule:
    """What every value of a feature, or every row of a view, must meet. A NULL meets every rule but `not_null`.

    Of a feature: `not_null`; `range` with `min`, `max` or both, inclusive; `one_of` with `values`; `matches` with `pattern`, a
    regular expression for the whole text; `max_null_rate` with `rate`, over all rows; `monotone`: from one row of an entity to
    the next it does not fall.

    Of a view: `sql` with `predicate`, over its columns; `unique`: no two rows have the same `columns`, by default entity and
    timestamp; `max_lag` with `lag`: the newest row of an entity is not further behind `against`, the newest row of all (`clock`)
    or the time of day (`now`); `monotone` with `order`: the timestamp does not fall in the order of that column.

    Attributes:
        severity: `error` makes `headrace features validate` fail, `warning` is told.
        on_failure: what becomes of it in `valid_<view>`: `warn` only records it, `flag` names the rule beside the row, `null` takes
            the value away, `quarantine` moves the row to `quarantined_<view>`, `reject` drops it.
    """

    rule: Literal[
        "not_null", "range", "one_of", "matches", "max_null_rate", "monotone", "sql", "unique", "max_lag"
    ]  # fmt: skip
    min: float | None = None
    max: float | None = None
    values: tuple[str | int | float | bool, ...] = ()
    pattern: str | None = None
    rate: float | None = None
    on_failure: Literal["warn", "flag", "null", "quarantine", "reject"] = "warn"
    severity: Literal["warning", "error"] = "error"
    predicate: str | None = None
    columns: tuple[Name, ...] = ()
    lag: Duration | None = None
    against: Literal["clock", "now"] | None = None
    order: Name | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Rule:
        given = {
            name
            for name, is_there in (
                ("min", self.min is not None),
                ("max", self.max is not None),
                ("values", bool(self.values)),
                ("pattern", self.pattern is not None),
                ("rate", self.rate is not None),
                ("predicate", self.predicate is not None),
                ("columns", bool(self.columns)),
                ("lag", self.lag is not None),
                ("against", self.against is not None),
                ("order", self.order is not None),
            )
            if is_there
        }
        needed, optional = _ARGUMENTS[self.rule]
        unknown = given - needed - optional
        if unknown:
            raise ValueError(f"rule `{self.rule}` has no `{min(unknown)}`")
        if needed and not given & needed:
            raise ValueError(f"rule `{self.rule}` needs {' or '.join(f'`{each}`' for each in sorted(needed))}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` {self.min:g} is greater than `max` {self.max:g}")
        if self.rate is not None and not 0 <= self.rate <= 1:
            raise ValueError(f"`rate` {self.rate:g} is not between 0 and 1")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"`pattern` is no regular expression: {error}") from error
        if self.on_failure == "null" and self.rule not in ("range", "one_of", "matches"):
            raise ValueError(f"`on_failure: null` is for the value of a feature, not for `{self.rule}`")
        if self.on_failure != "warn" and self.rule == "max_null_rate":
            raise ValueError("`max_null_rate` is about no single row; `on_failure` can be `warn` only")
        return self


_ARGUMENTS: dict[str, tuple[set[str], set[str]]] = {
    "not_null": (set(), set()),
    "range": ({"min", "max"}, set()),
    "one_of": ({"values"}, set()),
    "matches": ({"pattern"}, set()),
    "max_null_rate": ({"rate"}, set()),
    "monotone": (set(), {"order"}),
    "sql": ({"predicate"}, set()),
    "unique": (set(), {"columns"}),
    "max_lag": ({"lag"}, {"against"}),
}
"""Of each rule: what it needs one of, and what it may have besides."""
OF_VIEWS = ("sql", "unique", "max_lag", "monotone")
OF_FEATURES = ("not_null", "range", "one_of", "matches", "max_null_rate", "monotone")


@dataclass(frozen=True, config=_STRICT)
class Feature:
    """One column of a feature view.

    Attributes:
        unit: what its numbers count or measure, e.g. `mm/s`, `readings`.
        owner: who answers for it; by default the view's owner.
        inputs: columns of the raw events, or `view.feature` of other views, that it is computed from.
        rules: see `Rule`.
    """

    name: Name
    type: FeatureType
    description: str = ""
    unit: str | None = None
    owner: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _rules_are_of_features(self) -> Feature:
        wrong = [rule.rule for rule in self.rules if rule.rule not in OF_FEATURES or rule.order is not None]
        if wrong:
            raise ValueError(f"rule `{wrong[0]}` is about rows; write it under `rules` of the view")
        return self


@dataclass(frozen=True, config=_STRICT)
class Offline:
    """How the view is computed from raw events alone, by DuckDB.

    Attributes:
        events: the stream whose raw events lie in `lake.events_<events>`; the query reads them as relation `events`.
        sql: a SELECT of the entity, the timestamp and every feature; times are `TIMESTAMP` in UTC.
        emit: `window_close`: a row is there once, when the watermark has reached its timestamp; `update`: as soon as the
            first event is there, and revised by each later one.
        watermark: of `window_close`: how far the watermark stays behind the newest event.
        source: the source in the stream database, by default `<events>_events`; it includes `kafka_partition` and `kafka_offset`.
        event_time: its column with the event time.
    """

    events: Name
    sql: str
    emit: Literal["update", "window_close"] = "update"
    watermark: Duration | None = None
    source: Name | None = None
    event_time: Name = "event_time"

    @model_validator(mode="after")
    def _watermark_belongs_to_windows(self) -> Offline:
        if (self.emit == "window_close") != (self.watermark is not None):
            raise ValueError("`watermark` is given with `emit: window_close`, and only with it")
        return self


@dataclass(frozen=True, config=_STRICT)
class FeatureView:
    """Features of one kind of entity that are computed together.

    Attributes:
        entity: the key columns, in the order in which keys are given.
        timestamp: the column with the event time from which on a row's values are known and hold.
        features: in the view's order.
        view: the relation in the stream database, by default `features_<name>`; its history is `lake.<view>`.
        ttl: how long after `timestamp` a row's values may be served.
        frequency: how often an entity gets new values; what is older than that is stale.
        depends_on: other feature views that it is built on.
        offline: without it the view cannot be verified.
        valid_until: a column with the time at which a row's values stop to hold, NULL while they do; for sources that keep
            validity intervals (SCD2). By default they hold until the entity's next row.
        rules: what its rows must meet; see `Rule`.
    """

    name: Name
    entity: tuple[Name, ...]
    timestamp: Name
    features: tuple[Feature, ...]
    description: str = ""
    owner: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    view: Name | None = None
    ttl: Duration = DAY
    frequency: Duration = DAY
    depends_on: tuple[Name, ...] = ()
    offline: Offline | None = None
    valid_until: Name | None = None
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> FeatureView:
        if not self.entity:
            raise ValueError("`entity` names no column")
        if not self.features:
            raise ValueError("`features` is empty")
        columns = [
            *self.entity,
            self.timestamp,
            *([self.valid_until] if self.valid_until else []),
            *(each.name for each in self.features),
        ]
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise ValueError(f"column `{twice[0]}` is named twice")
        for rule in self.rules:
            if rule.rule not in OF_VIEWS:
                raise ValueError(f"rule `{rule.rule}` is about a feature; write it under `rules` of one")
            if rule.rule == "monotone" and rule.order is None:
                raise ValueError("rule `monotone` of a view needs `order`")
        return self

    @property
    def relation(self) -> str:
        """The relation in the stream database."""
        return self.view or f"features_{self.name}"

    @property
    def history_table(self) -> str:
        """The table of the lake with every version of every row."""
        return f"lake.{self.relation}"

    @property
    def latest(self) -> str:
        """The view in the stream database with each entity's last row."""
        return f"latest_{self.name}"

    @property
    def ties(self) -> tuple[str, ...]:
        """The columns whose greater values win between two rows of an entity with the same time; none where there cannot be two."""
        if self.offline is not None and self.offline.emit == "window_close":
            return ()
        return tuple(each.name for each in self.features if not each.type.startswith("jsonb"))

    @property
    def events_table(self) -> str | None:
        """The table of the lake with the raw events."""
        return f"lake.events_{self.offline.events}" if self.offline else None

    def feature(self, name: str) -> Feature | None:
        """The feature of that name."""
        return next((each for each in self.features if each.name == name), None)

    def owner_of(self, feature: Feature) -> str | None:
        """Who answers for a feature."""
        return feature.owner or self.owner


_VIEWS: TypeAdapter[tuple[FeatureView, ...]] = TypeAdapter(tuple[FeatureView, ...])


def to_json(view: FeatureView) -> str:
    """The declaration as JSON text, the same for equal declarations."""
    return json.dumps(_VIEWS.dump_python((view,), mode="json")[0], sort_keys=True, ensure_ascii=False)


def from_json(text: str) -> FeatureView:
    """What `to_json` wrote."""
    return _VIEWS.validate_python([json.loads(text)])[0]


def fingerprint(view: FeatureView) -> str:
    """Of everything that is declared; hexadecimal."""
    return hashlib.sha256(to_json(view).encode()).hexdigest()[:16]
