"""Validation rules as SQL: violations are rows of a view, and so is what is left when they are taken away.

    features_x --- one SELECT a rule, UNION ALL ---> feature_violations_x      entity, time, feature, rule, value
         |                                               |  by entity and time
         |                                           feature_verdicts_x        which rules, refused or not
         +------------------- LEFT JOIN -----------------+
                 |                       |
             valid_x                 quarantined_x

All of it is SQL that RisingWave takes, printed by a command and committed; the first SELECT can also be asked once, of a view
whose rules are not deployed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from core.errors import InvalidInputError
from features.declaration import Feature, FeatureView, Rule
from features.durations import write_duration

COLUMNS = ("feature_time", "feature", "rule", "severity", "on_failure", "value", "told")
"""Of violations, behind the entity; `feature` and `value` are NULL where a rule is about rows."""

_BY_ROW = ("not_null", "range", "one_of", "matches", "sql")
_FLOATS = ("real", "double precision")


def violations_view(view: FeatureView) -> str:
    return f"feature_violations_{view.name}"


def verdicts_view(view: FeatureView) -> str:
    return f"feature_verdicts_{view.name}"


def violations_query(view: FeatureView) -> str:
    """A SELECT of every violation: the entity, then `COLUMNS`.

    Raises:
        InvalidInputError: the view has no rules.
    """
    by_row = [
        *((feature, rule) for feature in view.features for rule in feature.rules if rule.rule in _BY_ROW),
        *((None, rule) for rule in view.rules if rule.rule in _BY_ROW),
    ]
    selects = [_by_row(view, by_row)] if by_row else []
    selects += [
        _of_feature(view, feature, rule) for feature in view.features for rule in feature.rules if rule.rule not in _BY_ROW
    ]
    selects += [_of_view(view, rule) for rule in view.rules if rule.rule not in _BY_ROW]
    if not selects:
        raise InvalidInputError(f"`{view.name}` has no rules", fix="Declare `rules` in features.yaml.")
    return "\nUNION ALL\n".join(selects)


def validation_sql(view: FeatureView) -> str:
    """The statements that keep violations, verdicts and valid rows up to date."""
    keys = ", ".join(view.entity)
    parts = [
        f"-- What breaks the rules that features.yaml declares for {view.relation}; printed by `headrace features template rules`.\n"
        f"CREATE MATERIALIZED VIEW {violations_view(view)} AS\n{violations_query(view)};\n",
        f"-- By entity and time: what of a row is wrong, and whether it may be used.\n"
        f"CREATE MATERIALIZED VIEW {verdicts_view(view)} AS\n"
        f"SELECT\n    {keys},\n    feature_time,\n    count(*) AS violations,\n"
        f"    array_agg(rule || coalesce(' ' || feature, '') ORDER BY rule, feature, told) AS rules,\n"
        f"    array_agg(rule || coalesce(' ' || feature, '') ORDER BY rule, feature, told) FILTER (WHERE on_failure = 'flag') AS flags,\n"
        f"    bool_or(on_failure IN ('quarantine', 'reject')) AS refused,\n"
        f"    bool_or(on_failure = 'quarantine') AS quarantined\n"
        f"FROM {violations_view(view)}\nWHERE feature_time IS NOT NULL\nGROUP BY {keys}, feature_time;\n",
    ]
    handled = {rule.on_failure for rule in _rules(view)} - {"warn"}
    if handled:
        parts.append(_valid(view))
    if "quarantine" in handled:
        parts.append(
            f"-- Rows that may not be used, with the rules that they break.\n"
            f"CREATE MATERIALIZED VIEW quarantined_{view.name} AS\nSELECT f.*, v.rules\nFROM {view.relation} AS f\n"
            f"JOIN {verdicts_view(view)} AS v ON {_same_row(view)}\nWHERE v.quarantined;\n"
        )
    return "\n".join(parts)


def _valid(view: FeatureView) -> str:
    columns = [f"f.{name}" for name in (*view.entity, view.timestamp)]
    for feature in view.features:
        nulled = [_broken(view, feature, rule, "f.") for rule in feature.rules if rule.on_failure == "null"]
        broken = " OR ".join(f"({each})" for each in nulled)
        columns.append(
            f"CASE WHEN {broken} THEN NULL ELSE f.{feature.name} END AS {feature.name}" if nulled else f"f.{feature.name}"
        )
    listed = ",\n    ".join([*columns, "v.flags"])
    return (
        f"-- What may be used: refused rows are gone, refused values are NULL, `flags` names what else is wrong.\n"
        f"CREATE MATERIALIZED VIEW valid_{view.name} AS\nSELECT\n    {listed}\nFROM {view.relation} AS f\n"
        f"LEFT JOIN {verdicts_view(view)} AS v ON {_same_row(view)}\nWHERE coalesce(v.refused, false) = false;\n"
    )


def _rules(view: FeatureView) -> Iterator[Rule]:
    for feature in view.features:
        yield from feature.rules
    yield from view.rules


def _same_row(view: FeatureView) -> str:
    same = [f"v.{key} = f.{key}" for key in view.entity] + [f"v.feature_time = f.{view.timestamp}"]
    return " AND ".join(same)


def _by_row(view: FeatureView, rules: Sequence[tuple[Feature | None, Rule]]) -> str:
    """All rules that look at one row and no more, in one pass: a row that breaks none goes no further."""
    conditions = [_broken(view, feature, rule, "") for feature, rule in rules]
    conditions = [f"({each})" if " OR " in each else each for each in conditions]
    numbers = ",\n        ".join(f"CASE WHEN {each} THEN {number} END" for number, each in enumerate(conditions, 1))
    values = [f"{feature.name}::VARCHAR" if feature else "NULL" for feature, _ in rules]
    names = [f"'{feature.name}'" if feature else "NULL" for feature, _ in rules]
    told = [_literal(describe(rule, feature.name if feature else "row")) for feature, rule in rules]
    lists = {
        "feature": names,
        "rule": [f"'{rule.rule}'" for _, rule in rules],
        "severity": [f"'{rule.severity}'" for _, rule in rules],
        "on_failure": [f"'{rule.on_failure}'" for _, rule in rules],
        "value": values,
        "told": told,
    }
    picked = ",\n    ".join(f"(ARRAY[{_packed(each)}]::VARCHAR[])[broken] AS {name}" for name, each in lists.items())
    any_broken = "\n        OR ".join(conditions)
    return (
        f"SELECT\n    {', '.join(view.entity)},\n    {view.timestamp} AS feature_time,\n    {picked}\n"
        f"FROM (\n    SELECT *, unnest(ARRAY[\n        {numbers}\n    ]) AS broken\n    FROM {view.relation}\n"
        f"    WHERE {any_broken}\n) AS looked_at\n"
        f"WHERE broken IS NOT NULL"
    )


def _of_feature(view: FeatureView, feature: Feature, rule: Rule) -> str:
    """Rules of a feature that look at more than one row."""
    told = describe(rule, feature.name)
    if rule.rule == "monotone":
        return _falling(view, rule, feature.name, feature.name, view.timestamp, told)
    assert rule.rate is not None
    counted = f"SELECT count(*) AS n, count({feature.name}) AS there FROM {view.relation}"
    keys = [f"NULL::VARCHAR AS {key}" for key in view.entity]
    items = _items(keys, "NULL::TIMESTAMPTZ", feature.name, rule, "((n - there) || ' of ' || n)", told)
    return f"SELECT {items} FROM ({counted}) AS c WHERE n - there > {rule.rate!r} * n"


def _broken(view: FeatureView, feature: Feature | None, rule: Rule, prefix: str) -> str:
    """A condition that is true where a row breaks a rule that looks at nothing else."""
    if feature is None:
        return f"NOT ({rule.predicate})"
    column = f"{prefix}{feature.name}"
    if rule.rule == "not_null":
        return f"{column} IS NULL"
    if rule.rule == "range":
        bounds = [
            f"{column} {sign} {_number(bound)}" for sign, bound in (("<", rule.min), (">", rule.max)) if bound is not None
        ]
        if feature.type in _FLOATS:
            bounds.append(f"{column} = 'NaN'::DOUBLE PRECISION")
        return " OR ".join(bounds)
    if rule.rule == "one_of":
        return f"{column} NOT IN ({', '.join(_literal(value) for value in rule.values)})"
    assert rule.rule == "matches", f"`{rule.rule}` of `{view.name}` looks at more than one row"
    return f"{column} IS NOT NULL AND regexp_match({column}, {_literal(f'^(?:{rule.pattern})$')}) IS NULL"


def _of_view(view: FeatureView, rule: Rule) -> str:
    told = describe(rule)
    if rule.rule == "unique":
        columns = ", ".join(rule.columns or (*view.entity, view.timestamp))
        counted = f"SELECT *, count(*) OVER (PARTITION BY {columns}) AS same_rows FROM {view.relation}"
        items = _items(view.entity, view.timestamp, None, rule, "same_rows::VARCHAR", told)
        return f"SELECT {items} FROM ({counted}) AS counted WHERE same_rows > 1"
    if rule.rule == "max_lag":
        assert rule.lag is not None
        keys = ", ".join(view.entity)
        newest = f"SELECT {keys}, max({view.timestamp}) AS newest FROM {view.relation} GROUP BY {keys}"
        length = f"INTERVAL '{_seconds(rule.lag)} seconds'"
        late = f"newest < now() - {length}"
        if rule.against != "now":
            late = f"newest < (SELECT max({view.timestamp}) - {length} FROM {view.relation})"
        items = _items(view.entity, "newest", None, rule, "newest::VARCHAR", told)
        return f"SELECT {items} FROM ({newest}) AS newest_rows WHERE {late}"
    assert rule.order is not None
    return _falling(view, rule, None, view.timestamp, rule.order, told)


def _falling(view: FeatureView, rule: Rule, feature: str | None, column: str, order: str, told: str) -> str:
    keys = ", ".join(view.entity)
    before = f"lag({column}) OVER (PARTITION BY {keys} ORDER BY {order})"
    items = _items(view.entity, view.timestamp, feature, rule, f"{column}::VARCHAR", told)
    return f"SELECT {items} FROM (SELECT *, {before} AS value_before FROM {view.relation}) AS ordered WHERE {column} < value_before"


def _items(keys: Sequence[str], time: str, feature: str | None, rule: Rule, value: str, told: str) -> str:
    named = "NULL::VARCHAR" if feature is None else f"'{feature}'"
    values = (time, named, f"'{rule.rule}'", f"'{rule.severity}'", f"'{rule.on_failure}'", value, _literal(told))
    return ", ".join([*keys, *(f"{each} AS {name}" for each, name in zip(values, COLUMNS, strict=True))])


def describe(rule: Rule, feature: str = "row") -> str:
    """What the rule wants, for people."""
    if rule.rule == "range":
        low = f"{rule.min:g} <= " if rule.min is not None else ""
        return f"{low}{feature}" + (f" <= {rule.max:g}" if rule.max is not None else "")
    words = {
        "not_null": f"{feature} is there",
        "one_of": f"{feature} is one of {', '.join(map(str, rule.values))}",
        "matches": f"{feature} matches {rule.pattern}",
        "max_null_rate": f"at most {rule.rate or 0:.2%} of {feature} are NULL",
        "monotone": f"{feature if feature != 'row' else 'time'} does not fall",
        "sql": str(rule.predicate),
        "unique": f"{', '.join(rule.columns) or 'entity and time'} are unique",
        "max_lag": f"at most {write_duration(rule.lag) if rule.lag else ''} behind {'now' if rule.against == 'now' else 'the newest row'}",
    }
    return words[rule.rule]


def _packed(items: Sequence[str], width: int = 110) -> str:
    """With commas between them, over several lines where it gets long."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > width:
            lines.append("")
        lines[-1] += f"{item}, "
    joined = "\n        ".join(line.rstrip() for line in lines).removesuffix(",")
    return joined if len(lines) == 1 else f"\n        {joined}\n    "


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():g}"


def _literal(value: str | float | bool) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).upper() if isinstance(value, bool) else repr(value)
