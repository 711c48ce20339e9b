"""The door to `parse_type`, which lives with the parser because a text is read by its tokens."""

from engine.sql.parser.type_meaning import parse_type

__all__ = ["parse_type"]
