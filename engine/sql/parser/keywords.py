"""Which words cannot be names, and where.

Source: PostgreSQL documentation, appendix C ("reserved" and "reserved (can be function or type)"), less the words that
RisingWave leaves free for names; and RisingWave's documentation on identifiers.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESERVED: Final = _words(
    """all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column
    concurrently constraint create cross default deferrable desc distinct do else end except false fetch for foreign freeze from
    full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit natural not
    notnull null offset on only or order outer overlaps placing primary references returning right similar some symmetric table
    tablesample then to trailing true union unique using variadic verbose when where window"""
)
"""Not a table or column name unless quoted."""

NOT_A_COLUMN: Final = RESERVED | {"select", "with"}
"""Cannot start a column reference."""

RESERVED_FUNCTIONS: Final = _words("left right")
"""Reserved words that are function names when a parenthesis follows."""

NOT_A_BARE_LABEL: Final = _words(
    """with explain analyze select where group sort having order top lateral view limit offset fetch union except intersect cluster
    from into as for and or returning on using when then else end window emit"""
)
"""Needs AS to be a column label."""

NOT_A_TABLE_ALIAS: Final = RESERVED | _words("with explain select sort top view cluster set emit")
"""Needs AS, or quotes, to be a table's alias."""

NO_PARENTHESES: Final = _words(
    """current_catalog current_date current_role current_schema current_time current_timestamp current_user localtime localtimestamp
    session_user user"""
)
"""Functions that are called without parentheses."""

INTERVAL_FIELDS: Final = ("year", "month", "day", "hour", "minute", "second")
"""The units that may follow an interval's text."""
