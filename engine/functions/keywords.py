"""The key words that `pg_get_keywords()` lists. Source: RisingWave documentation, "System information functions"."""

from __future__ import annotations

from engine.sql.parser.keywords import RESERVED

KEYWORDS = tuple((word.upper(), "R", "Reserved") for word in sorted(RESERVED))
