"""The binder: from sqlglot's tree to the relational algebra, names and types resolved against the catalog."""

from engine.sql.binder.query import BoundQuery, bind_query

__all__ = ["BoundQuery", "bind_query"]
