"""Reads WITH options by declaration: what is unknown, missing or malformed is refused by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from datetime import timedelta

from engine.sql.errors import InvalidParameter

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def refuse_unknown_options(options: Mapping[str, str], allowed: Collection[str], *, what: str) -> None:
    """Raise `InvalidParameter` for the first option that is not in `allowed`, with the nearest or all allowed names."""
    for name in options:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=3)
            fix = f"Did you mean {' or '.join(near)}?" if near else f"Allowed are {', '.join(sorted(allowed))}."
            raise InvalidParameter(f"unknown option `{name}` of {what}", fix=fix)


def must_get_option(options: Mapping[str, str], name: str, *, what: str) -> str:
    """The value of `name`, which must be there and not empty."""
    value = options.get(name)
    if not value:
        raise InvalidParameter(f"{what} needs option `{name}`", fix=f"Add `{name} = '...'` to the WITH clause.")
    return value


def parse_choice(options: Mapping[str, str], name: str, choices: Collection[str], *, default: str) -> str:
    """The value of `name` in lower case, one of `choices`."""
    value = options.get(name, default).strip().lower()
    if value not in choices:
        raise InvalidParameter(f"option `{name}` cannot be `{options[name]}`", fix=f"Allowed are {', '.join(choices)}.")
    return value


def parse_bool(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    return parse_choice(options, name, ("true", "false"), default=str(default).lower()) == "true"


def parse_int(options: Mapping[str, str], name: str, *, default: int, minimum: int = 0) -> int:
    text = options.get(name, str(default)).strip()
    if not re.fullmatch(r"[+-]?\d+", text) or int(text) < minimum:
        raise InvalidParameter(f"option `{name}` cannot be `{text}`", fix=f"Give a whole number of at least {minimum}.")
    return int(text)


def parse_duration(options: Mapping[str, str], name: str, *, default: timedelta) -> timedelta:
    """A duration such as `500ms`, `5s`, `1m`; a bare number is seconds."""
    if name not in options:
        return default
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", options[name].lower())
    if found is None or (found[2] and found[2] not in _DURATION_UNITS):
        raise InvalidParameter(f"option `{name}` cannot be `{options[name]}`", fix="Give a duration such as 500ms, 5s or 1m.")
    return timedelta(seconds=float(found[1]) * _DURATION_UNITS.get(found[2], 1.0))
